"""The statements on sessions."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.lexemes import fold_title, part_query, title_vector
from mai_sessions.errors import NotFound, Stale
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, fetch_one, run_transaction
from mai_sessions.repository.attachments import SWEEP_ATTACHMENTS, release_attachments
from mai_sessions.repository.columns import (
    LOCK_SESSION,
    MESSAGE_COLUMNS,
    NEXT_UPDATED_AT,
    SUMMARY_COLUMNS,
    check_locked,
    time_as_json,
)


class SessionReply(NamedTuple):
    """A session: its id, its version unless this is the first reply again, the JSON of the reply, and whether it
    was made now.
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

_ALL_SESSIONS: LiteralString = f"""
        SELECT {SUMMARY_COLUMNS}, s.version
          FROM sessions AS s
         WHERE s.user_id = %(user_id)s"""
_SESSION_COUNT: LiteralString = """
        SELECT u.session_count FROM users AS u WHERE u.user_id = %(user_id)s"""
_SESSIONS_BY_TITLE: LiteralString = f"""
        SELECT {SUMMARY_COLUMNS}, s.version
          FROM session_titles AS t
          JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = t.session_id
         WHERE t.user_id = %(user_id)s AND t.words @@ %(pieces)s::tsquery AND strpos(t.title, %(part)s) > 0"""
_FOUND_COUNT: LiteralString = """
        SELECT count(*) FROM found"""


# One pass over the page's sessions makes all of it. A page that is not full has no last session, and then nothing
# is looked for after it. A cursor is the keys of the last session and a checksum, by which a damaged one is told.
# The tag is made of what the page is made of: a session's version stands for all of it.
def _list_sessions(found: LiteralString, total: LiteralString) -> LiteralString:
    return f"""
    WITH /* list_sessions */ found AS ({found}),
    page AS (
        SELECT array_to_json(array_agg(r)) AS sessions, string_agg(uuid_send(s.version), '') AS versions,
               (array_agg(s.updated_at))[%(limit)s] AS last_updated_at, (array_agg(s.id))[%(limit)s] AS last_id
          FROM (SELECT {SUMMARY_COLUMNS}, s.version
                  FROM found AS s
                 WHERE (s.updated_at, s.id) < (%(after_updated_at)s, %(after_id)s)
                 ORDER BY s.updated_at DESC, s.id DESC
                 LIMIT %(limit)s OFFSET %(offset)s) AS s
         CROSS JOIN LATERAL (SELECT {SUMMARY_COLUMNS}) AS r),
    last AS (
        SELECT (extract(epoch FROM p.last_updated_at) * 1000000)::bigint || '.' || p.last_id AS keys
          FROM page AS p
         WHERE EXISTS (SELECT FROM found AS s WHERE (s.updated_at, s.id) < (p.last_updated_at, p.last_id)))
    SELECT row_to_json(r), md5(concat(p.versions, r.total, r.next_cursor))
      FROM page AS p
     CROSS JOIN LATERAL (
           SELECT coalesce(p.sessions, '[]') AS sessions, coalesce(({total}), 0) AS total, %(limit)s AS limit,
                  %(offset)s AS offset, (SELECT keys || '.' || left(md5(keys), 8) FROM last) AS next_cursor) AS r"""


LIST_SESSIONS: LiteralString = _list_sessions(_ALL_SESSIONS, _SESSION_COUNT)
SEARCH_SESSIONS: LiteralString = _list_sessions(_SESSIONS_BY_TITLE, _FOUND_COUNT)


def list_sessions(
    conn: Connection,
    user_id: str,
    *,
    search: str,
    limit: int,
    offset: int,
    after: tuple[datetime, UUID] = START,
) -> SessionPage:
    """Read a page of sessions, last written first.

    `search` is a substring of the title, in either case, or blank for all; `after` the `updated_at` and id of the
    session before the page.
    """
    params = {
        "user_id": user_id,
        "limit": limit,
        "offset": offset,
        "after_updated_at": after[0],
        "after_id": after[1],
    }
    # What somebody is typing often ends with a blank.
    part = fold_title(search).rstrip()
    statement = LIST_SESSIONS
    if part:
        statement = SEARCH_SESSIONS
        params |= {"part": part, "pieces": part_query(user_id, part)}
    row = fetch_one(conn, statement, params)
    assert row is not None
    return SessionPage(*row)


