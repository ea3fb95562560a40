"""Errors as problem documents (RFC 9457); nowhere else is an error body built."""

import logging
from http import HTTPStatus
from typing import NamedTuple

import orjson
from flask import Flask, Response
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import HTTPException

from mai_sessions.errors import (
    Conflict,
    Error,
    Forbidden,
    Invalid,
    NotFound,
    Stale,
    Unauthenticated,
    Unavailable,
)
from mai_sessions.telemetry.logs import describe
from mai_sessions.telemetry.request_record import current

log = logging.getLogger(__name__)

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
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
}

# Inputs that break a rule, as against requests for what is not there or not allowed.
_REJECTED = {
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.UNPROCESSABLE_ENTITY,
}


class Kind(NamedTuple):
    """A problem's title, the reason phrase of RFC 9110, and what it means."""

    title: str
    meaning: str


# Every problem that there is; docs/errors.md tells what to do about each. Python's phrases change from one
# version to the next.
KINDS: dict[int, Kind] = {
    400: Kind("Bad Request", "The request is not HTTP as it should be"),
    401: Kind("Unauthorized", "No credentials, or bad ones"),
    403: Kind("Forbidden", "The credentials do not allow this"),
    404: Kind("Not Found", "Nothing here that the caller may see: an unknown, malformed or foreign id"),
    405: Kind("Method Not Allowed", "This path has no such method"),
    406: Kind("Not Acceptable", "Accept excludes the type of the answer"),
    408: Kind("Request Timeout", "The request did not come in time"),
    409: Kind("Conflict", "The first request with this Idempotency-Key is still running"),
    412: Kind("Precondition Failed", "Changed since: If-Match names another version. Nothing was done"),
    413: Kind("Content Too Large", "The body is larger than the limit"),
    414: Kind("URI Too Long", "The first line of the request is longer than the limit"),
    415: Kind("Unsupported Media Type", "The body is not JSON by its Content-Type"),
    416: Kind("Range Not Satisfiable", "Range lies outside of the content"),
    422: Kind("Unprocessable Content", "The body, the query or a header breaks the rules that errors lists"),
    431: Kind("Request Header Fields Too Large", "A header is longer than the limit, or there are too many"),
    500: Kind("Internal Server Error", "The service failed; the log knows more under request_id"),
    503: Kind("Service Unavailable", "The database is away or too busy"),
}


def init_app(app: Flask) -> None:
    """Answer every error of this application with a problem document."""
    app.register_error_handler(Error, _foreseen)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(ParseException, _malformed)
    app.register_error_handler(Exception, _unforeseen)


def document(
    status: HTTPStatus, detail: str, request_id: str, errors: list[dict[str, object]] | None = None
) -> bytes:
    """Build a problem document; without a detail it says what the status means."""
    kind = KINDS.get(status) or Kind(status.phrase, status.description)
    body: dict[str, object] = {
        "type": "about:blank",
        "title": kind.title,
        "status": status.value,
        "detail": detail or kind.meaning,
        "request_id": request_id,
    }
    if errors is not None:
        body["errors"] = errors
    return orjson.dumps(body)


def _foreseen(error: Error) -> Response:
    status = _STATUS[type(error)]
    response = _problem(status, str(error), errors=error.errors if isinstance(error, Invalid) else None)
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = error.challenge
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        log.warning("%s: %s", error, describe(error.__cause__))
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _http(error: HTTPException) -> Response:
    response = _problem(HTTPStatus(error.code or HTTPStatus.INTERNAL_SERVER_ERROR), error.description or "")
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _malformed(error: ParseException) -> Response:
    # gunicorn reads the head before it calls us, and the body when we ask for it.
    return _problem(HTTPStatus.BAD_REQUEST, "The body is not chunked as it should be")


def _unforeseen(error: Exception) -> Response:
    log.error("unforeseen error", exc_info=error)
    return _problem(
        HTTPStatus.INTERNAL_SERVER_ERROR, "The service failed; the log knows more under this request_id"
    )


def _problem(status: HTTPStatus, detail: str, errors: list[dict[str, object]] | None = None) -> Response:
    record = current.get()
    if record and status in _REJECTED:
        record.reasons += (
            [str(error["type"]) for error in errors] if errors else [status.phrase.lower().replace(" ", "_")]
        )
    body = document(status, detail, record.request_id if record else "", errors)
    return Response(body, status.value, content_type=TYPE)
