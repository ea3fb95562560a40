"""Shared by both clients: the parameters, headers and bodies of requests, and the retries."""

import base64
import json
import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

# The request had no effect.
_WITHOUT_EFFECT = (408, 429)
# It is unknown whether the request had an effect.
_UNKNOWN = (502, 503, 504)
_RUNNING = 409
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0


class Unset:
    """The type of UNSET: the default of a parameter for which None has a meaning."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET = Unset()


@dataclass(slots=True)
class Retries:
    """Decides how long to wait before a request is sent again, and when to give up.

    `deadline` is a time of `time.monotonic()`. A repeated deletion finds nothing, whatever its condition.
    """

    deadline: float
    is_deletion: bool = False
    attempts: int = 0

    def pause(self, outcome: httpx.Response | httpx.TransportError, now: float) -> float | None:
        """Return the seconds before the next attempt, or None if there is no next attempt."""
        if not self._is_temporary(outcome):
            return None
        self.attempts += 1
        # Without jitter, clients that failed together would retry together.
        jitter = random.uniform(0.5, 1)  # noqa: S311 - only spreads the retries
        backoff = jitter * min(_FIRST_PAUSE * 2 ** (self.attempts - 1), _LONGEST_PAUSE)
        wanted = _retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        pause = max(backoff, wanted or 0)
        return pause if now + pause <= self.deadline else None

    def _is_temporary(self, outcome: httpx.Response | httpx.TransportError) -> bool:
        """Return whether the same request may succeed later, without a second effect."""
        headers = outcome.request.headers
        has_key = "Idempotency-Key" in headers
        # Without a key, a change makes its own condition untrue: the repetition would be Stale.
        is_repeatable = has_key or self.is_deletion or "If-Match" not in headers
        if isinstance(outcome, httpx.TransportError):
            return is_repeatable
        status = outcome.status_code
        return (
            status in _WITHOUT_EFFECT
            or (status in _UNKNOWN and is_repeatable)
            or (status == _RUNNING and has_key)
        )


def _retry_after(response: httpx.Response) -> float | None:
    """Return the seconds that Retry-After asks for, written as a number or as an HTTP date."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None


def new_key() -> str:
    """Return a new Idempotency-Key."""
    return str(uuid.uuid4())


def condition_headers(
    *, key: str | None = None, if_match: str | None = None, if_none_match: str | None = None
) -> dict[str, str]:
    """Return the headers of a conditional request, or of a write with a key."""
    headers = {"Idempotency-Key": key, "If-Match": if_match, "If-None-Match": if_none_match}
    return {name: value for name, value in headers.items() if value is not None}


def range_header(byte_range: tuple[int, int | None] | None) -> dict[str, str]:
    """Return the header that asks for a range of bytes."""
    if byte_range is None:
        return {}
    first, last = byte_range
    return {"Range": f"bytes={first}-{'' if last is None else last}"}


def query(**values: Any) -> dict[str, str]:
    """Return the query parameters that are not None, as text."""
    return {name: _query_text(value) for name, value in values.items() if value is not None}


def _query_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value)
    return value.isoformat() if isinstance(value, date) else str(value)


def body(**values: Any) -> dict[str, Any]:
    """Return the members that are given. None means "not given", except for `parent_id`: no parent."""
    return {
        name: _member(name, value)
        for name, value in values.items()
        if value is not UNSET and (value is not None or name == "parent_id")
    }


def _member(name: str, value: Any) -> Any:
    """Return a member as JSON: images in base64, times in ISO 8601."""
    if name == "images":
        return [base64.b64encode(image).decode() if isinstance(image, bytes) else image for image in value]
    if name == "messages":
        return [{key: _member(key, item) for key, item in message.items()} for message in value]
    return value.isoformat() if isinstance(value, datetime) else value
