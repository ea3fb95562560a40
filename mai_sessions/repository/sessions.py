"""The statements on sessions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import LiteralString, NamedTuple
from uuid import UUID

from mai_sessions.content.lexemes import part_query, title_vector
from mai_sessions.errors import Conflict, NotFound, Stale
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, fetch_one
from mai_sessions.repository.messages import MESSAGE_COLUMNS


class SessionReply(NamedTuple):
    """A session: its id, its version unless this is the first reply again, the JSON of the reply, and whether
    it was made now.
    """

    id: UUID
    version: UUID | None
    body: bytes
    is_new: bool = False


class SessionPage(NamedTuple):
    """A page of sessions: the JSON of the reply, and a tag that differs whenever it does."""

    body: bytes
    tag: str


# Before every session in the order of the list.
START = (datetime.max.replace(tzinfo=UTC), UUID(int=2**128 - 1))

SUMMARY_COLUMNS: LiteralString = """
s.id, s.title, s.agent_name, s.model_id, s.created_at, s.updated_at, s.message_count, s.last_message_preview"""

# One pass over the page's sessions makes all of it; to read them from a CTE for each part takes a fifth more
# of PostgreSQL's time. A page that is not full has no last session, and then nothing is looked for after it.
# A cursor is the keys of the last session and a checksum, by which a damaged one is told. The tag is made of
# what the page is made of: a session's version stands for all of it.
_PAGE_OF_SESSIONS: LiteralString = (
    """,
    page AS (
        SELECT json_agg(r) AS sessions, string_agg(uuid_send(s.version), '') AS versions,
               (array_agg(s.updated_at))[%(limit)s] AS last_updated_at, (array_agg(s.id))[%(limit)s] AS
               last_id
          FROM (SELECT"""
    + SUMMARY_COLUMNS
    + """, s.version
                  FROM found AS s
                 WHERE (s.updated_at, s.id) < (%(after_updated_at)s, %(after_id)s)
                 ORDER BY s.updated_at DESC, s.id DESC
                 LIMIT %(limit)s OFFSET %(offset)s) AS s
         CROSS JOIN LATERAL (SELECT"""
    + SUMMARY_COLUMNS
    + """) AS r),
    last AS (
        SELECT (extract(epoch FROM p.last_updated_at) * 1000000)::bigint || '.' || p.last_id AS keys
          FROM page AS p
         WHERE EXISTS (SELECT FROM found AS s WHERE (s.updated_at, s.id) < (p.last_updated_at, p.last_id)))
    SELECT json_build_object(
               'sessions', coalesce(p.sessions, '[]'),
               'total', coalesce((SELECT total FROM matching), 0),
               'limit', %(limit)s,
               'offset', %(offset)s,
               'next_cursor', (SELECT keys || '.' || left(md5(keys), 8) FROM last)),
           md5(concat(p.versions, (SELECT total FROM matching), (SELECT keys FROM last)))
      FROM page AS p"""
)

LIST_SESSIONS: LiteralString = (
    "WITH /* sessions */ found AS NOT MATERIALIZED (SELECT"
    + SUMMARY_COLUMNS
    + """, s.version
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s),
    matching AS (
        SELECT u.session_count AS total FROM users AS u WHERE u.user_id = %(user_id)s)"""
    + _PAGE_OF_SESSIONS
)
SEARCH_SESSIONS: LiteralString = (
    "WITH /* sessions, by title */ found AS (SELECT"
    + SUMMARY_COLUMNS
    + """, s.version
      FROM session_titles AS t
      JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = t.session_id
     WHERE t.user_id = %(user_id)s AND t.words @@ %(pieces)s::tsquery AND strpos(t.title, %(part)s) > 0),
    matching AS (
        SELECT count(*) AS total FROM found)"""
    + _PAGE_OF_SESSIONS
)


def sessions(
    conn: Connection,
    user_id: str,
    *,
    search: str,
    limit: int,
    offset: int,
    after: tuple[datetime, UUID] = START,
) -> SessionPage:
    """Read a page of sessions, last written first.

    `search` is a substring of the title, in either case, or blank for all; `after` the `updated_at` and id of
    the session before the page."""
    params = {
        "user_id": user_id,
        "limit": limit,
        "offset": offset,
        "after_updated_at": after[0],
        "after_id": after[1],
    }
    statement = LIST_SESSIONS
    if search.strip():
        statement = SEARCH_SESSIONS
        params |= {"part": search.casefold(), "pieces": part_query(user_id, search)}
    row = fetch_one(conn, statement, params)
    assert row is not None
    return SessionPage(*row)


# The newest messages are those above the seq of the one after them: in this form the primary key gives them
# in order. For a caller who knows the version already, the messages stay unread.
_DETAIL: LiteralString = (
    """
    SELECT s.id, s.version, (SELECT row_to_json(d) FROM (
        SELECT"""
    + SUMMARY_COLUMNS
    + """, (
            SELECT coalesce(json_agg(r), '[]') FROM (
                SELECT"""
    + MESSAGE_COLUMNS
    + """
                  FROM messages AS m
                 WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                   AND m.seq > CASE WHEN %(messages_limit)s::int IS NULL THEN 0 ELSE coalesce((
                           SELECT o.seq FROM messages AS o
                            WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s
                            ORDER BY o.seq DESC
                           OFFSET %(messages_limit)s::int LIMIT 1), 0) END
                   AND s.version <> ALL (%(known_versions)s::uuid[])
                 ORDER BY m.seq) AS r) AS messages) AS d)"""
)

GET_SESSION: LiteralString = (
    "/* session */"
    + _DETAIL
    + """
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
)


