"""Recognize a file by its content, and read its conversations one at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from mai_sessions.importers import chatgpt, claude, librechat, mai, openwebui
from mai_sessions.importers.container import Document, open_container
from mai_sessions.importers.json_stream import parse
from mai_sessions.importers.model import Conversation, Json, UnreadableConversation, UnreadableFile

SOURCES: dict[str, ModuleType] = {
    "chatgpt": chatgpt,
    "claude": claude,
    "openwebui": openwebui,
    "librechat": librechat,
    "mai": mai,
}
# The first entries decide, as the lists of some products contain entries without messages.
_ENTRIES_TO_DETECT = 50


@dataclass(slots=True)
class Refused:
    """A conversation that cannot be read, and why."""

    id: str
    title: str
    reason: str


@dataclass(slots=True)
class _Part:
    """A document of an export: its source and number of conversations, or why it was passed over."""

    document: Document
    source: str = ""
    count: int = 0
    reason: str = ""


class Export:
    """A file of exported conversations, open for reading.

    Opening reads the whole file once, so that a file that is incomplete or of another kind is refused before
    anything of it is stored. Raises UnreadableFile.
    """

    def __init__(self, path: Path, source: str | None = None) -> None:
        self._container = open_container(path)
        try:
            parts = [_inspect(document, source) for document in self._container.documents]
            self._parts = [part for part in parts if part.source]
            if not self._parts:
                raise UnreadableFile(_nothing_found(parts, source))
        except BaseException:
            self._container.close()
            raise
        self.ignored = [part.document.name for part in parts if not part.source]
        self.count = sum(part.count for part in self._parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def sources(self) -> list[str]:
        """The products that the conversations come from."""
        return list(dict.fromkeys(part.source for part in self._parts))

    def conversations(self) -> Iterator[Conversation | Refused]:
        """Yield each conversation, or why it cannot be read."""
        for part in self._parts:
            read = SOURCES[part.source].read
            for number, element in enumerate(part.document.elements(), 1):
                yield self._read(element, read, f"{part.document.name} #{number}")

    def _read(self, element: bytes, read: Callable[..., Conversation], place: str) -> Conversation | Refused:
        value: Any = None
        try:
            value, replaced = parse(element)
            if not isinstance(value, dict):
                raise UnreadableConversation("it is not an object")
            conversation = read(value, self._container.files)
            if not conversation.id:
                raise UnreadableConversation("it has no id")
        except UnreadableConversation as error:
            found: Json = value if isinstance(value, dict) else {}
            names = [found.get(name) for name in ("title", "name")]
            title = next((name for name in names if isinstance(name, str) and name), place)
            identifier = next(
                (found[name] for name in ("id", "uuid") if isinstance(found.get(name), str)), place
            )
            return Refused(identifier, title, str(error))
        if replaced:
            conversation.notes.append(f"characters that cannot be stored, now U+FFFD: {replaced}")
        return conversation


def _inspect(document: Document, wanted: str | None) -> _Part:
    """Detect a document's source and count its conversations, reading all of it."""
    part, owners = _Part(document), set()
    try:
        for element in document.elements():
            part.count += 1
            if not part.source and part.count <= _ENTRIES_TO_DETECT:
                part.source = _detect(element, wanted)
            if part.source == "openwebui":
                owners.add(_owner(element))
    except UnreadableFile as error:
        if part.source:
            raise
        part.reason = str(error)
    if len(owners - {""}) > 1:
        raise UnreadableFile(
            f"it holds the chats of {len(owners - {''})} users: have each of them export their own"
        )
    return part


def _detect(element: bytes, wanted: str | None) -> str:
    value = _object(element)
    return next((name for name in ([wanted] if wanted else SOURCES) if SOURCES[name].detect(value)), "")


def _owner(element: bytes) -> str:
    return openwebui.owner(_object(element))


def _object(element: bytes) -> Json:
    """Return an element, and {} for one that is refused when it is read."""
    try:
        value, _ = parse(element)
    except UnreadableConversation:
        return {}
    return value if isinstance(value, dict) else {}


def _nothing_found(parts: list[_Part], wanted: str | None) -> str:
    if not parts:
        return "it is a zip file without JSON documents"
    if len(parts) == 1 and parts[0].reason:
        return parts[0].reason
    if not any(part.count for part in parts):
        return "it holds no conversations"
    return f"it holds no conversations of {wanted or 'a kind that is known: ' + ', '.join(SOURCES)}"
