"""The statements that read messages, and those that change and remove one.

Each write takes the lock of the session's row before any message's, so that writers queue there and do not
deadlock.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple
from uuid import UUID

from mai_sessions.content.lexemes import message_vector
from mai_sessions.errors import NotFound, Stale
from mai_sessions.ids import made_at, new_id
from mai_sessions.postgres.connection import Connection, fetch_one, run_transaction
from mai_sessions.repository.attachments import SWEEP_ATTACHMENTS, release_attachments
from mai_sessions.repository.columns import LOCK_SESSION, MESSAGE_COLUMNS, NEXT_UPDATED_AT, check_locked
from mai_sessions.repository.daily_usage import count_messages

MAX_SEQ = 2**31 - 1


class MessageReply(NamedTuple):
    """A message: its id, the version of its session unless this is the first reply again, the JSON of the reply,
    and whether it was added now.
    """

    id: UUID
    version: UUID | None
    body: bytes
    is_new: bool = False


class MessagePage(NamedTuple):
    """A page of messages: the version of their session, JSON, the first and last `seq`, and whether there are
    messages before and after.
    """

    version: UUID
    body: bytes
    first_seq: int | None
    last_seq: int | None
    has_previous: bool
    has_next: bool


GET_MESSAGE: LiteralString = f"""
    SELECT /* get_message */ s.version, m.id, (SELECT row_to_json(r) FROM (SELECT {MESSAGE_COLUMNS}) AS r)
      FROM sessions AS s
      LEFT JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


def get_message(conn: Connection, user_id: str, session_id: UUID, message_id: UUID) -> MessageReply:
    """Read one message. Raises NotFound."""
    params = {"user_id": user_id, "session_id": session_id, "message_id": message_id}
    row = fetch_one(conn, GET_MESSAGE, params)
    if row is None:
        raise NotFound("Session not found")
    version, found, body = row
    if found is None:
        raise NotFound("Message not found")
    return MessageReply(message_id, version, body)


# For a caller who knows the version already, the messages stay unread.
_FIRST_MESSAGES: LiteralString = f"""
            SELECT {MESSAGE_COLUMNS}
              FROM messages AS m
             WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
               AND m.seq > %(after_seq)s AND m.seq < %(before_seq)s
               AND s.version <> ALL (%(known_versions)s::uuid[])
             ORDER BY m.seq
             LIMIT %(limit)s OFFSET %(offset)s"""
_LAST_MESSAGES: LiteralString = f"""
            SELECT * FROM (
                SELECT {MESSAGE_COLUMNS}
                  FROM messages AS m
                 WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                   AND m.seq > %(after_seq)s AND m.seq < %(before_seq)s
                   AND s.version <> ALL (%(known_versions)s::uuid[])
                 ORDER BY m.seq DESC
                 LIMIT %(limit)s OFFSET %(offset)s) AS m
             ORDER BY m.seq"""


