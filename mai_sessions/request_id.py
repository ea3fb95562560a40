"""A name for each request, by which the answer, the log and the caller's own log can be told to belong together."""

import re

from flask import Flask, Response, g, request

from mai_sessions.ids import new_id

HEADER = "X-Request-ID"
_WELL_FORMED = re.compile(r"[A-Za-z0-9._~+/=:-]{1,128}").fullmatch


def init_app(app: Flask) -> None:
    """Take the request's id from the caller when it is well-formed, else make one, and answer it."""
    app.before_request(_take_or_make)
    app.after_request(_answer)


def _take_or_make() -> None:
    given = request.headers.get(HEADER, "")
    g.request_id = given if _WELL_FORMED(given) else str(new_id())


def _answer(response: Response) -> Response:
    response.headers[HEADER] = g.request_id
    return response