# The newest messages are those above the seq of the one after them: in this form the primary key gives them in
# order. For a caller who knows the version already, the messages stay unread.
_NEWEST_MESSAGES: LiteralString = f"""
            SELECT {MESSAGE_COLUMNS}
              FROM messages AS m
             WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
               AND m.seq > CASE WHEN %(messages_limit)s::int IS NULL THEN 0 ELSE coalesce((
                       SELECT o.seq FROM messages AS o
                        WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s
                        ORDER BY o.seq DESC
                       OFFSET %(messages_limit)s::int LIMIT 1), 0) END
               AND s.version <> ALL (%(known_versions)s::uuid[])
             ORDER BY m.seq"""

GET_SESSION: LiteralString = f"""
    SELECT /* get_session */ s.id, s.version, (
           SELECT row_to_json(d) FROM (
               SELECT {SUMMARY_COLUMNS}, (
                      SELECT coalesce(array_to_json(array_agg(r)), '[]') FROM ({_NEWEST_MESSAGES}) AS r) AS messages) AS d)
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


def get_session(
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


# A key whose session is gone, or that is older than a day, is forgotten.
FORGET_KEY: LiteralString = """
    DELETE /* create_session */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND (k.created_at <= now() - interval '1 day'
            OR NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = %(user_id)s AND s.id = k.id))"""
# Retries queue here. The key stands before the session that is made for it, which is what the next statement asks.
KEEP_KEY: LiteralString = """
    INSERT /* create_session */ INTO idempotency_keys (user_id, path, key, fingerprint, id, created_at)
    VALUES (%(user_id)s, %(path)s, %(key)s, %(fingerprint)s, %(session_id)s, now())
        ON CONFLICT (user_id, path, key) DO NOTHING"""
GET_KEY: LiteralString = """
    SELECT /* create_session */ k.fingerprint = %(fingerprint)s, k.id, k.created_at
      FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s"""
# Where the id was there already, nothing was made for the key.
DROP_KEY: LiteralString = """
    DELETE /* create_session */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s AND k.created_at = now()
       AND NOT EXISTS (SELECT FROM sessions AS s
                        WHERE s.user_id = %(user_id)s AND s.id = k.id AND s.version = %(version)s)
    RETURNING k.id"""

# The session before the user's count, as where one is deleted: otherwise the two would deadlock over an id that
# comes again.
CREATE_SESSION: LiteralString = """
    INSERT /* create_session */ INTO sessions AS s (user_id, id, title, agent_name, model_id, version)
    VALUES (%(user_id)s, %(session_id)s, %(title)s, %(agent_name)s, %(model_id)s, %(version)s)
        ON CONFLICT (user_id, id) DO NOTHING
    RETURNING s.created_at"""
CREATE_SESSION_OF_KEY: LiteralString = """
    INSERT /* create_session */ INTO sessions AS s (user_id, id, title, agent_name, model_id, version)
    SELECT k.user_id, k.id, %(title)s, %(agent_name)s, %(model_id)s, %(version)s
      FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND k.id = %(session_id)s AND k.fingerprint = %(fingerprint)s
        ON CONFLICT (user_id, id) DO NOTHING
    RETURNING s.created_at"""
CREATE_TITLE: LiteralString = """
    INSERT /* create_session */ INTO session_titles (user_id, session_id, created_at, title, words)
    SELECT s.user_id, s.id, s.created_at, %(folded_title)s, %(words)s::tsvector
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
COUNT_SESSION: LiteralString = """
    INSERT /* create_session */ INTO users AS u (user_id, session_count)
    SELECT s.user_id, 1
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
        ON CONFLICT (user_id) DO UPDATE
       SET session_count = u.session_count + 1"""


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
    """Make a session, or give the first reply again when the key was used.

    A session of the user's that has this id already is returned as it stands. Raises Invalid for a key that was used
    with another body.
    """
    version, fields = new_id(), {"title": title, "agent_name": agent_name, "model_id": model_id}
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "version": version,
        "folded_title": fold_title(title),
        "words": title_vector(user_id, session_id, title),
        **fields,
        **(key or NO_KEY)._asdict(),
    }
    creation = [CREATE_SESSION_OF_KEY if key else CREATE_SESSION, CREATE_TITLE, COUNT_SESSION]
    statements = [FORGET_KEY, KEEP_KEY, *creation, GET_KEY, DROP_KEY] if key else creation
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    for (created_at,) in rows[creation[0]]:
        return SessionReply(session_id, version, _new_session(session_id, created_at, fields), is_new=True)
    if key is None or rows[DROP_KEY]:
        return get_session(conn, user_id, session_id)
    [(same_body, session_id, created_at)] = rows[GET_KEY]
    check_same_body(same_body)
    return SessionReply(session_id, None, _new_session(session_id, created_at, fields), is_new=True)


