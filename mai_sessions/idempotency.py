"""What a retry is told by."""

from typing import NamedTuple

from mai_sessions.errors import Invalid


class IdempotencyKey(NamedTuple):
    """The caller's key, the path that it was sent to, and the SHA-256 of the body."""

    path: str
    key: str
    fingerprint: bytes


# What no request sends: a key has a character at least.
NO_KEY = IdempotencyKey("", "", b"")


def check_same_body(same: bool) -> None:
    """Refuse a key that was used with another body. Raises Invalid."""
    if not same:
        text = "This Idempotency-Key was used with another body"
        raise Invalid(text, [{"loc": ["header", "Idempotency-Key"], "msg": text, "type": "reused"}])
