"""A message to add to a session, checked and ready to store."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Final, NamedTuple, TypedDict
from uuid import UUID

from mai_sessions.content.attachments import Attachment
from mai_sessions.content.lexemes import MAX_CHARACTERS, message_vector
from mai_sessions.content.long_text import Content, LongText, head
from mai_sessions.content.metadata import NO_METADATA, Metadata

ROLES = ("user", "assistant", "system", "tool")
STATUSES = ("complete", "streaming", "interrupted")
# The searchable characters of all messages of a request together. The words of a hundred messages of
# MAX_CHARACTERS would take half a minute.
MAX_SEARCHABLE = 1_000_000


class Unset(Enum):
    """The type of UNSET: not given, where null has a meaning of its own."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class NewMessage(NamedTuple):
    """A message to add.

    `images` are the SHA-256 of its images, in their order, and `part_attachments` those that `parts` link to.
    `attachments` are the images and files to store; any other of `images` must be stored already, and any
    other of `part_attachments` counts only if it is. `parent_id` is the message before it: None for a first
    message, UNSET for the head of the session. `id` and `created_at` are given by clients that make them,
    `token_count` by those that count. `words` are its lexemes, if `with_words` has extracted them.
    """

    role: str
    content: Content
    token_count: int | None = None
    model_id: str | None = None
    agent_name: str | None = None
    response_time_ms: float | None = None
    is_error: bool = False
    images: Sequence[str] = ()
    documents: Sequence[str] = ()
    parts: bytes | None = None
    part_attachments: Sequence[str] = ()
    attachments: Sequence[Attachment] = ()
    metadata: Metadata = NO_METADATA
    status: str = "complete"
    id: UUID | None = None
    parent_id: UUID | Unset | None = UNSET
    created_at: datetime | None = None
    words: str | None = None


def with_tokens(message: NewMessage, count_tokens: Callable[[Content], int]) -> NewMessage:
    """Count the tokens of a message whose client has not."""
    if message.token_count is not None:
        return message
    return message._replace(token_count=count_tokens(message.content))


def has_long_text(messages: Sequence[NewMessage]) -> bool:
    """Return whether the content of a message is a LongText."""
    return any(isinstance(message.content, LongText) for message in messages)


def with_words(messages: Sequence[NewMessage], user_id: str, session_id: UUID) -> list[NewMessage]:
    """Extract the lexemes of messages that are to be added now, each as a tsvector. A streaming message gets
    them when it ends.

    A long text takes up to a fifth of a second, so it is called before a connection is checked out. Of the
    longest messages only the beginning is read, so that all together have at most MAX_SEARCHABLE characters.
    """
    texts = [head(message.content, MAX_CHARACTERS) for message in messages]
    limit = _fair_limit([len(text) for text in texts], MAX_SEARCHABLE)
    now = datetime.now(UTC)
    return [
        message._replace(
            words=""
            if message.status == "streaming"
            else message_vector(user_id, session_id, message.created_at or now, text[:limit])
        )
        for message, text in zip(messages, texts, strict=True)
    ]


def _fair_limit(sizes: Sequence[int], total: int) -> int:
    """Return the limit for each size with which all together are at most `total`."""
    for place, size in enumerate(sorted(sizes)):
        share = total // (len(sizes) - place)
        if size > share:
            return share
        total -= size
    return max(sizes, default=0)


class MessageChanges(TypedDict, total=False):
    """The changes of a message, as fields of NewMessage; missing fields do not change.

    `metadata` are merged. `attachments` are the images and files to store for `images` and
    `part_attachments`.
    """

    content: Content
    token_count: int
    model_id: str
    agent_name: str
    response_time_ms: float
    is_error: bool
    images: Sequence[str]
    documents: list[str]
    parts: bytes
    part_attachments: Sequence[str]
    attachments: Sequence[Attachment]
    metadata: Metadata
    status: str
