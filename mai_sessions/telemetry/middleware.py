"""Writes a log line and metrics for each request, also for one that fails or whose client disconnects."""

import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Flask, Response, request
from werkzeug.exceptions import ServiceUnavailable

from mai_sessions.telemetry.logs import describe, log_request
from mai_sessions.telemetry.metrics import Metrics
from mai_sessions.telemetry.request_record import QUEUE_SECONDS, RequestRecord, current, request_id

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

log = logging.getLogger(__name__)

# With this header, whatever its value, the response has Server-Timing.
_TIMING_HEADER = "HTTP_X_SERVER_TIMING"
# A client can invent methods, which must not become labels.
_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"})

# Load balancers and monitors request these every few seconds.
_PROBES = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})


@cache
def _template(rule: str) -> str:
    """Write a rule of werkzeug as a path of OpenAPI: /sessions/{session_id}."""
    return re.sub(r"<(?:[^<>:]+:)?(\w+)>", r"{\1}", rule)


def init_app(app: Flask, metrics: Metrics) -> None:
    """Log and measure every request of the application."""
    app.after_request(_complete_record)
    app.wsgi_app = RequestLogMiddleware(app.wsgi_app, metrics)  # type: ignore[method-assign]


class RequestLogMiddleware:
    """Logs and measures a request when its last byte is sent or its client has disconnected, which no hook of
    Flask can see.
    """

    def __init__(self, app: "WSGIApplication", metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        # Finding the histogram of the labels takes as long as the observation itself.
        self._histogram = cache(metrics.request_duration.labels)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        record = RequestRecord(
            request_id(environ.get("HTTP_X_REQUEST_ID", "")),
            environ["REQUEST_METHOD"],
            queue_seconds=environ.get(QUEUE_SECONDS, 0.0),
        )
        current.set(record)
        self._metrics.request_begins()
        try:
            return _ClosingBody(self._app(environ, start_response), record, self._finish)
        except BaseException:
            self._finish(record)
            raise

    def _finish(self, record: RequestRecord) -> None:
        # The server closes the body while it handles the error for which it does not send it, or not whole.
        error = sys.exc_info()[1]
        if isinstance(error, ServiceUnavailable):
            record.status = error.code
        seconds = time.perf_counter() - record.started
        method = record.method if record.method in _METHODS else "other"
        self._metrics.request_ends()
        try:
            self._count(record, method, seconds)
        except OSError as failure:
            log.error("the metrics of a request are lost: %s", describe(failure))
        fields = {
            "request_id": record.request_id,
            "user": record.user_id,
            "method": method,
            "route": record.route,
            "status": record.status,
            "ms": round(seconds * 1000, 2),
            "queue_ms": round(record.queue_seconds * 1000, 2),
            "statements": record.statements,
            "db_ms": round(record.statement_seconds * 1000, 2),
            "bytes": record.size,
        }
        if isinstance(error, OSError):
            fields["disconnected"] = True
        summary = f"{method} {record.route or 'an unknown path'} {record.status} in {fields['ms']} ms"
        if record.outage:
            summary = f"{summary}: {record.outage}"
        is_probe = record.route in _PROBES
        # telemetry/outage.py logs an outage once a minute, however often a monitor asks.
        failed = record.status >= HTTPStatus.INTERNAL_SERVER_ERROR and not (is_probe and record.outage)
        log_request(summary, fields, failed=failed, is_probe=is_probe)
        current.set(None)

    def _count(self, record: RequestRecord, method: str, seconds: float) -> None:
        """Add a request to the metrics. Raises OSError if a metric is new, and memory for it is short."""
        metrics = self._metrics
        self._histogram(method, record.route or "none", f"{record.status // 100}xx").observe(seconds)
        if record.statements:
            metrics.statements.inc(record.statements)
            metrics.statement_time.inc(record.statement_seconds)
        if record.replica_fallbacks:
            metrics.replica_fallbacks.inc(record.replica_fallbacks)
        if record.replayed:
            metrics.replays.inc()
        for reason in record.reasons:
            metrics.rejected.labels(reason).inc()


class _ClosingBody:
    """A body that finishes its record when the server closes it.

    werkzeug's ClosingIterator would not, if closing the body itself failed.
    """

    __slots__ = ("_body", "_finish", "_record")

    def __init__(
        self, body: Iterable[bytes], record: RequestRecord, finish: Callable[[RequestRecord], None]
    ) -> None:
        self._body, self._record, self._finish = body, record, finish

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body) if self._record.size else self._count()

    def _count(self) -> Iterator[bytes]:
        """Yield a body whose size is known only when it was sent."""
        for piece in self._body:
            self._record.size += len(piece)
            yield piece

    def close(self) -> None:
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._finish(self._record)


def _complete_record(response: Response) -> Response:
    record = current.get()
    # None if the application was called without the middleware, as some tests do.
    if record is not None:
        rule = request.url_rule
        record.route = _template(rule.rule) if rule else None
        record.status = response.status_code
        # werkzeug would read a stream to its end to tell its length.
        if record.method != "HEAD" and not response.is_streamed:
            record.size = response.calculate_content_length() or 0
        record.replayed = record.method == "POST" and "Idempotency-Replayed" in response.headers
        response.headers["X-Request-ID"] = record.request_id
        if _TIMING_HEADER in request.environ:
            response.headers["Server-Timing"] = (
                f'db;dur={record.statement_seconds * 1000:.2f};desc="{record.statements} statements", '
                f"app;dur={(time.perf_counter() - record.started) * 1000:.2f}"
            )
    return response