# Whether there are messages before the page is asked of the first one: in this form the primary key gives it,
# whatever the planner knows of sessions.
def _list_messages(page: LiteralString) -> LiteralString:
    return f"""
    SELECT /* list_messages */ s.version, coalesce(p.body, '[]'), p.first_seq, p.last_seq,
           coalesce(p.first_seq > (SELECT o.seq FROM messages AS o
                                    WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s
                                    ORDER BY o.seq LIMIT 1), false),
           coalesce(s.newest_seq > p.last_seq, false)
      FROM sessions AS s
     CROSS JOIN LATERAL (
           SELECT array_to_json(array_agg(r)) AS body, min(r.seq) AS first_seq, max(r.seq) AS last_seq
             FROM ({page}) AS r) AS p
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


LIST_MESSAGES: LiteralString = _list_messages(_FIRST_MESSAGES)
LIST_LAST_MESSAGES: LiteralString = _list_messages(_LAST_MESSAGES)


def list_messages(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    limit: int,
    offset: int = 0,
    after_seq: int | None = None,
    before_seq: int | None = None,
    known_versions: Sequence[UUID] = (),
) -> MessagePage:
    """Read a page of messages, oldest first: the first ones after `after_seq`, or the last ones before
    `before_seq`.

    Raises NotFound.
    """
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "limit": limit,
        "offset": offset,
        "after_seq": after_seq or 0,
        "before_seq": MAX_SEQ if before_seq is None else before_seq,
        "known_versions": list(known_versions),
    }
    row = fetch_one(conn, LIST_MESSAGES if before_seq is None else LIST_LAST_MESSAGES, params)
    if row is None:
        raise NotFound("Session not found")
    return MessagePage(*row)


# A version that is new tells the statements after it that the condition held.
TOUCH_SESSION: LiteralString = f"""
    UPDATE /* patch_message */ sessions AS s
       SET updated_at           = {NEXT_UPDATED_AT},
           version              = %(version)s,
           last_message_preview = CASE WHEN s.newest_seq = m.seq AND %(content)s::text IS NOT NULL
                                       THEN left(%(content)s::text, 100) ELSE s.last_message_preview END
      FROM messages AS m
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))"""

# The message as it stands out, and as it will stand in.
_CHANGED_MESSAGE: LiteralString = """
           SELECT c.sign, s.user_id, m.session_id, m.seq, m.role, m.created_at,
                  CASE c.sign WHEN 1 THEN coalesce(%(token_count)s::int, m.token_count) ELSE m.token_count END AS token_count,
                  CASE c.sign WHEN 1 THEN coalesce(%(model_id)s::text, m.model_id) ELSE m.model_id END AS model_id,
                  CASE c.sign WHEN 1 THEN coalesce(%(agent_name)s::text, m.agent_name) ELSE m.agent_name END AS agent_name,
                  CASE c.sign WHEN 1 THEN coalesce(%(response_time_ms)s::float8, m.response_time_ms)
                       ELSE m.response_time_ms END AS response_time_ms,
                  CASE c.sign WHEN 1 THEN coalesce(%(is_error)s::boolean, m.is_error) ELSE m.is_error END AS is_error
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id AND m.id = %(message_id)s
            CROSS JOIN (VALUES (-1), (1)) AS c (sign)
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
RECOUNT_MESSAGE: LiteralString = count_messages(_CHANGED_MESSAGE)

PATCH_MESSAGE: LiteralString = """
    UPDATE /* patch_message */ messages AS m
       SET content          = coalesce(%(content)s::text, m.content),
           words            = coalesce(%(words)s::tsvector, m.words),
           token_count      = coalesce(%(token_count)s::int, m.token_count),
           model_id         = coalesce(%(model_id)s::text, m.model_id),
           agent_name       = coalesce(%(agent_name)s::text, m.agent_name),
           response_time_ms = coalesce(%(response_time_ms)s::float8, m.response_time_ms),
           is_error         = coalesce(%(is_error)s::boolean, m.is_error)
      FROM sessions AS s
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""


def patch_message(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    *,
    content: str | None = None,
    token_count: int | None = None,
    model_id: str | None = None,
    agent_name: str | None = None,
    response_time_ms: float | None = None,
    is_error: bool | None = None,
    if_match: Sequence[UUID] | None = None,
) -> MessageReply:
    """Change what is given of a message. Raises NotFound, and Stale unless the session's version is one of
    `if_match`.
    """
    version = new_id()
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "version": version,
        "content": content,
        "words": None
        if content is None
        else message_vector(user_id, session_id, made_at(message_id), content),
        "token_count": token_count,
        "model_id": model_id,
        "agent_name": agent_name,
        "response_time_ms": response_time_ms,
        "is_error": is_error,
        "if_match": if_match,
    }
    counted = (token_count, model_id, agent_name, response_time_ms, is_error)
    recount = [RECOUNT_MESSAGE] if any(value is not None for value in counted) else []
    *_, rows = run_transaction(conn, [TOUCH_SESSION, *recount, PATCH_MESSAGE, GET_MESSAGE], params)
    if not rows:
        raise NotFound("Session not found")
    version_now, found, body = rows[0]
    if found is None:
        raise NotFound("Message not found")
    if version_now != version:
        raise Stale("The session has been changed since")
    return MessageReply(message_id, version, body)


LOCK_SESSION_AND_FIND: LiteralString = """
    SELECT /* delete_message */ s.version, EXISTS (
           SELECT FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s)
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       FOR UPDATE OF s"""
# As in patch_message: the version that is new tells the statements after it that the condition held.
FORGET_MESSAGE: LiteralString = f"""
    UPDATE /* delete_message */ sessions AS s
       SET message_count        = s.message_count - 1,
           newest_seq           = newest.seq,
           last_message_preview = newest.preview,
           updated_at           = {NEXT_UPDATED_AT},
           version              = %(version)s
      FROM messages AS m
      LEFT JOIN (SELECT o.seq, left(o.content, 100) AS preview
                   FROM messages AS o
                  WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.id <> %(message_id)s
                  ORDER BY o.seq DESC
                  LIMIT 1) AS newest ON true
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))"""

_REMOVED_MESSAGE: LiteralString = """
           SELECT -1 AS sign, s.user_id, m.session_id, m.seq, m.role, m.token_count, m.model_id, m.agent_name,
                  m.response_time_ms, m.is_error, m.created_at, m.images, m.part_attachments
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id AND m.id = %(message_id)s
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
COUNT_OUT_MESSAGE: LiteralString = count_messages(_REMOVED_MESSAGE)
RELEASE_IMAGES: LiteralString = release_attachments(_REMOVED_MESSAGE)

