"""The statements that append messages to a session.

They are numbered after the session's `last_seq`, which moves last: until then, the messages beyond it are the new
ones.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString
from uuid import UUID

import orjson

from mai_sessions.content.attachments import LINK
from mai_sessions.content.lexemes import message_vector
from mai_sessions.content.message import NewMessage
from mai_sessions.errors import NotFound
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, Json, run_transaction
from mai_sessions.repository.columns import (
    LOCK_SESSION,
    NEXT_UPDATED_AT,
    check_locked,
    number_as_json,
    time_as_json,
)
from mai_sessions.repository.daily_usage import count_messages
from mai_sessions.repository.messages import MessageReply

# A key whose message is gone, or that is older than a day, is forgotten.
_USED_KEY: LiteralString = """
    SELECT k.fingerprint = %(fingerprint)s, k.id, k.seq, k.created_at
      FROM idempotency_keys AS k
      JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = k.id
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND k.created_at > now() - interval '1 day'"""
GET_KEY: LiteralString = f"/* append_message */ {_USED_KEY}"

# Where a condition decides, a version that is new tells the statements after it that the condition held.
CLAIM_SESSION: LiteralString = f"""
    UPDATE /* append_message */ sessions AS s
       SET version = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))
       AND NOT EXISTS ({_USED_KEY})"""

# Only the row of the session is locked: the messages are not rows of a table yet.
INSERT_MESSAGES: LiteralString = f"""
    INSERT /* append_message */ INTO messages AS m (
           user_id, session_id, id, seq, role, content, token_count, model_id, agent_name, response_time_ms,
           is_error, images, documents, parts, part_attachments, metadata, status, words, created_at)
    SELECT s.user_id, s.id, n.id, s.last_seq + n.place, n.role, n.content, n.token_count, n.model_id,
           n.agent_name, n.response_time_ms, n.is_error, n.images, n.documents, n.parts, n.part_attachments,
           n.metadata, n.status, n.words, coalesce(n.created_at, {NEXT_UPDATED_AT})
      FROM sessions AS s
     CROSS JOIN json_to_recordset(%(messages)s) AS n (
           place int, id uuid, role text, content text, token_count int, model_id text, agent_name text,
           response_time_ms float8, is_error boolean, images text[], documents text[], parts json,
           part_attachments text[], metadata jsonb, status text, words tsvector, created_at timestamptz)
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(claimed)s::uuid IS NULL OR s.version = %(claimed)s)
       FOR UPDATE OF s
    RETURNING m.id, m.seq, m.created_at"""

_NEW_MESSAGES: LiteralString = """
           SELECT 1 AS sign, m.seq - s.last_seq AS place, s.user_id, m.session_id, m.id, m.seq, m.role,
                  m.content, m.token_count, m.model_id, m.agent_name, m.response_time_ms, m.is_error,
                  m.images, m.part_attachments, m.created_at
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq > s.last_seq
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""

STORE_ATTACHMENTS: LiteralString = """
    INSERT /* append_message */ INTO attachments AS a (
           user_id, sha256, content_type, size, reference_count, content, file_name)
    SELECT s.user_id, n.sha256, n.content_type, octet_length(n.content), added.messages, n.content, n.file_name
      FROM sessions AS s
     CROSS JOIN unnest(%(sha256s)s::text[], %(content_types)s::text[], %(contents)b::bytea[], %(file_names)s::text[])
           AS n (sha256, content_type, content, file_name)
     CROSS JOIN LATERAL (
           SELECT count(*)::int AS messages
             FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq > s.last_seq
              AND n.sha256 = ANY (m.images || m.part_attachments)) AS added
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND added.messages > 0
        ON CONFLICT (user_id, sha256) DO UPDATE
       SET reference_count = a.reference_count + excluded.reference_count"""

COUNT_MESSAGES: LiteralString = count_messages(_NEW_MESSAGES)

FORGET_KEY: LiteralString = f"""
    DELETE /* append_message */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND NOT EXISTS ({_USED_KEY})"""
KEEP_KEY: LiteralString = f"""
    INSERT /* append_message */ INTO idempotency_keys AS k (user_id, path, key, fingerprint, id, seq, created_at)
    SELECT m.user_id, %(path)s, %(key)s, %(fingerprint)s, m.id, m.seq, m.created_at
      FROM ({_NEW_MESSAGES}) AS m
     WHERE m.place = 1
        ON CONFLICT (user_id, path, key) DO NOTHING"""

