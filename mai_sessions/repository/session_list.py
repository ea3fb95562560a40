"""The statements that read a page of a user's sessions."""

from datetime import UTC, datetime
from hashlib import md5
from typing import LiteralString, NamedTuple
from uuid import UUID

from mai_sessions.content.lexemes import fold_title, substring_query
from mai_sessions.pagination import SessionPosition, session_cursor
from mai_sessions.postgres.connection import Connection, Json, fetch_one
from mai_sessions.repository.columns import SESSION_ROW, SUMMARY_COLUMNS


class SessionPage(NamedTuple):
    """A page of sessions: the JSON of the reply, and a tag that differs whenever it does."""

    body: bytes
    tag: str


# Before every session in the order of the list.
START = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


# `page` is a query for the sessions of the page and the one after it, if there is one; `found` is a CTE that
# it reads. A session's version stands for all of it. The reply is put together in Python: a Citus cluster
# plans the statement twice for each request, so each level of it counts.
def _list_sessions(page: LiteralString, total: LiteralString, found: LiteralString = "") -> LiteralString:
    return f"""{found}
    SELECT /* list_sessions */ coalesce(({total}), 0), array_to_json((array_agg(r))[:%(limit)s]),
           md5(string_agg(uuid_send(s.version), '')), count(*) > %(limit)s,
           (array_agg(s.updated_at))[%(limit)s], (array_agg(s.id))[%(limit)s]
      FROM ({page}) AS s
     CROSS JOIN LATERAL (SELECT {SUMMARY_COLUMNS}) AS r"""


# The sessions of a page and one more, which tells whether there is a next page.
_SESSIONS: LiteralString = f"""
           SELECT {SESSION_ROW}
             FROM sessions AS s
            WHERE s.user_id = %(user_id)s AND s.archived = %(archived)s
              AND (s.updated_at, s.id) < (%(after_updated_at)s, %(after_id)s)
            ORDER BY s.updated_at DESC, s.id DESC
            LIMIT %(limit)s + 1 OFFSET %(offset)s"""
_SESSION_COUNT: LiteralString = """
           SELECT CASE WHEN %(archived)s THEN u.archived_count ELSE u.session_count - u.archived_count END
             FROM users AS u
            WHERE u.user_id = %(user_id)s"""
# What the page may show of each of two ranges of one index.
_ALL_SESSIONS: LiteralString = f"""
           SELECT {SESSION_ROW}
             FROM ((SELECT {SESSION_ROW}
                      FROM sessions AS s
                     WHERE s.user_id = %(user_id)s AND s.archived = false
                       AND (s.updated_at, s.id) < (%(after_updated_at)s, %(after_id)s)
                     ORDER BY s.updated_at DESC, s.id DESC
                     LIMIT %(limit)s + %(offset)s + 1)
                    UNION ALL
                   (SELECT {SESSION_ROW}
                      FROM sessions AS s
                     WHERE s.user_id = %(user_id)s AND s.archived = true
                       AND (s.updated_at, s.id) < (%(after_updated_at)s, %(after_id)s)
                     ORDER BY s.updated_at DESC, s.id DESC
                     LIMIT %(limit)s + %(offset)s + 1)) AS s
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
_HAS_SUBSTRING: LiteralString = "t.words @@ %(ngrams)s::tsquery AND strpos(t.title, %(substring)s) > 0"
_HAS_METADATA: LiteralString = "t.metadata <> '{}' AND t.metadata @> %(metadata)s::jsonb"


# Few sessions are looked up; of many the ids are hashed. The planner does not know how many there are: it
# plans for any user and any filter. LIMIT and IS TRUE keep it from planning the one way as the other.
def _filtered_sessions(condition: LiteralString) -> LiteralString:
    return f"""
        WITH titles AS MATERIALIZED (
            SELECT t.session_id
              FROM session_titles AS t
             WHERE t.user_id = %(user_id)s AND {condition}),
        size AS MATERIALIZED (
            SELECT count(*) > 1000 AS is_large FROM titles)
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
           AND (s.id IN (SELECT t.session_id FROM titles AS t)) IS TRUE"""


def _search_sessions(condition: LiteralString) -> LiteralString:
    found: LiteralString = f"""
      WITH found AS MATERIALIZED ({_filtered_sessions(condition)})"""
    return _list_sessions(_FOUND_SESSIONS, _FOUND_COUNT, found)


LIST_SESSIONS: LiteralString = _list_sessions(_SESSIONS, _SESSION_COUNT)
LIST_ALL_SESSIONS: LiteralString = _list_sessions(_ALL_SESSIONS, _ALL_SESSIONS_COUNT)
SEARCH_SESSIONS: LiteralString = _search_sessions(_HAS_SUBSTRING)
FILTER_SESSIONS: LiteralString = _search_sessions(_HAS_METADATA)
SEARCH_AND_FILTER_SESSIONS: LiteralString = _search_sessions(f"{_HAS_SUBSTRING} AND {_HAS_METADATA}")

_STATES = {"false": [False], "true": [True], "any": [False, True]}


def list_sessions(
    conn: Connection,
    user_id: str,
    *,
    search: str,
    limit: int,
    offset: int,
    after: tuple[datetime, UUID] = START,
    archived: str = "false",
    metadata: bytes | None = None,
) -> SessionPage:
    """Read a page of sessions, last written first.

    `search` is a substring of the title, in either case, or blank for all; `after` the `updated_at` and id of
    the session before the page; `archived` one of `false`, `true` and `any`; `metadata` a JSON object that
    the session's must contain, with a member at least.
    """
    # A query that is being typed often ends with a blank.
    substring = fold_title(search).rstrip()
    params = {
        "user_id": user_id,
        "limit": limit,
        "offset": offset,
        "after_updated_at": after[0],
        "after_id": after[1],
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
    assert row is not None
    total, sessions, versions, is_followed, last_updated_at, last_id = row
    cursor = session_cursor(SessionPosition(last_updated_at, last_id)) if is_followed else None
    body = b'{"sessions":%b,"total":%d,"limit":%d,"offset":%d,"next_cursor":%b}' % (
        sessions or b"[]",
        total,
        limit,
        offset,
        f'"{cursor}"'.encode() if cursor else b"null",
    )
    tag = md5(f"{versions} {total} {cursor}".encode(), usedforsecurity=False)
    return SessionPage(body, tag.hexdigest())
