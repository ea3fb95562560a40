"""The values that readers yield: conversations in one form for all products."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mai_sessions.content.attachments import Attachment

Json = dict[str, Any]


class UnreadableFile(Exception):
    """A file that cannot be imported. The text says why, in one line."""


class UnreadableConversation(Exception):
    """A conversation that cannot be imported. The text says why."""


@dataclass(slots=True)
class Image:
    """An image of a message, read from the export only when it is stored."""

    name: str
    load: Callable[[], bytes]


@dataclass(slots=True)
class Message:
    """A message. `id` and `parent_id` are those of the source; `parent_id` is None for a first message.

    `is_undated` says that `created_at` was taken from another message. Only an export of this service knows
    `seq`, `updated_at` and what a message weighs.
    """

    id: str
    parent_id: str | None
    role: str
    content: str = ""
    parts: list[Json] | None = None
    metadata: Json = field(default_factory=dict)
    model_id: str | None = None
    agent_name: str | None = None
    created_at: datetime | None = None
    is_undated: bool = False
    images: list[Image] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    token_count: int | None = None
    response_time_ms: float | None = None
    seq: int | None = None
    updated_at: datetime | None = None
    is_error: bool = False
    status: str = "complete"


@dataclass(slots=True)
class Conversation:
    """A conversation with every branch. A parent comes before its children in `messages`.

    `head_id` is the newest message of the branch that is shown. `origin` goes into `metadata.import`.
    `notes` describe the values that could not be read.
    """

    source: str
    id: str
    title: str | None = None
    agent_name: str | None = None
    model_id: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    archived: bool = False
    metadata: Json = field(default_factory=dict)
    origin: Json = field(default_factory=dict)
    head_id: str | None = None
    messages: list[Message] = field(default_factory=list)
    files: list[Attachment] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
