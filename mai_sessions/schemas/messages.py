"""What comes in about messages, and what goes out."""

from collections.abc import Callable
from typing import Any

from marshmallow import EXCLUDE, Schema, fields, post_load

from mai_sessions.schemas.fields import (
    MAX_BIGINT,
    MAX_INTEGER,
    Base64Image,
    Choice,
    Flag,
    Integer,
    List,
    Number,
    Text,
)

ROLES = ("user", "assistant", "system", "tool")


class MessageListQuery(Schema):
    """Which page of the messages of a session."""

    limit = Integer(min=1, max=500, load_default=100, metadata={"description": "Messages on a page"})
    offset = Integer(min=0, max=MAX_BIGINT, load_default=0, metadata={"description": "Messages to leave out"})
    after_seq = Integer(
        min=0,
        max=MAX_INTEGER,
        load_default=None,
        metadata={"description": "The first messages after this `seq`"},
    )
    before_seq = Integer(
        min=0,
        max=MAX_INTEGER,
        load_default=None,
        metadata={"description": "The last messages before this `seq`"},
    )


class _MessageMetadata(Schema):
    class Meta:
        unknown = EXCLUDE

    model_id = Text(max_length=255, allow_none=True)
    agent_name = Text(max_length=100, allow_none=True)
    response_time_ms = Number(allow_none=True)
    is_error = Flag(allow_none=True)
    token_count = Integer(
        min=0,
        max=MAX_INTEGER,
        strict=True,
        allow_none=True,
        metadata={"description": "Not given: the number of words between white space"},
    )


class MessageCreate(_MessageMetadata):
    """A message to add."""

    role = Choice(*ROLES, required=True)
    content = Text(required=True)
    images = List(
        Base64Image(metadata={"type": "string", "contentEncoding": "base64"}),
        max_items=20,
        allow_none=True,
        metadata={"description": "PNG, JPEG, GIF, WebP or AVIF; base64 or data URLs"},
    )
    documents = List(
        Text(max_length=255), max_items=20, allow_none=True, metadata={"description": "Names of documents"}
    )

    @post_load
    def _complete(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        empty = {"model_id": None, "agent_name": None, "response_time_ms": None}
        data = {**empty, **data}
        data["is_error"] = data.get("is_error") or False
        data["images"] = data.get("images") or []
        data["documents"] = data.get("documents") or []
        return {"token_count": None, **data}


class MessagePatch(_MessageMetadata):
    """What to change of a message; null is "not given"."""

    content = Text(allow_none=True)


def with_token_count(data: dict[str, Any], count_tokens: Callable[[str], int]) -> dict[str, Any]:
    """Add the number of tokens to a loaded message that has a content and does not give the number."""
    if data.get("token_count") is None and data.get("content") is not None:
        data["token_count"] = count_tokens(data["content"])
    return data


class Message(Schema):
    """A message."""

    id = fields.UUID(required=True)
    session_id = fields.UUID(required=True)
    seq = fields.Integer(
        required=True, strict=True, metadata={"description": "1, 2, 3 … within the session: the order"}
    )
    role = fields.String(required=True, metadata={"enum": list(ROLES)})
    content = fields.String(required=True)
    token_count = fields.Integer(required=True, strict=True)
    model_id = fields.String(required=True, allow_none=True)
    agent_name = fields.String(required=True, allow_none=True)
    response_time_ms = fields.Float(required=True, allow_none=True)
    is_error = fields.Boolean(required=True)
    images = fields.List(fields.String(), required=True, metadata={"description": "URLs"})
    documents = fields.List(fields.String(), required=True, metadata={"description": "Names"})
    created_at = fields.AwareDateTime(required=True, format="iso")
