"""The metadata of a session or a message: a JSON object whose top level a PATCH merges."""

from typing import Any, NamedTuple

from mai_sessions.content.json_text import check_keys, check_strings, is_deeper
from mai_sessions.content.parts import BrokenValue, dump_json

# Bytes of the compact JSON, and levels of arrays and objects.
MAX_METADATA = 16 * 1024
MAX_DEPTH = 32


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
    compact = dump_json(value)
    size = len(compact) + _digits_without_exponents(value)
    if size > MAX_METADATA:
        raise BrokenValue((), f"{size} bytes of JSON, and the limit is {MAX_METADATA}.", "too_long")
    removed = tuple(key for key, member in value.items() if member is None)
    if not removed:
        return Metadata(compact, compact, ())
    members = {key: member for key, member in value.items() if member is not None}
    return Metadata(compact, dump_json(members), removed)


def _digits_without_exponents(value: Any) -> int:
    """The digits that jsonb adds to numbers such as 1e300, which it writes out."""
    digits, pending = 0, [value]
    while pending:
        inner = pending.pop()
        if isinstance(inner, dict):
            pending += inner.values()
        elif isinstance(inner, list):
            pending += inner
        elif isinstance(inner, float):
            digits += abs(int(repr(inner).partition("e")[2] or 0))
    return digits
