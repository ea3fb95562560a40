"""The statements that read a page of a user's sessions."""

from typing import LiteralString, NamedTuple

from mai_sessions.content.lexemes import fold_title, substring_query
from mai_sessions.pagination import SessionPosition, session_cursor
from mai_sessions.postgres.adapters import Json
from mai_sessions.postgres.connection import Connection, fetch_one
from mai_sessions.repository.columns import SESSION_ROW, SUMMARY_COLUMNS


class SessionPage(NamedTuple):
    """A page of sessions: its JSON, and a tag that changes with it."""

    body: bytes
    tag: str


# Before every session in the order of the list.
START = SessionPosition()

# If there is a next page: the keys of the session before it, as `session_cursor` takes them.
_LAST_KEYS: LiteralString = """
           CASE WHEN count(*) > %(limit)s
                THEN (extract(epoch FROM (array_agg(s.updated_at))[%(limit)s]) * 1000000)::bigint || '.'
                     || (array_agg(s.id))[%(limit)s] END"""


# `page` is a query for the sessions of the page and the one after it, if there is one; `found` is the CTEs
# that it reads; `is_common` tells whether the page has to be read by SEARCH_COMMON_TITLES. A session's
# version stands for all of it. The reply is put together in Python: a Citus cluster plans the statement twice
# for each request, so each level of it counts.
def _list_sessions(
    page: LiteralString, total: LiteralString, found: LiteralString = "", is_common: LiteralString = "false"
) -> LiteralString:
    return f"""{found}
    SELECT /* list_sessions */ coalesce(({total}), 0), array_to_json((array_agg(r))[:%(limit)s]),
           md5(string_agg(uuid_send(s.version), '')), {_LAST_KEYS}, {is_common}
      FROM ({page}) AS s
     CROSS JOIN LATERAL (SELECT {SUMMARY_COLUMNS}) AS r"""


# psycopg sends an integer in the smallest type that holds it, and PostgreSQL adds in the larger of two.
_PAGE_END: LiteralString = "%(limit)s + %(offset)s::bigint + 1"


def _sessions_in_range(
    archived: LiteralString,
    limit: LiteralString,
    columns: LiteralString = SESSION_ROW,
    condition: LiteralString = "true",
) -> LiteralString:
    """Make the query of the first sessions after the cursor in one range of the list."""
    return f"""
           SELECT {columns}
             FROM sessions AS s
            WHERE s.user_id = %(user_id)s AND s.archived = {archived}
              AND (s.updated_at, s.id) < (%(after_updated_at)s, %(after_id)s) AND {condition}
            ORDER BY s.updated_at DESC, s.id DESC
            LIMIT {limit}"""


# The sessions of a page and one more, which tells whether there is a next page.
_SESSIONS: LiteralString = _sessions_in_range("%(archived)s", "%(limit)s + 1 OFFSET %(offset)s")
_SESSION_COUNT: LiteralString = """
           SELECT CASE WHEN %(archived)s THEN u.archived_count ELSE u.session_count - u.archived_count END
             FROM users AS u
            WHERE u.user_id = %(user_id)s"""
# The sessions of each range that may be on the page.
_ALL_SESSIONS: LiteralString = f"""
           SELECT {SESSION_ROW}
             FROM (({_sessions_in_range("false", _PAGE_END)})
                    UNION ALL
                   ({_sessions_in_range("true", _PAGE_END)})) AS s
            ORDER BY s.updated_at DESC, s.id DESC
            LIMIT %(limit)s + 1 OFFSET %(offset)s"""
_ALL_SESSIONS_COUNT: LiteralString = """
           SELECT u.session_count FROM users AS u WHERE u.user_id = %(user_id)s"""
_FOUND_SESSIONS: LiteralString = f"""
           SELECT {SESSION_ROW}
             FROM (SELECT f.id
                     FROM found AS f
                    WHERE (f.updated_at, f.id) < (%(after_updated_at)s, %(after_id)s)
                    ORDER BY f.updated_at DESC, f.id DESC
                    LIMIT %(limit)s + 1 OFFSET %(offset)s) AS f
             JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = f.id
            ORDER BY s.updated_at DESC, s.id DESC"""
_FOUND_COUNT: LiteralString = """
           SELECT count(*) FROM found"""
_HAS_SUBSTRING: LiteralString = "strpos(t.title, %(substring)s) > 0"
_HAS_NGRAMS: LiteralString = f"t.words @@ %(ngrams)s::tsquery AND {_HAS_SUBSTRING}"
_HAS_METADATA: LiteralString = "t.metadata <> '{}' AND t.metadata @> %(metadata)s::jsonb"


