"""New messages as JSON: for the statement that inserts them, and for the reply."""

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.attachments import LINK
from mai_sessions.content.long_text import Content, as_json
from mai_sessions.content.message import NewMessage, with_words
from mai_sessions.postgres.adapters import Utf8
from mai_sessions.repository.columns import number_as_json


class Placement(NamedTuple):
    """What the session makes of a new message: its id, its `seq`, when, and the message before it in its
    branch.
    """

    id: UUID | str
    seq: int
    created_at: str
    parent_id: UUID | str | None


def message_rows(
    user_id: str, session_id: UUID, messages: Sequence[NewMessage], ids: Sequence[UUID]
) -> bytes:
    """The messages as an array of rows; `place` counts them from 1."""
    return orjson.dumps(
        [
            {
                "place": place,
                "id": message_id,
                **_given(message),
                "parts": None if message.parts is None else orjson.Fragment(message.parts),
                "images": message.images,
                "part_attachments": message.part_attachments,
                "response_time_ms": message.response_time_ms,
                "words": message_words(message, user_id, session_id),
                "created_at": message.created_at,
            }
            for place, (message_id, message) in enumerate(zip(ids, messages, strict=True), 1)
        ]
    )


def message_words(message: NewMessage, user_id: str, session_id: UUID) -> str | None:
    """Return the lexemes of a message, and extract them if that has not been done."""
    return message.words if message.words is not None else with_words([message], user_id, session_id)[0].words


def content_param(content: Content) -> str | Utf8:
    """A content as the value of a parameter of type text."""
    return content if isinstance(content, str) else Utf8(content.utf8)


def message_json(session_id: UUID, message: NewMessage, placement: Placement) -> bytes:
    """The JSON of a new message, byte for byte as MESSAGE_COLUMNS gives it."""
    parts = message.parts
    if parts is not None and message.part_attachments:
        parts = parts.replace(f'"{LINK}'.encode(), b'"\\u0000')
    given = _given(message)
    return orjson.dumps(
        {
            "id": placement.id,
            "session_id": session_id,
            "seq": placement.seq,
            "role": given["role"],
            "content": given["content"],
            "parts": None if parts is None else orjson.Fragment(parts),
            "token_count": given["token_count"],
            "model_id": given["model_id"],
            "agent_name": given["agent_name"],
            "response_time_ms": number_as_json(message.response_time_ms),
            "is_error": given["is_error"],
            "images": ["\0" + sha256 for sha256 in message.images],
            "documents": given["documents"],
            "metadata": given["metadata"],
            "status": given["status"],
            "parent_id": placement.parent_id,
            "created_at": placement.created_at,
            "updated_at": placement.created_at,
        }
    )


def _given(message: NewMessage) -> dict[str, Any]:
    """The fields that a row and the reply write alike."""
    return {
        "role": message.role,
        "content": as_json(message.content),
        "token_count": message.token_count,
        "model_id": message.model_id,
        "agent_name": message.agent_name,
        "is_error": message.is_error,
        "documents": message.documents,
        "metadata": orjson.Fragment(message.metadata.value),
        "status": message.status,
    }
