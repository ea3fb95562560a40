"""Responses whose body is JSON text already."""

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING

from flask import Response, request
from werkzeug.exceptions import NotAcceptable

from mai_sessions.web.conditions import entity_tag, is_known
from mai_sessions.web.urls import api_url, with_attachment_urls

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

JSON = "application/json"
NDJSON = "application/x-ndjson"
_EXPORT = "mai_sessions.export_sessions"
# A type that is not acceptable (RFC 9110 §12.4.2).
_ZERO_QUALITY = re.compile(r"q\s*=\s*0(\.0*)?\s*(,|;|$)", re.IGNORECASE)


def refuse_unless_json_is_accepted() -> None:
    """Raise NotAcceptable if the Accept header excludes JSON, and NDJSON for the export. Images are accepted
    everywhere, as an <img> asks for nothing else.
    """
    accept = request.environ.get("HTTP_ACCEPT")
    if not accept or (("*/*" in accept or "image/" in accept) and not _ZERO_QUALITY.search(accept)):
        return
    accepted = request.accept_mimetypes
    types = (JSON, NDJSON) if request.endpoint == _EXPORT else (JSON,)
    if any(accepted.quality(type) > 0 for type in types):
        return
    if any(quality > 0 and type.startswith("image/") for type, quality in accepted):
        return
    raise NotAcceptable(f"The response is {types[-1]}")


class _JsonResponse(Response):
    """A response that is sent with the headers that it has.

    werkzeug searches them for what it could correct, which takes longer than the rest of the response.
    """

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD" or self.status_code == HTTPStatus.NOT_MODIFIED:
            return super().__call__(environ, start_response)
        start_response(self.status, list(self.headers))
        return self.iter_encoded()


def json_response(
    body: bytes, status: int = 200, *, version: object = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Make a response of JSON text.

    `version` becomes its strong entity tag; a caller who names that tag in If-None-Match gets a 304.
    """
    response = _JsonResponse(with_attachment_urls(body), status, headers, content_type=JSON)
    if version is not None:
        tag = entity_tag(version)
        response.headers["ETag"] = f'"{tag}"'
        if is_known(tag):
            response.status_code, response.data = HTTPStatus.NOT_MODIFIED, b""
    return response


def empty_response() -> Response:
    """Make a response without a body, which has no type either."""
    response = Response(status=HTTPStatus.NO_CONTENT)
    del response.headers["Content-Type"]
    return response


def created_response(
    path: str, body: bytes, *, version: object, status: int = 201, is_replay: bool = False
) -> Response:
    """Make the response to a POST that created the resource at this path below the API's.

    A replay repeats an earlier response to the same Idempotency-Key.
    """
    headers = {"Location": api_url() + path}
    if is_replay:
        headers["Idempotency-Replayed"] = "true"
    return json_response(body, status, version=version, headers=headers)