# Few sessions are looked up by id; the ids of many are hashed. The planner cannot know which is better,
# because it plans for any user and filter. LIMIT and IS TRUE keep it from replacing one way by the other.
def _filtered_sessions(condition: LiteralString) -> LiteralString:
    return f"""
      titles AS MATERIALIZED (
           SELECT t.session_id
             FROM session_titles AS t
            WHERE t.user_id = %(user_id)s AND {condition}),
      size AS MATERIALIZED (
           SELECT count(*) > 1000 AS is_large FROM titles),
      found AS MATERIALIZED (
           SELECT s.updated_at, s.id
             FROM titles AS t
            CROSS JOIN LATERAL (
                  SELECT s.updated_at, s.id
                    FROM sessions AS s
                   WHERE s.user_id = %(user_id)s AND s.id = t.session_id AND s.archived = ANY (%(states)s)
                   LIMIT 1) AS s
            WHERE NOT (SELECT is_large FROM size)
            UNION ALL
           SELECT s.updated_at, s.id
             FROM sessions AS s
            WHERE (SELECT is_large FROM size)
              AND s.user_id = %(user_id)s AND s.archived = ANY (%(states)s)
              AND (s.id IN (SELECT t.session_id FROM titles AS t)) IS TRUE)"""


# A substring is common if many titles of a user with many sessions have it: twelve titles are read at each of
# four times. Sessions that are created together are often named alike, so one of the four is not enough.
_SAMPLE: LiteralString = f"""
      sample AS MATERIALIZED (
           SELECT count(*) FILTER (WHERE r.has_substring) >= 2 AS is_common
             FROM (SELECT min(t.created_at) AS first_at, max(t.created_at) AS last_at
                     FROM session_titles AS t
                    WHERE t.user_id = %(user_id)s
                      AND (SELECT session_count > 1000 FROM users WHERE user_id = %(user_id)s)) AS range
            CROSS JOIN generate_series(0, 3) AS n
            CROSS JOIN LATERAL (
                  SELECT bool_or({_HAS_SUBSTRING}) AS has_substring
                    FROM (SELECT t.title
                            FROM session_titles AS t
                           WHERE t.user_id = %(user_id)s
                             AND t.created_at >= range.first_at + n * (range.last_at - range.first_at) / 4
                           ORDER BY t.created_at, t.session_id
                           LIMIT 12) AS t) AS r)"""
_IS_COMMON: LiteralString = """
           SELECT is_common FROM sample"""


def _next_sessions(archived: LiteralString, limit: LiteralString, condition: LiteralString) -> LiteralString:
    """Make the query of the ids of these sessions, and of their times, if the list has the range."""
    lists_range: LiteralString = f"(SELECT lists_{archived} FROM counts)"
    return _sessions_in_range(archived, limit, "s.updated_at, s.id", f"{lists_range} AND {condition}")


_CANDIDATES: LiteralString = f"4 * ({_PAGE_END})"
_HAS_TITLE: LiteralString = "(s.id IN (SELECT t.session_id FROM titles AS t)) IS TRUE"
# A page of a common substring is filled from the next sessions of the list. If too few of their titles have
# it, the ids of all titles that have it are hashed, and the list is read until the page is full.
_SESSIONS_OF_COMMON_TITLES: LiteralString = f"""
      WITH counts AS MATERIALIZED (
           SELECT false = ANY (%(states)s) AS lists_false, true = ANY (%(states)s) AS lists_true,
                  CASE WHEN cardinality(%(states)s::boolean[]) = 2 THEN 0
                       WHEN %(archived)s THEN u.session_count - u.archived_count
                       ELSE u.archived_count END AS unlisted
             FROM users AS u
            WHERE u.user_id = %(user_id)s),
      candidates AS MATERIALIZED (
           ({_next_sessions("false", _CANDIDATES, "true")})
            UNION ALL
           ({_next_sessions("true", _CANDIDATES, "true")})
            ORDER BY updated_at DESC, id DESC
            LIMIT {_CANDIDATES}),
      matches AS MATERIALIZED (
           SELECT s.updated_at, s.id
             FROM candidates AS s
            CROSS JOIN LATERAL (
                  SELECT FROM session_titles AS t
                   WHERE t.user_id = %(user_id)s AND t.session_id = s.id AND {_HAS_SUBSTRING}
                  OFFSET 0) AS t
            WHERE (SELECT unlisted <= 1000 FROM counts)
            ORDER BY s.updated_at DESC, s.id DESC
            LIMIT {_PAGE_END}),
      page AS MATERIALIZED (
           SELECT count(*) = {_PAGE_END} AS is_full FROM matches),
      titles AS MATERIALIZED (
           SELECT t.session_id
             FROM session_titles AS t
            WHERE NOT (SELECT is_full FROM page) AND t.user_id = %(user_id)s AND {_HAS_SUBSTRING}),
      found AS MATERIALIZED (
           SELECT updated_at, id FROM matches WHERE (SELECT is_full FROM page)
            UNION ALL
           ({_next_sessions("false", _PAGE_END, f"NOT (SELECT is_full FROM page) AND {_HAS_TITLE}")})
            UNION ALL
           ({_next_sessions("true", _PAGE_END, f"NOT (SELECT is_full FROM page) AND {_HAS_TITLE}")}))"""
