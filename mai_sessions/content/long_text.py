"""Long texts of a JSON body, which stay UTF-8 on their way to PostgreSQL.

A str takes four bytes for each character as soon as one of them is an emoji, so a text of 60 MB would become
240 MB. Besides the base64 of images and files, only the content of a message may be longer than 256 KiB.
"""

import codecs
import re
from collections.abc import Iterator
from secrets import token_hex
from typing import Any, NamedTuple

import orjson

from mai_sessions.content.parts import MAX_PARTS, BrokenValue, Path

# The shortest text that stays UTF-8, in bytes of JSON.
MIN_LONG_TEXT = 64 * 1024
_PIECE = 64 * 1024

# Without backtracking, which would take memory for each escape.
_STRING = re.compile(rb'"([^"\\]*+(?:\\.[^"\\]*+)*+)"', re.DOTALL)
_CONTROL = re.compile(rb"[\x00-\x1f]")
_ESCAPE = rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^u]|u)"
# Escapes that stand close together are decoded together.
_ESCAPES = re.compile(rb"%b(?:[^\\]{0,64}+%b){0,1000}+" % (_ESCAPE, _ESCAPE), re.DOTALL)


class LongText(NamedTuple):
    """A text as UTF-8."""

    utf8: bytes


Content = str | LongText


def utf8_size(text: Content) -> int:
    """Return the bytes of a text in UTF-8."""
    if isinstance(text, LongText):
        return len(text.utf8)
    return len(text) if text.isascii() else len(text.encode())


def head(text: Content, size: int) -> str:
    """Return the first `size` characters."""
    if isinstance(text, str):
        return text[:size]
    return text.utf8[: 4 * size].decode(errors="ignore")[:size]


def pieces(text: Content, size: int) -> Iterator[str]:
    """Yield a text in pieces of `size` characters; the last one may be shorter."""
    if isinstance(text, str):
        yield from (text[start : start + size] for start in range(0, len(text), size))
        return
    decoder, rest = codecs.getincrementaldecoder("utf-8")(), ""
    for start in range(0, len(text.utf8), size):
        rest += decoder.decode(text.utf8[start : start + size])
        while len(rest) >= size:
            yield rest[:size]
            rest = rest[size:]
    if rest := rest + decoder.decode(b"", final=True):
        yield rest


def as_json(text: Content) -> str | orjson.Fragment:
    """Return what orjson writes as this text."""
    return text if isinstance(text, str) else orjson.Fragment(dump_text(text))


def dump_text(text: LongText) -> bytes:
    """Write a text as a JSON string."""
    return b"".join((b'"', *(orjson.dumps(piece)[1:-1] for piece in pieces(text, _PIECE)), b'"'))


def read_json(literal: bytes) -> Content:
    """Read a JSON string."""
    if len(literal) < MIN_LONG_TEXT:
        text: str = orjson.loads(literal)
        return text
    return _decode(literal[1:-1], ())


def cut_long_texts(body: bytes) -> tuple[bytes, dict[str, bytes]]:
    """Replace the long texts of a JSON body by markers, and return the body and the inside of each string."""
    if len(body) < MIN_LONG_TEXT:
        return body, {}
    # No body can contain it.
    secret = token_hex()
    texts: dict[str, bytes] = {}
    rest, end = [], 0
    for found in _STRING.finditer(body):
        if found.end() - found.start() < MIN_LONG_TEXT:
            continue
        marker = f"{secret}{len(texts)}"
        texts[marker] = found[1]
        rest += [body[end : found.start()], b'"%s"' % marker.encode()]
        end = found.end()
    return b"".join((*rest, body[end:])), texts


def restore_long_texts(value: Any, texts: dict[str, bytes]) -> None:
    """Put the texts where the markers stand: a LongText where a content may be, else a str. Of one that is
    not ASCII only the beginning, as more than MAX_PARTS is ignored or refused anyway.

    Takes the texts out of `texts`. Raises BrokenValue, with the path of the text, for a lone surrogate,
    and for what is not JSON.
    """
    pending: list[tuple[Any, Path]] = [(value, ())] if texts else []
    while pending:
        container, path = pending.pop()
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            inner = container[key]
            if isinstance(inner, dict | list):
                pending.append((inner, (*path, key)))
            elif isinstance(inner, str) and inner in texts:
                text = _decode(texts.pop(inner), (*path, key))
                container[key] = text if _may_be_content((*path, key)) else _shortened(text)
            if isinstance(key, str) and key in texts:
                container[_shortened(_decode(texts.pop(key), path))] = container.pop(key)


def _may_be_content(path: Path) -> bool:
    match path:
        case ("content",) | ("messages", _, "content"):
            return True
    return False


def _shortened(text: LongText) -> str:
    return text.utf8.decode() if text.utf8.isascii() else head(text, MAX_PARTS)


def _decode(literal: bytes, path: Path) -> LongText:
    """Decode the inside of a JSON string."""
    if _CONTROL.search(literal):
        raise BrokenValue((), "a control character in a string", "json")
    try:
        text = LongText(_ESCAPES.sub(_decode_escapes, literal) if b"\\" in literal else literal)
        for _ in pieces(text, _PIECE):
            pass
    except UnicodeDecodeError as error:
        raise BrokenValue((), error.reason, "json") from None
    except orjson.JSONDecodeError as error:
        if "surrogate" in str(error):
            raise BrokenValue(path, "Must not contain a lone surrogate.", "surrogate") from None
        raise BrokenValue((), error.msg, "json") from None
    return text


def _decode_escapes(found: re.Match[bytes]) -> bytes:
    text: str = orjson.loads(b'"%b"' % found[0])
    return text.encode()
