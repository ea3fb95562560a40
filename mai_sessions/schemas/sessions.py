"""Queries and bodies of sessions."""

from typing import Any

from marshmallow import Schema, ValidationError, fields

from mai_sessions.schemas.body import Body
from mai_sessions.schemas.fields import (
    MAX_BIGINT,
    MAX_INTEGER,
    Choice,
    Cursor,
    ErrorText,
    Identifier,
    Integer,
    List,
    Text,
)
from mai_sessions.schemas.json_fields import MetadataFilter, PastMoment
from mai_sessions.schemas.messages import MAX_BATCH, BranchQuery, Message, MessageCreate, refuse_repeated_ids
from mai_sessions.schemas.session_changes import SessionFields, with_defaults

MAX_SESSIONS_BATCH = 500


class SessionListQuery(Schema):
    """The page and the filters of a list of sessions."""

    search = Text(
        load_default="", metadata={"description": "A part of the title, in any case. Blank lists all"}
    )
    limit = Integer(
        min=1, max=100, load_default=50, metadata={"description": "The most sessions on the page"}
    )
    offset = Integer(min=0, max=MAX_BIGINT, load_default=0, metadata={"description": "Sessions to skip"})
    after = Cursor(
        data_key="cursor",
        metadata={"description": "`next_cursor` of the previous page", "type": "string"},
    )
    archived = Choice(
        "false",
        "true",
        "any",
        load_default="false",
        metadata={"description": "Open sessions, archived ones, or both"},
    )
    metadata = MetadataFilter(load_default=None)


class MessagesLimitQuery(Schema):
    """The number of messages of a session."""

    messages_limit = Integer(
        min=0,
        max=500,
        load_default=None,
        metadata={
            "description": "Only this number of the newest messages. By default all, within the limit of a "
            "response"
        },
    )


class SessionQuery(BranchQuery, MessagesLimitQuery):
    """The branch of a session, and the number of its messages."""


class SessionCreate(SessionFields):
    """A session to create."""

    id = Identifier(
        allow_none=True, load_default=None, metadata={"description": "By default the service makes one"}
    )
    created_at = PastMoment(allow_none=True)
    messages = List(fields.Nested(MessageCreate), max_items=MAX_BATCH, allow_none=True)

    def make(self, data: dict[str, Any]) -> dict[str, Any]:
        """Replace nulls and blanks by defaults, and refuse repeated ids."""
        data = {name: value for name, value in data.items() if value is not None}
        refuse_repeated_ids(data.get("messages", ()))
        return with_defaults({"id": None, "title": None, "agent_name": None, "model_id": None, **data})


class SessionPatch(SessionFields):
    """The changes of a session.

    null means "not given", except in a merge patch, where it restores the default of the title, agent and
    model.
    """


class SessionBatch(Body):
    """An action on many sessions."""

    ids = List(Identifier(), max_items=MAX_SESSIONS_BATCH, required=True)
    action = Choice("delete", "archive", "unarchive", required=True)

    def make(self, data: dict[str, Any]) -> dict[str, Any]:
        """Refuse an empty batch, and remove repeated ids."""
        if not data["ids"]:
            raise ValidationError(
                {"ids": [ErrorText(f"Must hold 1 to {MAX_SESSIONS_BATCH} ids.", "too_few")]}
            )
        return {**data, "ids": list(dict.fromkeys(data["ids"]))}


class SessionBatchResult(Schema):
    """The ids that were sessions of the caller, and the others."""

    done = fields.List(fields.UUID(), required=True)
    not_found = fields.List(fields.UUID(), required=True)


class SessionSummary(Schema):
    """A session as in a list."""

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
        metadata={
            "description": "The first 100 characters of the newest message, or of the head with branches"
        },
    )
    metadata = fields.Dict()
    archived = fields.Boolean()
    head_id = fields.UUID(
        allow_none=True,
        metadata={"description": "The newest message of the branch that is shown"},
    )
    version = fields.UUID(metadata={"description": "The session's ETag"})


class AppendedMessages(Schema):
    """The messages of a batch, and their session after it."""

    messages = fields.List(fields.Nested(Message), required=True)
    session = fields.Nested(SessionSummary, required=True)


class SessionDetail(SessionSummary):
    """A session with its messages, oldest first."""

    messages = fields.List(fields.Nested(Message), required=True)


class SessionList(Schema):
    """A page of sessions, last written first."""

    sessions = fields.List(fields.Nested(SessionSummary), required=True)
    total = fields.Integer(
        required=True,
        strict=True,
        metadata={"description": "The number of sessions that match, on every page"},
    )
    limit = fields.Integer(required=True, strict=True)
    offset = fields.Integer(required=True, strict=True)
    next_cursor = fields.String(
        required=True, allow_none=True, metadata={"description": "null on the last page"}
    )