MOVE_SESSION: LiteralString = f"""
    UPDATE /* append_message */ sessions AS s
       SET message_count        = s.message_count + added.messages,
           last_seq             = added.seq,
           newest_seq           = added.seq,
           last_message_preview = added.preview,
           updated_at           = GREATEST(nullif(s.updated_at, GREATEST(s.updated_at, now() + interval '1 minute')),
                                           added.created_at),
           version              = %(version)s,
           head_seq             = added.seq,
           head_id              = added.id
      FROM (SELECT m.seq, m.id, left(m.content, 100) AS preview, (count(*) OVER ())::int AS messages,
                   max(m.created_at) OVER () AS created_at
              FROM ({_NEW_MESSAGES}) AS m
             ORDER BY m.seq DESC
             LIMIT 1) AS added
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


def append_message(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message: NewMessage,
    *,
    key: IdempotencyKey | None = None,
    if_match: Sequence[UUID] | None = None,
) -> MessageReply:
    """Add a message at the end of a session, or give the first reply again when the key was used.

    Raises NotFound, Stale unless the session's version is one of `if_match`, and Invalid for a key that was used
    with another body.
    """
    version, message_id = new_id(), message.id or new_id()
    is_conditional = key is not None or if_match is not None
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "version": version,
        "claimed": version if is_conditional else None,
        "if_match": if_match,
        "messages": Json(orjson.dumps([_row(user_id, session_id, message, message_id, place=1)])),
        **_attachment_params([message]),
        **(key or NO_KEY)._asdict(),
    }
    statements = [
        *([LOCK_SESSION, CLAIM_SESSION] if is_conditional else []),
        INSERT_MESSAGES,
        *([STORE_ATTACHMENTS] if message.attachments else []),
        COUNT_MESSAGES,
        *([FORGET_KEY, KEEP_KEY] if key else []),
        MOVE_SESSION,
        *([GET_KEY] if key else []),
    ]
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    if rows[INSERT_MESSAGES]:
        return MessageReply(
            message_id, version, _body(session_id, message, *rows[INSERT_MESSAGES][0]), is_new=True
        )
    if not rows.get(LOCK_SESSION):
        raise NotFound("Session not found")
    for same_body, *first in rows.get(GET_KEY, ()):
        check_same_body(same_body)
        return MessageReply(first[0], None, _body(session_id, message, *first), is_new=True)
    check_locked(rows[LOCK_SESSION], if_match)
    raise AssertionError("nothing kept the message from being added")


def _row(
    user_id: str, session_id: UUID, message: NewMessage, message_id: UUID, *, place: int
) -> dict[str, Any]:
    """A message as a row of INSERT_MESSAGES; `place` counts the new messages from 1."""
    return {
        "place": place,
        "id": message_id,
        "role": message.role,
        "content": message.content,
        "token_count": message.token_count,
        "model_id": message.model_id,
        "agent_name": message.agent_name,
        "response_time_ms": message.response_time_ms,
        "is_error": message.is_error,
        "images": message.images,
        "documents": message.documents,
        "parts": None if message.parts is None else orjson.Fragment(message.parts),
        "part_attachments": message.part_attachments,
        "metadata": orjson.Fragment(message.metadata.members),
        "status": message.status,
        "words": message_vector(
            user_id, session_id, message.created_at or datetime.now(UTC), message.content
        ),
        "created_at": message.created_at,
    }


def _attachment_params(messages: Sequence[NewMessage]) -> dict[str, list[Any]]:
    """The attachments to store, each once, in the order of their names."""
    attachments = {each.sha256: each for message in messages for each in message.attachments}
    ordered = [attachments[sha256] for sha256 in sorted(attachments)]
    return {
        "sha256s": [attachment.sha256 for attachment in ordered],
        "content_types": [attachment.content_type for attachment in ordered],
        "contents": [attachment.content for attachment in ordered],
        "file_names": [attachment.file_name for attachment in ordered],
    }


def _body(session_id: UUID, message: NewMessage, message_id: UUID, seq: int, created_at: datetime) -> bytes:
    """The JSON of a new message, byte for byte as MESSAGE_COLUMNS gives it."""
    return orjson.dumps(
        {
            "id": message_id,
            "session_id": session_id,
            "seq": seq,
            "role": message.role,
            "content": message.content,
            "token_count": message.token_count,
            "model_id": message.model_id,
            "agent_name": message.agent_name,
            "response_time_ms": number_as_json(message.response_time_ms),
            "is_error": message.is_error,
            "images": [LINK + sha256 for sha256 in message.images],
            "documents": message.documents,
            "created_at": time_as_json(created_at),
        }
    )
