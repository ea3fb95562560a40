"""JSON of any size and depth, one conversation at a time.

`elements` cuts a document into conversations by its brackets alone, and `parse` reads one of them. Memory is
bounded by the largest conversation, and a malformed one leaves the others readable.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Protocol

import orjson

from mai_sessions.importers.model import UnreadableConversation, UnreadableFile

MAX_ELEMENT_BYTES = 512 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_BOM = b"\xef\xbb\xbf"
# The first bytes of archives of other programs.
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"7z\xbc\xaf": "7-Zip",
    b"Rar!": "RAR",
}

_NEXT_BRACKET = re.compile(rb'(?:[^"{}\[\]]++|"(?:[^"\\]++|\\.)*+")*+([{}\[\]])', re.DOTALL)
_CONVERSATIONS_KEY = re.compile(rb'"conversations"\s*:\s*\Z')
# Deeper than any element: the rest of an object after its conversations.
_NOWHERE = 2**31

_STRUCTURE = re.compile(r"[ \t\r\n,:]*+([{\[]|[}\]])?")
_LONG_INTEGER = re.compile(rb"[\[:,]\s*-?\d{19}")
# PostgreSQL cannot store U+0000 and half of a surrogate pair.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Readable(Protocol):
    """A stream of bytes; fewer than asked for only at its end."""

    def read(self, size: int, /) -> bytes: ...


def elements(stream: Readable) -> Iterator[bytes]:
    """Yield each element of an array or of `{"conversations": […]}`, each object of NDJSON, or the only
    object. Text between them that is no element is yielded too, and refused by `parse`.

    Raises UnreadableFile for what is not JSON, ends too early, or has an element of more than
    MAX_ELEMENT_BYTES.
    """
    buffer = bytearray(stream.read(_CHUNK_BYTES).removeprefix(_BOM))
    _check_beginning(bytes(buffer[:_CHUNK_BYTES]))
    depth = element_depth = position = 0
    start: int | None = None
    while True:
        while match := _NEXT_BRACKET.match(buffer, position):
            bracket, previous, position = match.start(1), position, match.end()
            if start is None and depth in (0, element_depth) and (odd := _odd(buffer[previous:bracket])):
                yield odd
            if buffer[bracket] in b"{[":
                if depth == 0:
                    element_depth = int(buffer[bracket] == ord("["))
                elif (
                    depth == 1 and element_depth == 0 and _CONVERSATIONS_KEY.search(buffer, previous, bracket)
                ):
                    element_depth = 2
                    start = None
                if depth == element_depth:
                    start = bracket
                depth += 1
                continue
            depth -= 1
            if depth == element_depth and start is not None:
                yield bytes(buffer[start:position])
                start = None
            elif depth < element_depth:
                element_depth = _NOWHERE
        keep = position if start is None else start
        del buffer[:keep]
        position -= keep
        start = None if start is None else 0
        if len(buffer) > MAX_ELEMENT_BYTES:
            raise UnreadableFile(f"it holds a conversation of more than {MAX_ELEMENT_BYTES // 2**20} MiB")
        # The buffer doubles, so that a long string is scanned a few times and not once for each chunk.
        chunk = stream.read(max(_CHUNK_BYTES, len(buffer)))
        if not chunk:
            break
        buffer += chunk
    yield from _ending(buffer[position:], depth)


def _ending(rest: bytearray, depth: int) -> Iterator[bytes]:
    if depth:
        raise UnreadableFile("it ends too early: it was not downloaded or copied completely")
    if odd := _odd(rest):
        yield odd


def _odd(text: bytearray) -> bytes:
    """Return what stands between two elements beside blanks and commas."""
    return bytes(text.strip(b" \t\r\n,"))


def _check_beginning(first: bytes) -> None:
    if not first.strip():
        raise UnreadableFile("it is empty")
    if first.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in first[:2]:
        raise UnreadableFile("it is UTF-16; save it as UTF-8")
    for beginning, name in _PACKED.items():
        if first.startswith(beginning):
            raise UnreadableFile(f"it is packed by {name}: unpack it first")
    if first[257:262] == b"ustar":
        raise UnreadableFile("it is a tar file: unpack it first")
    if first.lstrip()[:1] not in (b"{", b"["):
        raise UnreadableFile("it is neither a zip file nor JSON")


def parse(element: bytes) -> tuple[Any, int]:
    """Return the value of an element, and how many characters were replaced by U+FFFD because PostgreSQL
    cannot store them.

    Raises UnreadableConversation for malformed JSON.
    """
    if rb"\u0000" not in element:
        try:
            value = orjson.loads(element)
            # orjson makes a float of an integer of more than 64 bits.
            return (json.loads(element) if _LONG_INTEGER.search(element) else value), 0
        except (orjson.JSONDecodeError, RecursionError):
            # Half a surrogate pair, bytes that are not UTF-8, or nesting too deep for parsers that recurse.
            pass
    text = element.decode("utf-8", errors="replace")
    value, replaced = _parse_iteratively(text)
    return value, replaced + (text.count(_REPLACEMENT) - element.count(_REPLACEMENT.encode()))


_SCALARS = json.JSONDecoder(strict=False)


class _Builder:
    """Puts values into the innermost open container."""

    def __init__(self) -> None:
        self.root: list[Any] = []
        self.replaced = 0
        self._open: list[dict[str, Any] | list[Any]] = [self.root]
        self._key: str | None = None

    @property
    def depth(self) -> int:
        return len(self._open) - 1

    def add(self, value: Any) -> None:
        """Add a value or the key of one. Raises UnreadableConversation for a value in the place of a key."""
        if isinstance(value, str):
            value, count = _UNSTORABLE.subn(_REPLACEMENT, value)
            self.replaced += count
        container = self._open[-1]
        if isinstance(container, list):
            container.append(value)
        elif self._key is not None:
            container[self._key] = value
            self._key = None
        elif isinstance(value, str):
            self._key = value
        else:
            raise UnreadableConversation("it is malformed JSON")

    def enter(self, container: dict[str, Any] | list[Any]) -> None:
        self.add(container)
        self._open.append(container)

    def leave(self, bracket: str) -> None:
        """Close the innermost container. Raises UnreadableConversation for the other kind of bracket."""
        if isinstance(self._open.pop(), dict) != (bracket == "}"):
            raise UnreadableConversation("it is malformed JSON")
        self._key = None


def _parse_iteratively(text: str) -> tuple[Any, int]:
    """Parse an object or array without recursion. It is lenient about commas."""
    builder, position = _Builder(), 0
    while match := _STRUCTURE.match(text, position):
        position = match.end()
        if match[1] in ("{", "["):
            builder.enter({} if match[1] == "{" else [])
        elif match[1]:
            builder.leave(match[1])
            if not builder.depth:
                break
        else:
            try:
                value, position = _SCALARS.raw_decode(text, position)
            except ValueError as error:
                raise UnreadableConversation("it is malformed JSON") from error
            builder.add(value)
    return builder.root[0], builder.replaced
