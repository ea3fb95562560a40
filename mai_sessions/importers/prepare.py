"""Make a conversation fit the limits of the service, and record what was cut."""

import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid5

from mai_sessions.content.attachments import Attachment, image_type
from mai_sessions.content.json_text import is_deeper
from mai_sessions.content.message import ROLES, STATUSES
from mai_sessions.content.metadata import read_metadata
from mai_sessions.content.parts import BrokenValue, Parts, read_parts, walk_strings
from mai_sessions.importers.model import Conversation, Image, Json, Message, UnreadableConversation
from mai_sessions.repository.imports import ImportedMessage, ImportedSession
from mai_sessions.schemas.fields import MAX_INTEGER
from mai_sessions.schemas.session_changes import DEFAULT_AGENT_NAME, DEFAULT_TITLE

_NAMESPACE = UUID("b5d6ab4c-9f0e-5f3c-8d2b-6b6d61692d73")
_MAX_NAME = 255
_MAX_AGENT_NAME = 100
_MAX_ITEMS = 20
# Deeper than any product writes, and within the limit of every JSON library.
_MAX_DEPTH = 64
# Texts of parts that are too large are cut to this length, then to a half of it, until the parts fit.
_LONG_TEXT = 64 * 1024
_SHORT_TEXT = 64


