"""JSON as clients send it: every integer keeps its digits, and what cannot be kept is named by its path."""

import json
import string
from typing import Any

import orjson

from mai_sessions.content.parts import BrokenValue, Path, walk_strings

# orjson makes a float of an integer of more than 64 bits, and keeps the last value of a repeated key. A
# regular expression of 19 digits takes longer than this translation.
_LONG_INTEGER = b"0" * 19
_DIGITS_AS_ZEROS = bytes(ord("0" if chr(code) in string.digits else " ") for code in range(256))
_PIECE = 1024 * 1024


class RepeatedKey(str):
    """A key that its object repeats later. It equals no other key, so that a dict has both."""

    __slots__ = ()
    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


def parse_json(body: bytes) -> Any:
    """Parse JSON (RFC 8259) in UTF-8.

    Of a repeated key, all but the last are a RepeatedKey. Raises BrokenValue: with the path of a lone
    surrogate, or without a path for what is not JSON, and for an integer longer than Python reads (4,300
    digits).
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "surrogate" in str(error):
            _raise_for_surrogate(body)
        raise BrokenValue((), str(error), "json") from None
    if _has_long_integer(body) or _has_repeated_keys(body, value):
        try:
            return json.loads(body, object_pairs_hook=_read_object)
        except RecursionError:
            raise BrokenValue((), "Nested too deep.", "too_deep") from None
        except ValueError as error:
            raise BrokenValue((), str(error), "json") from None
    return value


def _has_long_integer(body: bytes) -> bool:
    pieces = (body[start : start + _PIECE + len(_LONG_INTEGER)] for start in range(0, len(body), _PIECE))
    return any(_LONG_INTEGER in piece.translate(_DIGITS_AS_ZEROS) for piece in pieces)


def without_escaped_quotes(body: bytes) -> bytes:
    """Return JSON without escaped backslashes and quotation marks. Each quotation mark that is left begins or
    ends a string, so of the pieces between them every second one is outside of strings.
    """
    return body.replace(rb"\\", b"").replace(rb"\"", b"")


def _has_repeated_keys(body: bytes, value: Any) -> bool:
    keys = _count_keys(value)
    if body.count(b":") == keys:
        return False
    # Texts hold colons too.
    return sum(piece.count(b":") for piece in without_escaped_quotes(body).split(b'"')[::2]) > keys


def _count_keys(value: Any) -> int:
    keys, pending = 0, [value]
    while pending:
        inner = pending.pop()
        if isinstance(inner, dict):
            keys += len(inner)
            pending += inner.values()
        elif isinstance(inner, list):
            pending += inner
    return keys


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    last = {key: place for place, (key, _) in enumerate(pairs)}
    return {
        key if place == last[key] else RepeatedKey(key): member for place, (key, member) in enumerate(pairs)
    }


def check_keys(value: Any) -> None:
    """Raise BrokenValue, with its path, for a repeated key."""
    pending: list[tuple[Any, Path]] = [(value, ())]
    while pending:
        inner, path = pending.pop()
        if isinstance(inner, dict):
            for key, member in inner.items():
                if isinstance(key, RepeatedKey):
                    raise BrokenValue((*path, key), "The key is repeated.", "repeated")
                pending.append((member, (*path, key)))
        elif isinstance(inner, list):
            pending += [(member, (*path, index)) for index, member in enumerate(inner)]


def _raise_for_surrogate(body: bytes) -> None:
    """Raise BrokenValue for the first string with a lone surrogate, if the text is JSON otherwise."""
    try:
        # The standard library lets surrogates pass.
        value = json.loads(body)
    except (ValueError, RecursionError):
        return
    check_strings(value)


def check_strings(value: Any) -> None:
    """Raise BrokenValue, with its path, for a string or key with U+0000 or a lone surrogate."""
    try:
        for _ in walk_strings([value]):
            pass
    except BrokenValue as error:
        raise BrokenValue(error.path[1:], str(error), error.reason) from None


def is_deeper(value: Any, limit: int) -> bool:
    """Return whether arrays and objects hold more than `limit` levels of arrays and objects."""
    level = [value]
    for _ in range(limit + 1):
        level = [outer for outer in level if isinstance(outer, dict | list)]
        if not level:
            return False
        level = [inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer)]
    return True