def session(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    messages_limit: int | None = None,
    known_versions: Sequence[UUID] = (),
) -> SessionReply:
    """Read a session with its newest messages, all of them by default. Raises NotFound."""
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "messages_limit": messages_limit,
        "known_versions": list(known_versions),
    }
    row = fetch_one(conn, GET_SESSION, params)
    if row is None:
        raise NotFound("Session not found")
    return SessionReply(*row)


# The session before the user's count, as where one is deleted: otherwise the two would deadlock over an id
# that comes again.
CREATE_SESSION: LiteralString = (
    """
    WITH /* create_session */ s AS (
        INSERT INTO sessions (user_id, id, title, agent_name, model_id, version) VALUES (%(user_id)s,
        %(session_id)s, %(title)s, %(agent_name)s, %(model_id)s, %(version)s) RETURNING user_id, id, title,
        agent_name, model_id, created_at, updated_at, message_count, last_message_preview),
    counted AS (
        INSERT INTO users (user_id, session_count) SELECT s.user_id, 1 FROM s
            ON CONFLICT (user_id) DO UPDATE SET session_count = users.session_count + 1),
    t AS (
        INSERT INTO session_titles (user_id, session_id, created_at, title, words)
        SELECT s.user_id, s.id, s.created_at, %(folded_title)s, %(words)s::tsvector FROM s),
    k AS (
        INSERT INTO idempotency_keys (user_id, path, key, fingerprint, id, created_at) SELECT s.user_id,
        %(path)s, %(key)s, %(fingerprint)s, s.id, s.created_at FROM s WHERE %(key)s::text IS NOT NULL)
    SELECT row_to_json(d) FROM (SELECT"""
    + SUMMARY_COLUMNS
    + """, '[]'::json AS messages FROM s) AS d"""
)
REPLAY_SESSION: LiteralString = (
    """
    SELECT /* create_session, replayed */ k.fingerprint = %(fingerprint)s, k.id, (
        SELECT row_to_json(d) FROM (SELECT"""
    + SUMMARY_COLUMNS
    + """, '[]'::json AS messages
          FROM (SELECT k.id, %(title)s AS title, %(agent_name)s AS agent_name, %(model_id)s AS model_id, k.created_at,
                       k.created_at AS updated_at, 0 AS message_count, NULL AS last_message_preview) AS s) AS d)
      FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s"""
)


def create_session(
    conn: Connection,
    user_id: str,
    *,
    session_id: UUID,
    title: str,
    agent_name: str,
    model_id: str | None,
    key: IdempotencyKey | None = None,
) -> SessionReply:
    """Make a session, or answer as the first time when the key was used.

    A session of the user's that has this id already is answered as it stands. Raises Invalid.
    """
    version = new_id()
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "title": title,
        "folded_title": title.casefold(),
        "words": title_vector(user_id, session_id, title),
        "agent_name": agent_name,
        "model_id": model_id,
        "version": version,
        **(key or NO_KEY)._asdict(),
    }
    try:
        row = fetch_one(conn, CREATE_SESSION, params)
    except Conflict:
        replay = fetch_one(conn, REPLAY_SESSION, params) if key else None
        if replay is None:
            return session(conn, user_id, session_id)
        same_body, session_id, body = replay
        check_same_body(same_body)
        return SessionReply(session_id, None, body, is_new=True)
    assert row is not None
    return SessionReply(session_id, version, row[0], is_new=True)


PATCH_SESSION: LiteralString = (
    """
    WITH /* patch_session */ s AS (
        UPDATE sessions
           SET title      = coalesce(%(title)s, title),
               agent_name = coalesce(%(agent_name)s, agent_name),
               model_id   = CASE WHEN %(clear_model_id)s THEN NULL ELSE coalesce(%(model_id)s, model_id) END,
               updated_at = GREATEST(updated_at, now()),
               version    = %(version)s
         WHERE user_id = %(user_id)s AND id = %(session_id)s
           AND (%(if_match)s::uuid[] IS NULL OR version = ANY (%(if_match)s::uuid[]))
        RETURNING id, title, agent_name, model_id, created_at, updated_at, message_count,
        last_message_preview, version),
    t AS (
        UPDATE session_titles SET title = %(folded_title)s, words = %(words)s::tsvector FROM s
         WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND %(folded_title)s::text IS NOT
         NULL)"""
    + _DETAIL
    + " FROM s"
)


def patch_session(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    title: str | None = None,
    agent_name: str | None = None,
    model_id: str | None = None,
    clear_model_id: bool = False,
    messages_limit: int | None = None,
    if_match: Sequence[UUID] | None = None,
) -> SessionReply:
    """Change what is given of a session. Raises NotFound, and Stale unless its version is one of `if_match`."""
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "title": title,
        "folded_title": None if title is None else title.casefold(),
        "words": None if title is None else title_vector(user_id, session_id, title),
        "agent_name": agent_name,
        "model_id": model_id,
        "clear_model_id": clear_model_id,
        "messages_limit": messages_limit,
        "known_versions": [],
        "version": new_id(),
        "if_match": if_match,
    }
    row = fetch_one(conn, PATCH_SESSION, params)
    if row is None:
        session(conn, user_id, session_id, messages_limit=0)
        raise Stale("The session has been changed since")
    return SessionReply(*row)
