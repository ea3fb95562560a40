"""The statements that append one message without files after the newest one, as most appends are.

They do what those in appends.py do, at a lower cost: each value is a parameter, and the session's row moves
first.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple
from uuid import UUID

from mai_sessions.content.long_text import head
from mai_sessions.content.message import UNSET, NewMessage
from mai_sessions.idempotency import NO_KEY, IdempotencyKey
from mai_sessions.ids import new_id
from mai_sessions.postgres.adapters import Json
from mai_sessions.postgres.connection import Connection, run_transaction
from mai_sessions.repository.append_keys import GET_KEY
from mai_sessions.repository.columns import (
    LOCK_SESSION,
    NEXT_UPDATED_AT,
    PARENT_ID,
    PREVIEW_CHARACTERS,
    time_as_json,
)
from mai_sessions.repository.daily_usage import ADD_UP, PARTS
from mai_sessions.repository.message_json import Placement, content_param, message_json, message_words


class PlainAppend(NamedTuple):
    """What was appended: the message's id, the session's version and the message's JSON. If nothing was, the
    rows of GET_KEY.
    """

    added: tuple[UUID, UUID, bytes] | None
    kept: Sequence[tuple[bool, bytes]] = ()


_HEAD: LiteralString = """
            SELECT s.head_id AS id
              FROM sessions AS s
             WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
_LOCKED_HEAD: LiteralString = f"""{_HEAD}
               FOR UPDATE OF s"""


# Returned is the message before the new one, the head that the last writer left. Release 0.1 moves no head:
# then append_messages looks for it, once for each session that it has written.
def _move_session(head: LiteralString, condition: LiteralString) -> LiteralString:
    return f"""
    UPDATE /* append_plain_message */ sessions AS s
       SET message_count        = s.message_count + 1,
           last_seq             = s.last_seq + 1,
           newest_seq           = s.last_seq + 1,
           head_seq             = s.last_seq + 1,
           head_id              = %(message_id)s,
           last_message_preview = %(preview)s,
           updated_at           = {NEXT_UPDATED_AT},
           version              = %(version)s
      FROM ({head}) AS head
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND s.head_seq IS NOT DISTINCT FROM s.newest_seq AND {condition}
    RETURNING head.id"""


MOVE_PLAIN_SESSION: LiteralString = _move_session(_LOCKED_HEAD, "true")
# A statement sees what was there when it began, so the lock has to be that of the statement before. A key
# that has expired is left to appends.py, which forgets it.
MOVE_LOCKED_SESSION: LiteralString = _move_session(
    _HEAD,
    """NOT EXISTS (SELECT FROM idempotency_keys AS k
                        WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s)
       AND NOT EXISTS (SELECT FROM messages AS o
                        WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s
                          AND o.id = %(message_id)s)""",
)
INSERT_PLAIN_MESSAGE: LiteralString = """
    INSERT /* append_plain_message */ INTO messages AS m (
           user_id, session_id, id, seq, role, content, token_count, model_id, agent_name, response_time_ms,
           is_error, images, documents, parts, metadata, status, words, created_at)
    SELECT s.user_id, s.id, %(message_id)s, s.last_seq, %(role)s, %(content)s, %(token_count)s, %(model_id)s,
           %(agent_name)s, %(response_time_ms)s::float8, %(is_error)s::boolean, '{}',
           coalesce(%(documents)s::text[], '{}'), %(parts)s::json, %(metadata)s::jsonb, %(status)s,
           %(words)s::tsvector, s.updated_at
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
    RETURNING m.seq, m.created_at"""
COUNT_PLAIN_MESSAGE: LiteralString = f"""
    INSERT /* append_plain_message */ INTO daily_usage AS d (
           user_id, session_id, day, part, agent_name, model_id, first_at, last_at, first_seq, last_seq,
           message_count, token_count, error_count, timed_count, response_time_ms)
    SELECT m.user_id, m.session_id, (m.created_at AT TIME ZONE 'UTC')::date, p.part, p.agent_name, p.model_id,
           m.created_at, m.created_at, m.seq, m.seq, 1, m.token_count, m.is_error::int,
           (m.response_time_ms IS NOT NULL)::int, coalesce(m.response_time_ms, 0)::numeric
      FROM sessions AS s
      JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq = s.last_seq
     CROSS JOIN LATERAL ({PARTS}) AS p
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
        {ADD_UP}"""

# Release 0.1 reads seq and created_at.
KEEP_PLAIN_KEY: LiteralString = f"""
    INSERT /* append_plain_message */ INTO idempotency_keys AS k (user_id, path, key, fingerprint, id, seq,
                                                                  created_at, reply)
    SELECT s.user_id, %(path)s, %(key)s, %(fingerprint)s, m.id, m.seq, now(),
           json_build_object(
               'version', s.version,
               'messages', json_build_array(json_build_array(m.id, m.seq, m.created_at, {PARENT_ID})),
               'session', NULL)
      FROM sessions AS s
      JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq = s.last_seq
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
        ON CONFLICT (user_id, path, key) DO NOTHING"""


def is_plain(message: NewMessage) -> bool:
    """Return whether a message is one for `append_plain_message`."""
    return (
        message.parent_id is UNSET
        and not message.images
        and not message.part_attachments
        and message.created_at is None
    )


def append_plain_message(
    conn: Connection, user_id: str, session_id: UUID, message: NewMessage, key: IdempotencyKey | None
) -> PlainAppend:
    """Add a message after the head of a session, unless the session has its id or the key was used. Nothing
    is written either to a session that is not there, or whose head is not its newest message.
    """
    message_id, version = message.id or new_id(), new_id()
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "version": version,
        "role": message.role,
        "content": content_param(message.content),
        # The content itself goes to PostgreSQL once.
        "preview": head(message.content, PREVIEW_CHARACTERS),
        "token_count": message.token_count,
        "model_id": message.model_id,
        "agent_name": message.agent_name,
        "response_time_ms": message.response_time_ms,
        "is_error": message.is_error,
        "documents": message.documents or None,
        "parts": None if message.parts is None else Json(message.parts),
        "metadata": Json(message.metadata.value),
        "status": message.status,
        "words": message_words(message, user_id, session_id),
        **(key or NO_KEY)._asdict(),
    }
    has_condition = key is not None or message.id is not None
    move = MOVE_LOCKED_SESSION if has_condition else MOVE_PLAIN_SESSION
    statements: list[LiteralString] = [
        *([LOCK_SESSION] if has_condition else []),
        move,
        INSERT_PLAIN_MESSAGE,
        COUNT_PLAIN_MESSAGE,
        *([KEEP_PLAIN_KEY, GET_KEY] if key else []),
    ]
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    if not rows[move]:
        return PlainAppend(None, rows.get(GET_KEY, []))
    [(parent_id,)], [(seq, created_at)] = rows[move], rows[INSERT_PLAIN_MESSAGE]
    placement = Placement(message_id, seq, time_as_json(created_at), parent_id)
    return PlainAppend((message_id, version, message_json(session_id, message, placement)))
