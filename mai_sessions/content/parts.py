"""The structured content of a message: an array of objects, stored as the client sent it.

Only large data URLs change: they become attachments and are replaced by links.
"""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from mai_sessions.content.attachments import (
    LINK,
    MAX_FILE_NAME,
    Attachment,
    is_data_url,
    linked_sha256,
    read_data_url,
)

# Characters from which on a data URL is stored apart.
MIN_DATA_URL = 1024
# Bytes of the compact JSON, once the data URLs are links.
MAX_PARTS = 256 * 1024
TEXT_TYPES = ("text", "input_text", "output_text")
_NAME_KEYS = ("filename", "file_name", "fileName", "name")

Path = tuple[str | int, ...]


class BrokenValue(ValueError):
    """A value in the JSON breaks a rule. `path` leads to it; `reason` is a word for programs."""

    def __init__(self, path: Path, text: str, reason: str) -> None:
        super().__init__(text)
        # A lone surrogate in a key could not be written in the response either.
        self.path = tuple(
            key if isinstance(key, int) else key.encode("utf-8", "replace").decode() for key in path
        )
        self.reason = reason


class Parts(NamedTuple):
    """The parts of a message, ready to store.

    `json` is compact, `text` what a person reads of it, `attachments` what was cut out of it, `links` the
    SHA-256 of every attachment that it links to, those cut out included.
    """

    json: bytes
    text: str
    attachments: tuple[Attachment, ...]
    links: tuple[str, ...]


def read_parts(parts: list[Any]) -> Parts:
    """Take the large data URLs out of parts, and read their text.

    The value is changed in place. Raises BrokenValue for an item that is not an object, text that PostgreSQL
    cannot hold, a data URL that is not base64, and parts that are too large.
    """
    for index, part in enumerate(parts):
        if not isinstance(part, dict):
            raise BrokenValue((index,), "Not an object.", "invalid")
    attachments: dict[str, Attachment] = {}
    links: dict[str, None] = {}
    for container, key, path in walk_strings(parts):
        text: str = container[key]
        if len(text) >= MIN_DATA_URL and is_data_url(text):
            attachment = read_data_url(text, _file_name(container))
            if attachment is None:
                raise BrokenValue(path, "Not the base64 of a data URL.", "base64")
            sha256 = attachments.setdefault(attachment.sha256, attachment).sha256
        elif (linked := linked_sha256(text)) is None:
            continue
        else:
            sha256 = linked
        links[sha256] = None
        container[key] = LINK + sha256
    compact = dump_json(parts)
    if len(compact) > MAX_PARTS:
        raise BrokenValue((), f"{len(compact)} bytes of JSON, and the limit is {MAX_PARTS}.", "too_long")
    return Parts(compact, _text(parts), tuple(attachments.values()), tuple(links))


def walk_strings(value: Any) -> Iterator[tuple[Any, Any, Path]]:
    """Yield each string in arrays and objects, as its container, the key in it, and the path to it.

    Without recursion, in the order of the text. Raises BrokenValue at a string, or a key, with U+0000 or a
    lone surrogate.
    """
    pending: list[tuple[Any, Any, Path]] = [(value, key, (key,)) for key in reversed(_keys(value, ()))]
    while pending:
        container, key, path = pending.pop()
        inner = container[key]
        if isinstance(inner, str):
            check_text(inner, path)
            yield container, key, path
        elif isinstance(inner, dict | list):
            pending += [(inner, each, (*path, each)) for each in reversed(_keys(inner, path))]


def check_text(text: str, path: Path) -> None:
    """Raise BrokenValue for U+0000, which PostgreSQL cannot store, and for a lone surrogate, which UTF-8
    cannot encode.
    """
    if "\0" in text:
        raise BrokenValue(path, "Must not contain U+0000.", "nul")
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BrokenValue(path, "Must not contain a lone surrogate.", "surrogate") from None


def dump_json(value: Any) -> bytes:
    """Write compact JSON. Integers of any size keep their digits."""
    try:
        return orjson.dumps(value)
    except TypeError:
        # orjson knows integers of 64 bits.
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _keys(container: Any, path: Path) -> list[Any]:
    if isinstance(container, list):
        return list(range(len(container)))
    for key in container:
        check_text(key, (*path, key))
    return list(container)


def _file_name(container: Any) -> str | None:
    """The file name beside a data URL."""
    if not isinstance(container, dict):
        return None
    names = (container.get(key) for key in _NAME_KEYS)
    name = next((name for name in names if isinstance(name, str) and name.strip()), None)
    return None if name is None else name[:MAX_FILE_NAME]


def _text(parts: list[dict[str, Any]]) -> str:
    texts = (part.get("text") for part in parts if part.get("type") in TEXT_TYPES)
    return "\n\n".join(text for text in texts if isinstance(text, str))