# Every session has a title. So if the page is full, or if the list leaves no session out, the titles are
# counted, without those of the few sessions that the list leaves out.
_COMMON_TITLE_COUNT: LiteralString = f"""
           SELECT CASE WHEN p.is_full THEN (
                            SELECT count(*)
                              FROM session_titles AS t
                             WHERE t.user_id = %(user_id)s AND {_HAS_SUBSTRING}) - (
                            SELECT count(*)
                              FROM sessions AS s
                             CROSS JOIN LATERAL (
                                   SELECT FROM session_titles AS t
                                    WHERE t.user_id = %(user_id)s AND t.session_id = s.id AND {_HAS_SUBSTRING}
                                   OFFSET 0) AS t
                             WHERE s.user_id = %(user_id)s AND s.archived = NOT %(archived)s
                               AND (SELECT unlisted > 0 FROM counts))
                       WHEN (SELECT unlisted = 0 FROM counts) THEN (SELECT count(*) FROM titles)
                       ELSE (SELECT count(*)
                               FROM sessions AS s
                              WHERE s.user_id = %(user_id)s AND s.archived = ANY (%(states)s)
                                AND {_HAS_TITLE}) END
             FROM page AS p"""


def _search_sessions(condition: LiteralString) -> LiteralString:
    found: LiteralString = f"""
      WITH {_filtered_sessions(condition)}"""
    return _list_sessions(_FOUND_SESSIONS, _FOUND_COUNT, found)


_FOUND_BY_NGRAMS: LiteralString = f"""
      WITH {_SAMPLE}, {_filtered_sessions(f"NOT ({_IS_COMMON}) AND {_HAS_NGRAMS}")}"""
LIST_SESSIONS: LiteralString = _list_sessions(_SESSIONS, _SESSION_COUNT)
LIST_ALL_SESSIONS: LiteralString = _list_sessions(_ALL_SESSIONS, _ALL_SESSIONS_COUNT)
SEARCH_SESSIONS: LiteralString = _list_sessions(
    _FOUND_SESSIONS, _FOUND_COUNT, _FOUND_BY_NGRAMS, f"({_IS_COMMON})"
)
SEARCH_COMMON_TITLES: LiteralString = _list_sessions(
    _FOUND_SESSIONS, _COMMON_TITLE_COUNT, _SESSIONS_OF_COMMON_TITLES
)
FILTER_SESSIONS: LiteralString = _search_sessions(_HAS_METADATA)
SEARCH_AND_FILTER_SESSIONS: LiteralString = _search_sessions(f"{_HAS_NGRAMS} AND {_HAS_METADATA}")

# No user has as many sessions, and the sums in the statements stay in the range of a bigint.
_MAX_OFFSET = 2**60
_STATES = {"false": [False], "true": [True], "any": [False, True]}


def list_sessions(
    conn: Connection,
    user_id: str,
    *,
    search: str,
    limit: int,
    offset: int,
    after: SessionPosition = START,
    archived: str = "false",
    metadata: bytes | None = None,
) -> SessionPage:
    """Read a page of sessions, last written first.

    `search` is a substring of the title, in any case, or blank for all; `after` the `updated_at` and id of
    the session before the page; `archived` one of `false`, `true` and `any`; `metadata` a JSON object with at
    least one member, which the metadata of the session must contain.
    """
    # A query that is being typed often ends with a blank.
    substring = fold_title(search).rstrip()
    params = {
        "user_id": user_id,
        "limit": limit,
        "offset": min(offset, _MAX_OFFSET),
        "after_updated_at": after.updated_at,
        "after_id": after.id,
        "archived": archived == "true",
        "states": _STATES[archived],
        "substring": substring,
        "ngrams": substring_query(user_id, substring) if substring else "",
        "metadata": Json(metadata or b"{}"),
    }
    if substring:
        statement = SEARCH_AND_FILTER_SESSIONS if metadata else SEARCH_SESSIONS
    elif metadata:
        statement = FILTER_SESSIONS
    else:
        statement = LIST_ALL_SESSIONS if archived == "any" else LIST_SESSIONS
    row = fetch_one(conn, statement, params)
    if row is not None and row[-1]:
        row = fetch_one(conn, SEARCH_COMMON_TITLES, params)
    assert row is not None
    total, sessions, versions, last_keys, _ = row
    body = b'{"sessions":%b,"total":%d,"limit":%d,"offset":%d,"next_cursor":%b}' % (
        sessions or b"[]",
        total,
        limit,
        offset,
        f'"{session_cursor(last_keys)}"'.encode() if last_keys else b"null",
    )
    return SessionPage(body, f"{total}-{versions or 0}")
