"""Queries and bodies of messages."""

from collections.abc import Iterable, Sequence
from typing import Any

from marshmallow import Schema, ValidationError, fields, validates_schema

from mai_sessions.content.attachments import Attachment
from mai_sessions.content.message import ROLES, STATUSES, NewMessage
from mai_sessions.content.parts import Parts
from mai_sessions.schemas.body import Body
from mai_sessions.schemas.fields import (
    MAX_BIGINT,
    MAX_INTEGER,
    Choice,
    ErrorText,
    Flag,
    Identifier,
    Integer,
    List,
    Number,
    Text,
)
from mai_sessions.schemas.json_fields import ContentField, ImageField, MetadataField, PartsField, PastMoment
from mai_sessions.schemas.session_changes import SessionChanges

MAX_BATCH = 100
MAX_TOKENS = 10_000_000
# Thirty years: JSON can represent any sum of these.
MAX_RESPONSE_TIME_MS = 1e12


class BranchQuery(Schema):
    """The branch of a session."""

    head_id = Identifier(
        metadata={"description": "The branch that ends at this message; by default the session's head"}
    )
    branches = Choice("all", metadata={"description": "Every message of every branch, in the order of `seq`"})


class MessageListQuery(BranchQuery):
    """The page of the messages of a session."""

    limit = Integer(
        min=1, max=500, load_default=100, metadata={"description": "The most messages on the page"}
    )
    offset = Integer(min=0, max=MAX_BIGINT, load_default=0, metadata={"description": "Messages to skip"})
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
        metadata={
            "description": "The last messages before this `seq`; with `after_seq`, the last between both"
        },
    )
    max_tokens = Integer(
        min=1,
        max=MAX_TOKENS,
        load_default=None,
        metadata={
            "description": "The newest messages whose `token_count` add up to at most this, beginning at a "
            "`user` message, with the `system` messages before them; at least the newest message. "
            "`limit` does not apply, and `offset`, `after_seq` or `before_seq` beside it is a `422`"
        },
    )

    @validates_schema
    def _check_window(self, query: dict[str, Any], **_: Any) -> None:
        given = ["offset"] if query["offset"] else []
        given += [name for name in ("after_seq", "before_seq") if query[name] is not None]
        if given and query["max_tokens"] is not None:
            text = ErrorText("Cannot be combined with max_tokens.", "combined")
            raise ValidationError({name: [text] for name in given})


class _MessageFields(Body):
    """The fields of a message that a client can set."""

    model_id = Text(max_length=255, allow_none=True)
    agent_name = Text(max_length=100, allow_none=True)
    response_time_ms = Number(max=MAX_RESPONSE_TIME_MS, allow_none=True)
    is_error = Flag(allow_none=True)
    token_count = Integer(
        min=0,
        max=MAX_INTEGER,
        strict=True,
        allow_none=True,
        metadata={"description": "Not given: the number of words between white space"},
    )
    parts = PartsField(allow_none=True)
    metadata = MetadataField(allow_none=True)
    status = Choice(
        *STATUSES,
        allow_none=True,
        metadata={"description": "While it is `streaming`, a PATCH writes the content and nothing else"},
    )
    images = List(
        ImageField(metadata={"type": "string"}),
        max_items=20,
        allow_none=True,
        metadata={"description": "PNG, JPEG, GIF, WebP or AVIF: base64, data URLs, or links to attachments"},
    )
    documents = List(
        Text(max_length=255), max_items=20, allow_none=True, metadata={"description": "Names of documents"}
    )