def _new_session(session_id: UUID, created_at: datetime, fields: dict[str, str | None]) -> bytes:
    """The JSON of a session that was made now, byte for byte as GET_SESSION gives it."""
    moment = time_as_json(created_at)
    return orjson.dumps(
        {
            "id": session_id,
            **fields,
            "created_at": moment,
            "updated_at": moment,
            "message_count": 0,
            "last_message_preview": None,
            "messages": [],
        }
    )


PATCH_SESSION: LiteralString = f"""
    UPDATE /* patch_session */ sessions AS s
       SET title      = coalesce(%(title)s, s.title),
           agent_name = coalesce(%(agent_name)s, s.agent_name),
           model_id   = CASE WHEN %(clear_model_id)s THEN NULL ELSE coalesce(%(model_id)s, s.model_id) END,
           updated_at = {NEXT_UPDATED_AT},
           version    = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))"""
PATCH_TITLE: LiteralString = """
    UPDATE /* patch_session */ session_titles AS t
       SET title = %(folded_title)s,
           words = %(words)s::tsvector
      FROM sessions AS s
     WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""


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
    version = new_id()
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "title": title,
        "folded_title": None if title is None else fold_title(title),
        "words": None if title is None else title_vector(user_id, session_id, title),
        "agent_name": agent_name,
        "model_id": model_id,
        "clear_model_id": clear_model_id,
        "messages_limit": messages_limit,
        "known_versions": [],
        "version": version,
        "if_match": if_match,
    }
    retitle = [] if title is None else [PATCH_TITLE]
    *_, found = run_transaction(conn, [PATCH_SESSION, *retitle, GET_SESSION], params)
    if not found:
        raise NotFound("Session not found")
    reply = SessionReply(*found[0])
    if reply.version != version:
        raise Stale("The session has been changed since")
    return reply


# A version that is new tells the statements after it that the condition held.
CLAIM_SESSION: LiteralString = """
    UPDATE /* delete_session */ sessions AS s
       SET version = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))"""
DELETE_IMAGES: LiteralString = release_attachments("""
           SELECT m.images, m.part_attachments
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
              AND s.version = %(version)s
              AND (m.images <> '{}' OR m.part_attachments <> '{}')""")
DELETE_KEYS: LiteralString = """
    DELETE /* delete_session */ FROM idempotency_keys AS k
     USING sessions AS s
     WHERE k.user_id = %(user_id)s AND k.path = %(messages_path)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
COUNT_OUT_SESSION: LiteralString = """
    UPDATE /* delete_session */ users AS u
       SET session_count = u.session_count - 1
      FROM sessions AS s
     WHERE u.user_id = %(user_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
# Its messages, title and sums go with it, by their foreign keys.
DELETE_SESSION: LiteralString = """
    DELETE /* delete_session */ FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""


def delete_session(
    conn: Connection, user_id: str, session_id: UUID, *, if_match: Sequence[UUID] | None = None
) -> None:
    """Remove a session and everything of it. Raises NotFound, and Stale unless its version is one of `if_match`."""
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "messages_path": f"sessions/{session_id}/messages",
        "version": new_id(),
        "if_match": if_match,
    }
    statements = [
        LOCK_SESSION,
        CLAIM_SESSION,
        DELETE_IMAGES,
        DELETE_KEYS,
        COUNT_OUT_SESSION,
        DELETE_SESSION,
        SWEEP_ATTACHMENTS,
    ]
    locked, *_ = run_transaction(conn, statements, params)
    check_locked(locked, if_match)
