"""Idempotency keys: how a retry is recognized."""

from typing import NamedTuple

from mai_sessions.errors import KeyReused


class IdempotencyKey(NamedTuple):
    """The caller's key, the path that it was sent to, and the SHA-256 of the body."""

    path: str
    key: str
    fingerprint: bytes


# No request has an empty key.
NO_KEY = IdempotencyKey("", "", b"")


def check_same_body(same: bool) -> None:
    """Raise KeyReused unless the key was used with the same body."""
    if not same:
        raise KeyReused
