"""What both clients share: how a request is built, when it is repeated, and what a body holds."""

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

# A proxy's 502 and 504 say nothing of whether the request arrived: the same key makes the repetition safe.
_REPEATED = (429, 502, 503, 504)
_RUNNING = 409
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 10.0


class Unset:
    """The value of a parameter that was not given, where None means something."""

    def __repr__(self) -> str:
        return "UNSET"

    def __bool__(self) -> bool:
        return False


UNSET = Unset()


@dataclass(slots=True)
class Retries:
    """Decides how long to wait before a request is sent again, and when to give up.

    `deadline` is a time of `time.monotonic()`.
    """

    deadline: float
    attempts: int = 0

    def pause(self, outcome: httpx.Response | httpx.TransportError, now: float) -> float | None:
        """Give the seconds to wait before the next attempt; None when there is none."""
        if isinstance(outcome, httpx.Response):
            is_running = outcome.status_code == _RUNNING and "Idempotency-Key" in outcome.request.headers
            if outcome.status_code not in _REPEATED and not is_running:
                return None
        self.attempts += 1
        # Clients that were refused together must not come back together. No secret depends on it.
        jitter = random.uniform(0.5, 1)  # noqa: S311 - only spreads the retries
        backoff = jitter * min(_FIRST_PAUSE * 2 ** (self.attempts - 1), _LONGEST_PAUSE)
        wanted = _retry_after(outcome) if isinstance(outcome, httpx.Response) else None
        pause = max(backoff, wanted or 0)
        return pause if now + pause <= self.deadline else None


def _retry_after(response: httpx.Response) -> float | None:
    """Read seconds or an HTTP date."""
    value = response.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None


def new_key() -> str:
    """Make an Idempotency-Key."""
    return str(uuid.uuid4())


def condition_headers(
    *, key: str | None = None, if_match: str | None = None, if_none_match: str | None = None
) -> dict[str, str]:
    """Give the headers of a conditional or repeatable write."""
    headers = {"Idempotency-Key": key, "If-Match": if_match, "If-None-Match": if_none_match}
    return {name: value for name, value in headers.items() if value is not None}


def query(**values: Any) -> dict[str, str]:
    """Give the query parameters that were given, as text."""
    return {name: _query_text(value) for name, value in values.items() if value is not None}


def _query_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return json.dumps(value)
    return value.isoformat() if isinstance(value, date) else str(value)


def body(**values: Any) -> dict[str, Any]:
    """Give the members that were given. None is "not given", but for a `parent_id`: there it means none."""
    return {
        name: _member(name, value)
        for name, value in values.items()
        if value is not UNSET and (value is not None or name == "parent_id")
    }


def _member(name: str, value: Any) -> Any:
    """Give a value as JSON can say it: images as base64, times as ISO 8601."""
    if name == "images":
        return [base64.b64encode(image).decode() if isinstance(image, bytes) else image for image in value]
    if name == "messages":
        return [{key: _member(key, item) for key, item in message.items()} for message in value]
    return value.isoformat() if isinstance(value, datetime) else value