class Preparation:
    """A conversation that is being imported. `notes` counts the values that were changed to fit."""

    def __init__(
        self, conversation: Conversation, *, file_name: str, count_tokens: Callable[[str], int]
    ) -> None:
        """Derive the ids. Raises UnreadableConversation for an id of this service that is not a UUID."""
        self.conversation = conversation
        self.notes: Counter[str] = Counter()
        self._file_name = file_name
        self._count_tokens = count_tokens
        self._now = datetime.now(UTC)
        self._is_own = conversation.source == "mai"
        self._files = {file.sha256: file for file in conversation.files}
        self.session_id = self._id(conversation.id)
        self.ids = {message.id: self._id(conversation.id, message.id) for message in conversation.messages}
        self.created_at = self._past(conversation.created_at) or min(
            (moment for message in conversation.messages if (moment := self._past(message.created_at))),
            default=self._now,
        )

    @property
    def updated_at(self) -> datetime:
        """When the session was last written, as an export of this service says, or its newest message."""
        times = [self.created_at, self._past(self.conversation.updated_at) or self.created_at]
        if not self._is_own:
            times += [self.time_of(message) for message in self.conversation.messages]
        return max(times)

    def session(self) -> ImportedSession:
        """Return the session to create."""
        conversation, metadata = self.conversation, dict(self.conversation.metadata)
        if not self._is_own:
            metadata["import"] = self._origin()
        return ImportedSession(
            title=(conversation.title or "").strip()[:_MAX_NAME] or DEFAULT_TITLE,
            agent_name=(conversation.agent_name or "").strip()[:_MAX_AGENT_NAME] or DEFAULT_AGENT_NAME,
            model_id=(conversation.model_id or "")[:_MAX_NAME] or None,
            archived=conversation.archived,
            created_at=self.created_at,
            updated_at=self.updated_at,
            metadata=self._metadata(metadata),
        )

    def finished_origin(self) -> bytes | None:
        """Return the `import` of the metadata once everything is stored: it records the time of the newest
        message of the file.
        """
        if self._is_own:
            return None
        until = max(
            (self.time_of(message) for message in self.conversation.messages), default=self.created_at
        )
        return self._metadata({"import": {**self._origin(), "until": until.isoformat()}})

    def time_of(self, message: Message) -> datetime:
        """Return the time of a message."""
        return self._past(message.created_at) or self.created_at

    def message(self, message: Message, *, seq: int, parent_seq: int | None) -> ImportedMessage:
        """Return the row of a message. Reads its images."""
        parts = self._parts(message.parts)
        images, documents = self._images(message)
        metadata = dict(message.metadata)
        if not self._is_own:
            metadata["import"] = {"source": self.conversation.source, "id": message.id}
        content, count = message.content, message.token_count
        links = [self._files[link] for link in (parts.links if parts else ()) if link in self._files]
        return ImportedMessage(
            id=self.ids[message.id],
            seq=seq,
            parent_seq=parent_seq,
            role=message.role if message.role in ROLES else "user",
            content=content,
            token_count=self._count_tokens(content) if count is None else min(int(count), MAX_INTEGER),
            model_id=(message.model_id or "")[:_MAX_NAME] or None,
            agent_name=(message.agent_name or "")[:_MAX_AGENT_NAME] or None,
            response_time_ms=message.response_time_ms,
            is_error=message.is_error,
            images=[image.sha256 for image in images],
            documents=documents,
            parts=parts.json if parts else None,
            part_attachments=[each.sha256 for each in [*(parts.attachments if parts else ()), *links]],
            metadata=self._metadata(metadata),
            status=message.status if message.status in STATUSES else "complete",
            created_at=self.time_of(message),
            updated_at=self._past(message.updated_at),
            attachments=[*images, *(parts.attachments if parts else ()), *links],
        )

    def _id(self, conversation: str, message: str | None = None) -> UUID:
        path = [conversation] if message is None else [conversation, message]
        if not self._is_own:
            return uuid5(_NAMESPACE, "\n".join([self.conversation.source, *path]))
        try:
            return UUID(path[-1])
        except ValueError:
            raise UnreadableConversation(f"{path[-1]!r} is no UUID") from None

    def _origin(self) -> Json:
        conversation = self.conversation
        return {
            **conversation.origin,
            "source": conversation.source,
            "id": conversation.id,
            "file": self._file_name[:_MAX_NAME],
        }

    def _past(self, moment: datetime | None) -> datetime | None:
        return min(moment, self._now) if moment else None

    def _images(self, message: Message) -> tuple[list[Attachment], list[str]]:
        """Return the files whose bytes are an image, and the names of all other files."""
        images, documents = [], list(message.documents)
        for image in message.images:
            content = _load(image)
            content_type = image_type(content)
            if content_type is None:
                self.notes["images that cannot be read, kept by name"] += 1
                documents.append(image.name)
            else:
                images.append(Attachment(sha256(content).hexdigest(), content_type, content))
        documents = [name[:_MAX_NAME] for name in documents if name]
        for found, what in ((images, "images"), (documents, "names of documents")):
            if len(found) > _MAX_ITEMS:
                self.notes[f"{what} above {_MAX_ITEMS} of one message"] += len(found) - _MAX_ITEMS
                del found[_MAX_ITEMS:]
        return images, documents

    def _parts(self, parts: list[Json] | None) -> Parts | None:
        """Read parts. Texts are cut where the parts are too large."""
        if parts is None:
            return None
        if is_deeper(parts, _MAX_DEPTH):
            self.notes["parts nested too deeply, left out"] += 1
            return None
        longest = _LONG_TEXT
        while longest > _SHORT_TEXT:
            try:
                return read_parts(parts)
            except BrokenValue as error:
                if error.reason == "too_long":
                    self.notes["parts too large, texts in them cut"] += longest == _LONG_TEXT
                    _cut_texts(parts, longest)
                    longest //= 2
                else:
                    self.notes["values in parts that cannot be read"] += 1
                    _blank(parts, error.path)
        self.notes["parts too large, left out"] += 1
        return None

    def _metadata(self, metadata: Json) -> bytes:
        """Write metadata. Members that are too large or too deep are left out, the last first."""
        kept = {key: value for key, value in metadata.items() if value is not None}
        while kept:
            try:
                return read_metadata(kept).members
            except BrokenValue:
                self.notes["metadata too large, left out"] += 1
                origin = kept.get("import")
                if isinstance(origin, dict) and len(origin) > len(_ORIGIN):
                    kept["import"] = {key: value for key, value in origin.items() if key in _ORIGIN}
                else:
                    kept.popitem()
        return b"{}"


_ORIGIN = ("source", "id", "file", "until")


def _load(image: Image) -> bytes:
    try:
        return image.load()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError):
        return b""


def _cut_texts(parts: list[Json], longest: int) -> None:
    for container, key, _ in walk_strings(parts):
        if len(container[key]) > longest:
            container[key] = container[key][: longest - 1] + "…"


def _blank(parts: list[Json], path: tuple[Any, ...]) -> None:
    """Put "" in the place of a value."""
    container: Any = parts
    for key in path[:-1]:
        container = container[key]
    container[path[-1]] = ""
