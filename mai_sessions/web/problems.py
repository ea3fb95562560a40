"""Errors as problem documents (RFC 9457). All error bodies are built here."""

import logging
from collections.abc import Sequence
from http import HTTPStatus
from typing import NamedTuple

import orjson
from flask import Blueprint, Flask, Response, request
from werkzeug.exceptions import HTTPException, default_exceptions

from mai_sessions.config import as_in_application
from mai_sessions.errors import (
    BrokenRule,
    Conflict,
    Error,
    Forbidden,
    Invalid,
    KeyReused,
    NotFound,
    SchemaMismatch,
    Stale,
    Unauthenticated,
    Unavailable,
    broken_rule,
)
from mai_sessions.telemetry.logs import describe, without_values
from mai_sessions.telemetry.request_record import current, request_id
from mai_sessions.web.state import current_state

log = logging.getLogger(__name__)
log.addFilter(without_values)

TYPE = "application/problem+json"

# How long a client should wait before it tries again, in seconds.
RETRY_AFTER = 1

_STATUS: dict[type[Error], HTTPStatus] = {
    Unauthenticated: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Stale: HTTPStatus.PRECONDITION_FAILED,
    Invalid: HTTPStatus.UNPROCESSABLE_ENTITY,
    KeyReused: HTTPStatus.UNPROCESSABLE_ENTITY,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    SchemaMismatch: HTTPStatus.SERVICE_UNAVAILABLE,
}

# Statuses that say that the request breaks a rule, and not that something is missing or forbidden.
_REJECTED = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}


class ProblemType(NamedTuple):
    """The title of a problem, which is the reason phrase of RFC 9110, and its meaning."""

    title: str
    meaning: str


# All problems; docs/errors.md says what to do about each. The titles stand here because the phrases of
# http.HTTPStatus differ between Python versions.
PROBLEM_TYPES: dict[int, ProblemType] = {
    400: ProblemType("Bad Request", "The request is not well-formed HTTP"),
    401: ProblemType("Unauthorized", "No credentials, or bad ones"),
    403: ProblemType("Forbidden", "The credentials do not allow this"),
    404: ProblemType(
        "Not Found", "Nothing here that the caller may see: an unknown, malformed or foreign id"
    ),
    405: ProblemType("Method Not Allowed", "This path has no such method"),
    406: ProblemType("Not Acceptable", "Accept excludes the type of the response"),
    408: ProblemType("Request Timeout", "The request did not arrive in time"),
    409: ProblemType("Conflict", "The first request with this Idempotency-Key is still running"),
    412: ProblemType(
        "Precondition Failed",
        "If-Match names another version, or the session of an If-None-Match: * exists. Nothing was changed",
    ),
    413: ProblemType("Content Too Large", "The body is larger than the limit"),
    414: ProblemType("URI Too Long", "The first line of the request is longer than the limit"),
    415: ProblemType("Unsupported Media Type", "The Content-Type of the body is not JSON"),
    416: ProblemType("Range Not Satisfiable", "Range lies outside of the content"),
    422: ProblemType("Unprocessable Content", "The body, query or a header breaks the rules in `errors`"),
    431: ProblemType("Request Header Fields Too Large", "A header is too long, or there are too many"),
    500: ProblemType("Internal Server Error", "The service failed. The log has the reason under request_id"),
    503: ProblemType(
        "Service Unavailable", "The database is away or too busy, or there is no memory for the response"
    ),
}


def register_error_handlers(scaffold: Flask | Blueprint) -> None:
    """Make every error of this application or blueprint a problem document."""
    scaffold.register_error_handler(Error, _domain_error)
    # By status, since Flask prefers an application's handler for a status to a blueprint's for HTTPException.
    for status in default_exceptions:
        scaffold.register_error_handler(status, _http_error)
    scaffold.register_error_handler(Exception, _unexpected_error)


def document(
    status: HTTPStatus, detail: str, request_id: str, errors: Sequence[BrokenRule] | None = None
) -> bytes:
    """Build a problem document. Without a detail it has the meaning of the status."""
    problem = PROBLEM_TYPES.get(status) or ProblemType(status.phrase, status.description)
    body: dict[str, object] = {
        "type": "about:blank",
        "title": problem.title,
        "status": status.value,
        "detail": detail or problem.meaning,
        "request_id": request_id,
    }
    if errors is not None:
        body["errors"] = errors
    return orjson.dumps(body)


def _domain_error(error: Error) -> Response:
    status = _STATUS[type(error)]
    errors: Sequence[BrokenRule] | None = error.errors if isinstance(error, Invalid) else None
    if isinstance(error, KeyReused):
        errors = [broken_rule(["header", "Idempotency-Key"], str(error), "reused")]
    is_unavailable = status is HTTPStatus.SERVICE_UNAVAILABLE
    response = _problem(status, _log_unavailable(error) if is_unavailable else str(error), errors)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = error.challenge
    if is_unavailable:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _log_unavailable(error: Error) -> str:
    """Log the reason of a 503, and return its detail. The whole application logs it with the request."""
    is_whole, detail = current_state().is_whole_application, str(error)
    if not is_whole:
        detail = as_in_application(detail)
    reason = f"{detail}: {describe(error.__cause__)}" if error.__cause__ else detail
    if not is_whole:
        log.warning(reason)
    elif (record := current.get()) and error.__cause__:
        record.outage = reason
    return detail


def _http_error(error: HTTPException) -> Response:
    response = _problem(HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR), error.description or "")
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _unexpected_error(error: Exception) -> Response:
    response = _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "")
    name = response.headers["X-Request-ID"]
    log.error("unexpected error in request %s", name, exc_info=error, extra={"request_id": name})
    return response


def _problem(status: HTTPStatus, detail: str, errors: Sequence[BrokenRule] | None = None) -> Response:
    record = current.get()
    if record and status in _REJECTED:
        record.reasons += (
            [str(error["type"]) for error in errors] if errors else [status.phrase.lower().replace(" ", "_")]
        )
    name = record.request_id if record else request_id(request.headers.get("X-Request-ID", ""))
    body = document(status, detail, name, errors)
    return Response(body, status.value, content_type=TYPE, headers={"X-Request-ID": name})
