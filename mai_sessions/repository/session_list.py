"""The statements that read a page of a user's sessions."""

from datetime import UTC, datetime
from typing import LiteralString, NamedTuple
from uuid import UUID

from mai_sessions.content.lexemes import fold_title, part_query
from mai_sessions.postgres.connection import Connection, Json, fetch_one
from mai_sessions.repository.columns import SESSION_ROW, SUMMARY_COLUMNS


class SessionPage(NamedTuple):
    """A page of sessions: the JSON of the reply, and a tag that differs whenever it does."""

    body: bytes
    tag: str


# Before every session in the order of the list.
START = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))


# One pass over the page's sessions makes all of it. A page that is not full has no last session, and then
# nothing is looked for after it. A cursor is the keys of the last session and a checksum, by which a damaged
# one is told. The tag is made of what the page is made of: a session's version stands for all of it. What a
# search finds is kept, as ids; a range of an index is read as far as each part of the statement needs it.
def _list_sessions(
    found: LiteralString, page: LiteralString, total: LiteralString, *, kept: LiteralString
) -> LiteralString:
    return f"""
    WITH /* list_sessions */ found AS {kept} ({found}),
    page AS (
        SELECT array_to_json(array_agg(r)) AS sessions, string_agg(uuid_send(s.version), '') AS versions,
               (array_agg(s.updated_at))[%(limit)s] AS last_updated_at,
               (array_agg(s.id))[%(limit)s] AS last_id
          FROM ({page}) AS s
         CROSS JOIN LATERAL (SELECT {SUMMARY_COLUMNS}) AS r),
    last AS (
        SELECT (extract(epoch FROM p.last_updated_at) * 1000000)::bigint || '.' || p.last_id AS keys
          FROM page AS p
         WHERE EXISTS (SELECT FROM found AS s WHERE (s.updated_at, s.id) < (p.last_updated_at, p.last_id)))
    SELECT row_to_json(r), md5(concat(p.versions, r.total, r.next_cursor))
      FROM page AS p
     CROSS JOIN LATERAL (
           SELECT coalesce(p.sessions, '[]') AS sessions, coalesce(({total}), 0) AS total, %(limit)s AS limit,
                  %(offset)s AS offset,
                  (SELECT keys || '.' || left(md5(keys), 8) FROM last) AS next_cursor) AS r"""


_FOUND_SESSIONS: LiteralString = f"""
                SELECT {SESSION_ROW}
                  FROM found AS s
                 WHERE (s.updated_at, s.id) < (%(after_updated_at)s, %(after_id)s)
                 ORDER BY s.updated_at DESC, s.id DESC
                 LIMIT %(limit)s OFFSET %(offset)s"""
_SESSIONS_OF_FOUND_IDS: LiteralString = f"""
                SELECT {SESSION_ROW}
                  FROM (SELECT f.id
                          FROM found AS f
                         WHERE (f.updated_at, f.id) < (%(after_updated_at)s, %(after_id)s)
                         ORDER BY f.updated_at DESC, f.id DESC
                         LIMIT %(limit)s OFFSET %(offset)s) AS f
                  JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = f.id
                 ORDER BY s.updated_at DESC, s.id DESC"""
_SESSIONS: LiteralString = f"""
        SELECT {SESSION_ROW}
          FROM sessions AS s
         WHERE s.user_id = %(user_id)s AND s.archived = %(archived)s"""
_SESSION_COUNT: LiteralString = """
        SELECT CASE WHEN %(archived)s THEN u.archived_count ELSE u.session_count - u.archived_count END
          FROM users AS u
         WHERE u.user_id = %(user_id)s"""
# What the page may show of each of two ranges of one index, and one session after it.
_ALL_SESSIONS: LiteralString = f"""
        (SELECT {SESSION_ROW}
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
          LIMIT %(limit)s + %(offset)s + 1)"""
_ALL_SESSIONS_COUNT: LiteralString = """
        SELECT u.session_count FROM users AS u WHERE u.user_id = %(user_id)s"""
_FOUND_COUNT: LiteralString = """
        SELECT count(*) FROM found"""
_HAS_PART: LiteralString = "t.words @@ %(pieces)s::tsquery AND strpos(t.title, %(part)s) > 0"
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


LIST_SESSIONS: LiteralString = _list_sessions(
    _SESSIONS, _FOUND_SESSIONS, _SESSION_COUNT, kept="NOT MATERIALIZED"
)
LIST_ALL_SESSIONS: LiteralString = _list_sessions(
    _ALL_SESSIONS, _FOUND_SESSIONS, _ALL_SESSIONS_COUNT, kept="MATERIALIZED"
)
SEARCH_SESSIONS: LiteralString = _list_sessions(
    _filtered_sessions(_HAS_PART), _SESSIONS_OF_FOUND_IDS, _FOUND_COUNT, kept="MATERIALIZED"
)
FILTER_SESSIONS: LiteralString = _list_sessions(
    _filtered_sessions(_HAS_METADATA), _SESSIONS_OF_FOUND_IDS, _FOUND_COUNT, kept="MATERIALIZED"
)
SEARCH_AND_FILTER_SESSIONS: LiteralString = _list_sessions(
    _filtered_sessions(f"{_HAS_PART} AND {_HAS_METADATA}"),
    _SESSIONS_OF_FOUND_IDS,
    _FOUND_COUNT,
    kept="MATERIALIZED",
)

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
    part = fold_title(search).rstrip()
    params = {
        "user_id": user_id,
        "limit": limit,
        "offset": offset,
        "after_updated_at": after[0],
        "after_id": after[1],
        "archived": archived == "true",
        "states": _STATES[archived],
        "part": part,
        "pieces": part_query(user_id, part) if part else "",
        "metadata": Json(metadata or b"{}"),
    }
    if part:
        statement = SEARCH_AND_FILTER_SESSIONS if metadata else SEARCH_SESSIONS
    elif metadata:
        statement = FILTER_SESSIONS
    else:
        statement = LIST_ALL_SESSIONS if archived == "any" else LIST_SESSIONS
    row = fetch_one(conn, statement, params)
    assert row is not None
    return SessionPage(*row)
