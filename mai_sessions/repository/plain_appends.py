"""The statements that append one message of no more than text to a session without branches, as most appends
are.

They do what those in appends.py do, for a third less: each value is a parameter, and the session's row moves
first.
"""

from datetime import UTC, datetime
from typing import LiteralString
from uuid import UUID

from mai_sessions.content.lexemes import message_vector
from mai_sessions.content.message import UNSET, NewMessage
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, Json, run_transaction
from mai_sessions.repository.columns import HEAD_ID, NEXT_UPDATED_AT, PREVIEW_CHARACTERS, time_as_json
from mai_sessions.repository.daily_usage import ADD_UP, PARTS
from mai_sessions.repository.message_json import Placement, message_json

# Returned is the message before the new one. The lock comes first, so that it is the one that the last writer
# left.
MOVE_PLAIN_SESSION: LiteralString = f"""
    UPDATE /* append_plain_message */ sessions AS s
       SET message_count        = s.message_count + 1,
           last_seq             = s.last_seq + 1,
           newest_seq           = s.last_seq + 1,
           head_seq             = s.last_seq + 1,
           head_id              = %(message_id)s,
           last_message_preview = %(preview)s,
           updated_at           = {NEXT_UPDATED_AT},
           version              = %(version)s
      FROM (SELECT {HEAD_ID} AS id
              FROM sessions AS s
             WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
               FOR UPDATE OF s) AS head
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND NOT s.is_branched
    RETURNING head.id"""
INSERT_PLAIN_MESSAGE: LiteralString = """
    INSERT /* append_plain_message */ INTO messages AS m (
           user_id, session_id, id, seq, role, content, token_count, model_id, agent_name, response_time_ms,
           is_error, images, documents, metadata, words, created_at)
    SELECT s.user_id, s.id, %(message_id)s, s.last_seq, %(role)s, %(content)s, %(token_count)s, %(model_id)s,
           %(agent_name)s, %(response_time_ms)s::float8, %(is_error)s::boolean, '{}', '{}',
           %(metadata)s::jsonb, %(words)s::tsvector, s.updated_at
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


def is_plain(message: NewMessage) -> bool:
    """Tell whether a message is one for `append_plain_message`."""
    return (
        message.id is None
        and message.parent_id is UNSET
        and message.parts is None
        and not message.images
        and not message.documents
        and message.created_at is None
        and message.status == "complete"
    )


def append_plain_message(
    conn: Connection, user_id: str, session_id: UUID, message: NewMessage
) -> tuple[UUID, UUID, bytes] | None:
    """Add a message at the end of a session, and return its id, the session's version and its JSON.

    None, with nothing written, for a session that is not there or has branches.
    """
    message_id, version = new_id(), new_id()
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "version": version,
        "role": message.role,
        "content": message.content,
        # The content itself goes to PostgreSQL once.
        "preview": message.content[:PREVIEW_CHARACTERS],
        "token_count": message.token_count,
        "model_id": message.model_id,
        "agent_name": message.agent_name,
        "response_time_ms": message.response_time_ms,
        "is_error": message.is_error,
        "metadata": Json(message.metadata.value),
        "words": message_vector(user_id, session_id, datetime.now(UTC), message.content),
    }
    moved, added, _ = run_transaction(
        conn, [MOVE_PLAIN_SESSION, INSERT_PLAIN_MESSAGE, COUNT_PLAIN_MESSAGE], params
    )
    if not moved:
        return None
    [(parent_id,)], [(seq, created_at)] = moved, added
    placement = Placement(message_id, seq, time_as_json(created_at), parent_id)
    return message_id, version, message_json(session_id, message, placement)