DELETE_MESSAGE: LiteralString = """
    DELETE /* delete_message */ FROM messages AS m
     USING sessions AS s
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
    RETURNING m.id"""


def delete_message(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    *,
    if_match: Sequence[UUID] | None = None,
) -> None:
    """Remove a message. Raises NotFound, and Stale unless the session's version is one of `if_match`."""
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "version": new_id(),
        "if_match": if_match,
    }
    statements = [
        LOCK_SESSION_AND_FIND,
        FORGET_MESSAGE,
        COUNT_OUT_MESSAGE,
        RELEASE_IMAGES,
        DELETE_MESSAGE,
        SWEEP_ATTACHMENTS,
    ]
    locked, *_, deleted, _ = run_transaction(conn, statements, params)
    if not deleted:
        check_locked(locked, if_match if locked and locked[0][1] else None)
        raise NotFound("Message not found")


CLEAR_SESSION: LiteralString = f"""
    UPDATE /* clear_messages */ sessions AS s
       SET message_count        = 0,
           newest_seq           = NULL,
           last_message_preview = NULL,
           updated_at           = {NEXT_UPDATED_AT},
           version              = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))"""
CLEAR_IMAGES: LiteralString = release_attachments("""
           SELECT m.images, m.part_attachments
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
              AND (m.images <> '{}' OR m.part_attachments <> '{}')""")
CLEAR_MESSAGES: LiteralString = """
    DELETE /* clear_messages */ FROM messages AS m
     USING sessions AS s
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
CLEAR_DAILY_USAGE: LiteralString = """
    DELETE /* clear_messages */ FROM daily_usage AS d
     USING sessions AS s
     WHERE d.user_id = %(user_id)s AND d.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""


def clear_messages(
    conn: Connection, user_id: str, session_id: UUID, *, if_match: Sequence[UUID] | None = None
) -> None:
    """Remove every message of a session. Raises NotFound, and Stale unless the session's version is one of
    `if_match`.
    """
    params = {"user_id": user_id, "session_id": session_id, "version": new_id(), "if_match": if_match}
    statements = [
        LOCK_SESSION,
        CLEAR_SESSION,
        CLEAR_IMAGES,
        CLEAR_MESSAGES,
        CLEAR_DAILY_USAGE,
        SWEEP_ATTACHMENTS,
    ]
    locked, *_ = run_transaction(conn, statements, params)
    check_locked(locked, if_match)
