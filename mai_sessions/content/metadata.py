"""The metadata of a session or a message: a JSON object whose top level a PATCH merges."""

from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from mai_sessions.content.json_text import check_keys, check_strings, is_deeper
from mai_sessions.content.parts import BrokenValue

# Bytes of the compact JSON, and levels of arrays and objects.
MAX_METADATA = 16 * 1024
MAX_DEPTH = 32
_INTEGERS_OF_ORJSON = range(-(2**63), 2**64)


class Metadata(NamedTuple):
    """Metadata as given, and as a change of what is stored (RFC 7396, for the top level alone).

    `value` is all of it as compact JSON; `members` the members that are not null; `removed` the keys of those
    that are.
    """

    value: bytes
    members: bytes
    removed: tuple[str, ...]


NO_METADATA = Metadata(b"{}", b"{}", ())


def read_metadata(value: dict[str, Any]) -> Metadata:
    """Read metadata.

    Raises BrokenValue for text that PostgreSQL cannot hold, for a repeated key, of which jsonb would keep the
    last value, for more than MAX_DEPTH levels, and for more than MAX_METADATA bytes.
    """
    check_strings(value)
    check_keys(value)
    if is_deeper(value, MAX_DEPTH):
        raise BrokenValue((), f"Nested deeper than {MAX_DEPTH}.", "too_deep")
    value = _write_out(value)
    compact = orjson.dumps(value)
    if len(compact) > MAX_METADATA:
        raise BrokenValue((), f"{len(compact)} bytes of JSON, and the limit is {MAX_METADATA}.", "too_long")
    removed = tuple(key for key, member in value.items() if member is None)
    if not removed:
        return Metadata(compact, compact, ())
    members = {key: member for key, member in value.items() if member is not None}
    return Metadata(compact, orjson.dumps(members), removed)


def _write_out(value: Any) -> Any:
    """Return a value whose numbers orjson writes as jsonb does: with all digits, and without exponents.

    A float keeps a fraction: as an integer, 1e23 would be another number for Python.
    """
    if isinstance(value, dict):
        return {key: _write_out(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_write_out(member) for member in value]
    if isinstance(value, int) and value not in _INTEGERS_OF_ORJSON:
        return orjson.Fragment(str(value))
    if isinstance(value, float) and "e" in repr(value):
        digits = f"{Decimal(repr(value)):f}"
        return orjson.Fragment(digits if "." in digits else f"{digits}.0")
    return value
