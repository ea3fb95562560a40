"""JSON as clients send it: every integer keeps its digits, and what no database can hold is named by its
path.
"""

import json
import re
from typing import Any

import orjson

from mai_sessions.content.parts import BrokenValue, walk_strings

# orjson makes a float of an integer of more than 64 bits.
_LONG_INTEGER = re.compile(rb"\d{19}")


def parse_json(body: bytes) -> Any:
    """Parse JSON (RFC 8259) in UTF-8.

    Raises BrokenValue: with the path of a lone surrogate, or without a path for what is not JSON, and for an
    integer longer than Python reads (4,300 digits).
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if "surrogate" in str(error):
            _raise_for_surrogate(body)
        raise BrokenValue((), str(error), "json") from None
    if _LONG_INTEGER.search(body):
        try:
            return json.loads(body)
        except ValueError as error:
            raise BrokenValue((), str(error), "json") from None
    return value


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
