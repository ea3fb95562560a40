"""What comes in about sessions, and what goes out."""

from typing import Any

from marshmallow import EXCLUDE, Schema, fields, post_load

from mai_sessions.schemas.fields import MAX_BIGINT, MAX_INTEGER, Cursor, Identifier, Integer, Text
from mai_sessions.schemas.messages import Message

DEFAULT_TITLE = "New Chat"
DEFAULT_AGENT_NAME = "chat"


class SessionListQuery(Schema):
    """Which page of which sessions."""

    search = Text(
        load_default="", metadata={"description": "Part of the title, in either case; blank for all"}
    )
    limit = Integer(min=1, max=100, load_default=50, metadata={"description": "Sessions on a page"})
    offset = Integer(min=0, max=MAX_BIGINT, load_default=0, metadata={"description": "Sessions to leave out"})
    after = Cursor(
        data_key="cursor",
        metadata={"description": "Where the page begins: `next_cursor` of the page before", "type": "string"},
    )


class MessagesLimitQuery(Schema):
    """How much of a session."""

    messages_limit = Integer(
        min=0,
        max=500,
        load_default=None,
        metadata={"description": "Only so many of the newest messages; all of them by default"},
    )


class _SessionFields(Schema):
    class Meta:
        unknown = EXCLUDE

    title = Text(
        max_length=255, allow_none=True, metadata={"description": f"Blank or null: `{DEFAULT_TITLE}`"}
    )
    agent_name = Text(
        max_length=100, allow_none=True, metadata={"description": f"Blank or null: `{DEFAULT_AGENT_NAME}`"}
    )
    model_id = Text(max_length=255, allow_none=True)


def with_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """Put the default title and agent where they are blank."""
    for name, default in (("title", DEFAULT_TITLE), ("agent_name", DEFAULT_AGENT_NAME)):
        if name in data and not (data[name] or "").strip():
            data[name] = default
    return data


class SessionCreate(_SessionFields):
    """A session to make."""

    id = Identifier(
        allow_none=True, load_default=None, metadata={"description": "Made by the service when not given"}
    )

    @post_load
    def _complete(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return with_defaults({"title": None, "agent_name": None, "model_id": None, **data})


class SessionPatch(_SessionFields):
    """What to change of a session. null is "not given", except in a merge patch, where it puts the default
    back.
    """


class SessionSummary(Schema):
    """A session as it stands in a list."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)
    agent_name = fields.String(required=True)
    model_id = fields.String(required=True, allow_none=True)
    created_at = fields.AwareDateTime(required=True, format="iso")
    updated_at = fields.AwareDateTime(required=True, format="iso")
    message_count = fields.Integer(
        required=True, strict=True, metadata={"minimum": 0, "maximum": MAX_INTEGER}
    )
    last_message_preview = fields.String(
        required=True,
        allow_none=True,
        metadata={"description": "The first 100 characters of the newest message"},
    )


class SessionDetail(SessionSummary):
    """A session with its messages, oldest first."""

    messages = fields.List(fields.Nested(Message), required=True)


class SessionList(Schema):
    """A page of sessions, last written first."""

    sessions = fields.List(fields.Nested(SessionSummary), required=True)
    total = fields.Integer(
        required=True, strict=True, metadata={"description": "How many match, on every page"}
    )
    limit = fields.Integer(required=True, strict=True)
    offset = fields.Integer(required=True, strict=True)
    next_cursor = fields.String(
        required=True, allow_none=True, metadata={"description": "null on the last page"}
    )