class MessageCreate(_MessageFields):
    """A message to add."""

    id = Identifier(
        allow_none=True, metadata={"description": "Made by the client, so that a repeated POST adds nothing"}
    )
    role = Choice(*ROLES, required=True)
    content = ContentField(
        metadata={"description": "Required without `parts`; with them, by default the text in them"}
    )
    parent_id = Identifier(
        allow_none=True,
        metadata={
            "description": "The message before it; null for a first one; by default the session's head"
        },
    )
    created_at = PastMoment(allow_none=True)

    def check(self, given: Any) -> None:
        """Raise ValidationError for a message without content and parts."""
        if isinstance(given, dict) and "content" not in given and given.get("parts") is None:
            raise ValidationError({"content": [ErrorText("Missing data for required field.", "required")]})

    def make(self, data: dict[str, Any]) -> NewMessage:
        """Make the message."""
        data = {name: value for name, value in data.items() if value is not None or name == "parent_id"}
        parts: Parts | None = data.pop("parts", None)
        data = {"content": parts.text if parts else "", **data}
        images = data.pop("images", ())
        return NewMessage(
            **data,
            **_attachments_of(images, parts),
            parts=parts and parts.json,
        )


class MessagePatch(_MessageFields):
    """The changes of a message; null means "not given"."""

    content = ContentField(allow_none=True)

    def make(self, data: dict[str, Any]) -> dict[str, Any]:
        """Make the changes, as MessageChanges."""
        data = {name: value for name, value in data.items() if value is not None}
        parts: Parts | None = data.pop("parts", None)
        if parts is not None:
            data = {"content": parts.text, "parts": parts.json, **data}
        given = _attachments_of(data.get("images", ()), parts)
        if "images" in data:
            data |= {"images": given["images"], "attachments": given["attachments"]}
        if parts is not None:
            data |= {"part_attachments": given["part_attachments"], "attachments": given["attachments"]}
        return data


class MessageBatch(Body):
    """Messages to add together, in their order, with changes of their session."""

    messages = List(fields.Nested(MessageCreate), max_items=MAX_BATCH, required=True)
    session = fields.Nested(SessionChanges, allow_none=True)

    def make(self, data: dict[str, Any]) -> dict[str, Any]:
        """Refuse an empty batch, and ids that repeat."""
        if not data["messages"]:
            raise ValidationError(
                {"messages": [ErrorText(f"Must hold 1 to {MAX_BATCH} messages.", "too_few")]}
            )
        refuse_repeated_ids(data["messages"])
        return {**data, "session": data.get("session") or {}}


_BATCH = MessageBatch()


class MessageAppend(MessageCreate):
    """A message to append, or several in `messages`."""

    def load(self, data: Any, **kwargs: Any) -> Any:
        """Load a batch if there is one, else a single message, as `messages`, `session` and `is_batch`."""
        if isinstance(data, dict) and "messages" in data:
            return {"is_batch": True, **_BATCH.load(data, **kwargs)}
        return {"session": {}, "is_batch": False, "messages": [super().load(data, **kwargs)]}


def refuse_repeated_ids(messages: Iterable[NewMessage]) -> None:
    """Raise ValidationError for a message whose id an earlier one has."""
    seen = set()
    for index, message in enumerate(messages):
        if message.id in seen:
            text = ErrorText("An earlier message has this id.", "repeated")
            raise ValidationError({"messages": {index: {"id": [text]}}})
        if message.id is not None:
            seen.add(message.id)


def _attachments_of(images: Sequence[Attachment | str], parts: Parts | None) -> dict[str, Any]:
    """Return the fields of a NewMessage for its images and files."""
    stored = {image.sha256: image for image in images if isinstance(image, Attachment)}
    if parts is not None:
        stored |= {attachment.sha256: attachment for attachment in parts.attachments}
    return {
        "images": tuple(image if isinstance(image, str) else image.sha256 for image in images),
        "part_attachments": parts.links if parts else (),
        "attachments": tuple(stored.values()),
    }


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
    parts = fields.List(fields.Dict(), required=False, allow_none=True)
    metadata = fields.Dict(required=False)
    status = fields.String(required=False, metadata={"enum": list(STATUSES)})
    parent_id = fields.UUID(required=False, allow_none=True)
    created_at = fields.AwareDateTime(required=True, format="iso")
    updated_at = fields.AwareDateTime(required=False, format="iso")
