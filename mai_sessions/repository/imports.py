"""The statements that store conversations of other products.

The caller reads what is stored, decides which messages are new and where they stand, and writes them in
batches, each a transaction. A batch is written only if nobody has written the session since it was read.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.attachments import Attachment
from mai_sessions.content.lexemes import fold_title, message_vector, title_vector
from mai_sessions.ids import new_id
from mai_sessions.postgres.adapters import Json
from mai_sessions.postgres.connection import Connection, run_transaction
from mai_sessions.repository import creations
from mai_sessions.repository.attachments import LOCK_UPLOADS, attachment_params, store_attachments
from mai_sessions.repository.columns import preview_of
from mai_sessions.repository.daily_usage import count_messages


class StoredSession(NamedTuple):
    """What is stored of a conversation: `seqs` has the place of each message, `origin` the `import` of its
    metadata.

    `head_id` is None for a session without messages.
    """

    version: UUID
    last_seq: int
    head_id: UUID | None
    origin: dict[str, Any] | None
    seqs: dict[UUID, int]


class ImportedSession(NamedTuple):
    """A session to create: times in UTC, `metadata` as compact JSON."""

    title: str
    agent_name: str
    model_id: str | None
    archived: bool
    created_at: datetime
    updated_at: datetime
    metadata: bytes


class ImportedMessage(NamedTuple):
    """A message to store as `seq`. `parent_seq` is 0 for a first message, None for the message before it."""

    id: UUID
    seq: int
    parent_seq: int | None
    role: str
    content: str
    token_count: int
    model_id: str | None
    agent_name: str | None
    response_time_ms: float | None
    is_error: bool
    images: Sequence[str]
    documents: Sequence[str]
    parts: bytes | None
    part_attachments: Sequence[str]
    metadata: bytes
    status: str
    created_at: datetime
    updated_at: datetime | None
    attachments: Sequence[Attachment]


class Batch(NamedTuple):
    """Messages to write in one transaction, and the session after them.

    `head_seq` is None where there are no messages. `origin`, if given, is merged into the metadata.
    """

    messages: Sequence[ImportedMessage]
    head_seq: int | None
    is_branched: bool
    updated_at: datetime
    origin: bytes | None


GET_SESSION: LiteralString = """
    SELECT /* read_stored */ s.version, s.last_seq,
           CASE WHEN s.is_branched THEN s.head_seq ELSE s.newest_seq END, t.metadata -> 'import'
      FROM sessions AS s
      JOIN session_titles AS t ON t.user_id = %(user_id)s AND t.session_id = s.id
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
GET_SEQS: LiteralString = """
    SELECT /* read_stored */ m.id, m.seq
      FROM messages AS m
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s"""


def read_stored(conn: Connection, user_id: str, session_id: UUID) -> StoredSession | None:
    """Read the stored part of a conversation, or None."""
    params = {"user_id": user_id, "session_id": session_id}
    sessions, messages = run_transaction(conn, [GET_SESSION, GET_SEQS], params)
    if not sessions:
        return None
    version, last_seq, head_seq, origin = sessions[0]
    seqs: dict[UUID, int] = dict(messages)
    head_id = next((message_id for message_id, seq in messages if seq == head_seq), None)
    found = orjson.loads(origin) if origin is not None else None
    return StoredSession(version, last_seq, head_id, found if isinstance(found, dict) else None, seqs)


# The new version tells the later statements that the session was created, or not written by another client.
CREATE_SESSION: LiteralString = """
    INSERT /* write_batch */ INTO sessions AS s (
           user_id, id, title, agent_name, model_id, archived, has_metadata, created_at, updated_at, version)
    VALUES (%(user_id)s, %(session_id)s, %(title)s, %(agent_name)s, %(model_id)s, %(archived)s,
           %(has_metadata)s, %(created_at)s, %(updated_at)s, %(version)s)
        ON CONFLICT (user_id, id) DO NOTHING
    RETURNING s.version"""
CLAIM_SESSION: LiteralString = """
    UPDATE /* write_batch */ sessions AS s
       SET version = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(expected_version)s
    RETURNING s.version"""

