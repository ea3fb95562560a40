"""The record of the request that this thread serves, for the log, the metrics and the response."""

import re
import time
from contextvars import ContextVar
from dataclasses import dataclass, field

from mai_sessions.ids import new_name

_WELL_FORMED = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}").fullmatch


@dataclass(slots=True)
class RequestRecord:
    """One request. Times are in seconds, sizes in bytes. `reasons` are the types of the validation errors;
    `queue_seconds` is the time that the request waited for a thread, `outage` why a server that it needs did
    not respond.
    """

    request_id: str
    method: str
    started: float = field(default_factory=time.perf_counter)
    route: str | None = None
    user_id: str | None = None
    status: int = 500
    size: int = 0
    queue_seconds: float = 0.0
    statements: int = 0
    round_trips: int = 0
    statement_seconds: float = 0.0
    replayed: bool = False
    replica_fallbacks: int = 0
    reasons: list[str] = field(default_factory=list)
    outage: str | None = None


# The key of the WSGI environment in which the worker passes `queue_seconds`.
QUEUE_SECONDS = "mai_sessions.queue_seconds"

# None if this thread serves no request.
current: ContextVar[RequestRecord | None] = ContextVar("request_record", default=None)


def request_id(given: str) -> str:
    """Return the caller's id of a request if it is well-formed, otherwise a new one.

    The id is in the response and in the log, so that a caller can match its own log.
    """
    return given if _WELL_FORMED(given) else new_name()