INSERT_MESSAGES: LiteralString = """
    INSERT /* write_batch */ INTO messages (
           user_id, session_id, id, seq, parent_seq, role, content, token_count, model_id, agent_name,
           response_time_ms, is_error, images, documents, parts, part_attachments, metadata, status, words,
           created_at, updated_at)
    SELECT s.user_id, s.id, n.id, n.seq, n.parent_seq, n.role, n.content, n.token_count, n.model_id,
           n.agent_name, n.response_time_ms, n.is_error, n.images, n.documents, n.parts, n.part_attachments,
           n.metadata, n.status, n.words, n.created_at, n.updated_at
      FROM sessions AS s
     CROSS JOIN json_to_recordset(%(messages)s) AS n (
           id uuid, seq int, parent_seq int, role text, content text, token_count int, model_id text,
           agent_name text, response_time_ms float8, is_error boolean, images text[], documents text[],
           parts json, part_attachments text[], metadata jsonb, status text, words tsvector,
           created_at timestamptz, updated_at timestamptz)
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""

# `last_seq` moves last: until then the messages beyond it are the new ones.
_NEW_MESSAGES: LiteralString = """
           SELECT 1 AS sign, s.user_id, m.session_id, m.seq, m.role, m.token_count, m.model_id, m.agent_name,
                  m.response_time_ms, m.is_error, m.images, m.part_attachments, m.created_at
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id AND m.seq > s.last_seq
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
COUNT_MESSAGES: LiteralString = count_messages(_NEW_MESSAGES)

STORE_ATTACHMENTS: LiteralString = store_attachments(_NEW_MESSAGES)

MOVE_SESSION: LiteralString = f"""
    UPDATE /* write_batch */ sessions AS s
       SET message_count        = s.message_count + %(count)s,
           last_seq             = %(last_seq)s,
           newest_seq           = %(last_seq)s,
           head_seq             = h.seq,
           head_id              = h.id,
           is_branched          = s.is_branched OR %(is_branched)s,
           last_message_preview = {preview_of("h.content")},
           updated_at           = GREATEST(s.updated_at, %(updated_at)s),
           has_metadata         = s.has_metadata OR %(has_origin)s
      FROM messages AS h
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
       AND h.user_id = %(user_id)s AND h.session_id = %(session_id)s AND h.seq = %(head_seq)s"""

KEEP_ORIGIN: LiteralString = """
    UPDATE /* write_batch */ session_titles AS t
       SET metadata = t.metadata || %(origin)s::jsonb
      FROM sessions AS s
     WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""


def write_batch(
    conn: Connection, user_id: str, session_id: UUID, session: ImportedSession | UUID, batch: Batch
) -> UUID | None:
    """Write messages in one transaction, and return the new version of the session.

    `session` is the session to create, or the version that was read. Returns None, and writes nothing, if the
    session exists meanwhile, or has another version.
    """
    version = new_id()
    params: dict[str, Any] = {"user_id": user_id, "session_id": session_id, "version": version}
    if isinstance(session, ImportedSession):
        statements: list[LiteralString] = [CREATE_SESSION, creations.CREATE_TITLE, creations.COUNT_SESSION]
        params |= _session_params(user_id, session_id, session)
    else:
        statements = [CLAIM_SESSION]
        params["expected_version"] = session
    if batch.messages:
        attachments = [each for message in batch.messages for each in message.attachments]
        storing: list[LiteralString] = [LOCK_UPLOADS, STORE_ATTACHMENTS] if attachments else []
        writing: list[LiteralString] = [INSERT_MESSAGES, *storing, COUNT_MESSAGES, MOVE_SESSION]
        statements += writing
        params |= _message_params(user_id, session_id, batch) | attachment_params(attachments, [])
    if batch.origin is not None:
        statements.append(KEEP_ORIGIN)
        params["origin"] = Json(batch.origin)
    claimed, *_ = run_transaction(conn, statements, params)
    return version if claimed else None


def _session_params(user_id: str, session_id: UUID, session: ImportedSession) -> dict[str, Any]:
    return {
        **session._asdict(),
        "metadata": Json(session.metadata),
        "has_metadata": session.metadata != b"{}",
        "folded_title": fold_title(session.title),
        "words": title_vector(user_id, session_id, session.title),
    }


def _message_params(user_id: str, session_id: UUID, batch: Batch) -> dict[str, Any]:
    rows = [
        {
            **message._asdict(),
            "attachments": None,
            "parts": None if message.parts is None else orjson.Fragment(message.parts),
            "metadata": orjson.Fragment(message.metadata),
            "words": message_vector(user_id, session_id, message.created_at, message.content),
        }
        for message in batch.messages
    ]
    return {
        "messages": Json(orjson.dumps(rows)),
        "count": len(rows),
        "last_seq": batch.messages[-1].seq,
        "head_seq": batch.head_seq,
        "is_branched": batch.is_branched,
        "updated_at": batch.updated_at,
        "has_origin": batch.origin is not None,
    }
