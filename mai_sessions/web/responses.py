"""What the routes share: identifiers in paths, conditions in headers, a database connection, and replies that
are JSON already.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from http import HTTPStatus
from typing import TYPE_CHECKING, Concatenate
from uuid import UUID

from flask import Flask, Response, current_app, g, request
from werkzeug.exceptions import NotAcceptable, NotFound
from werkzeug.routing import BaseConverter

from mai_sessions.auth.identity import URL_SIGNER, current_user_id
from mai_sessions.auth.signed_urls import ATTACHMENTS, UrlSigner
from mai_sessions.ids import parse_id
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.database import Database, P, T

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

JSON = "application/json"


def init_app(app: Flask) -> None:
    """Know the identifiers in paths, and refuse a request that accepts no JSON."""
    app.url_map.converters["session_id"] = _SessionIdConverter
    app.url_map.converters["message_id"] = _MessageIdConverter
    app.url_map.converters["sha256"] = _Sha256Converter
    app.before_request(_refuse_unless_json_is_accepted)


class _SessionIdConverter(BaseConverter):
    """An identifier; a malformed one is an unknown one."""

    noun = "Session"

    def to_python(self, value: str) -> UUID:
        identifier = parse_id(value)
        if identifier is None:
            raise NotFound(f"{self.noun} not found")
        return identifier


class _MessageIdConverter(_SessionIdConverter):
    noun = "Message"


class _Sha256Converter(BaseConverter):
    """A SHA-256 in lower-case hexadecimal, by which an attachment is known."""

    def to_python(self, value: str) -> str:
        if not re.fullmatch("[0-9a-f]{64}", value):
            raise NotFound("Attachment not found")
        return value


def _refuse_unless_json_is_accepted() -> None:
    accept = request.environ.get("HTTP_ACCEPT")
    if not accept or "*/*" in accept or "image/" in accept or request.accept_mimetypes.accept_json:
        return
    if request.blueprint != "docs":
        raise NotAcceptable("The answer is application/json")


def connection() -> AbstractContextManager[Connection]:
    """A connection to the database for the length of a `with`."""
    return database().connection()


def stale_read(read: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a function of the repository that only reads; what it reads may be a moment old, from a replica."""
    return database().stale_read(read, *args, **kwargs)


def database() -> Database:
    """The database of this application."""
    database: Database = current_app.extensions["mai-sessions"]
    return database


class _JsonResponse(Response):
    """An answer whose headers are those to be sent: to look through them for what is not there, as others do,
    takes long.
    """

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] == "HEAD" or self.status_code == HTTPStatus.NOT_MODIFIED:
            return super().__call__(environ, start_response)
        start_response(self.status, list(self.headers))
        return self.iter_encoded()


def json_response(
    body: bytes, status: int = 200, *, tag: object = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer JSON that is ready; `tag` becomes its strong ETag, with `304` for a caller who has it already."""
    if (signer := _url_signer()) and ATTACHMENTS in body:
        body = signer.sign_images(body, current_user_id())
    response = _JsonResponse(body, status, headers, content_type=JSON)
    if tag is not None:
        full_tag = f"{tag}{_tag_suffix()}"
        response.headers["ETag"] = f'"{full_tag}"'
        if request.method in ("GET", "HEAD") and {full_tag, "*"} & set(_tags("If-None-Match")):
            response.status_code, response.data = 304, b""
    return response


def created(location: str, body: bytes, *, tag: object, status: int = 201) -> Response:
    """Answer what was made, and where it is. Without a tag it is the first answer again, to a retry."""
    headers = (
        {"Location": location} if tag is not None else {"Location": location, "Idempotency-Replayed": "true"}
    )
    return json_response(body, status, tag=tag, headers=headers)


def known_versions() -> list[UUID]:
    """The versions that the caller names in If-None-Match, as far as the URLs in them have not changed since."""
    suffix = _tag_suffix()
    return _versions(tag.removesuffix(suffix) for tag in _tags("If-None-Match") if tag.endswith(suffix))


def if_match() -> list[UUID] | None:
    """The versions that the caller names in If-Match; None is no condition."""
    if request.headers.get("If-Match", "*").strip() == "*":
        return None
    return _versions(tag.partition(".")[0] for tag in _tags("If-Match"))


def _url_signer() -> UrlSigner | None:
    return current_app.extensions.get(URL_SIGNER)


def _tag_suffix() -> str:
    """What a tag holds beside the version: the period of signed URLs, one and the same for the length of a
    request.
    """
    signer = _url_signer()
    if signer is None:
        return ""
    if "tag_suffix" not in g:
        g.tag_suffix = f".{signer.period()}"
    suffix: str = g.tag_suffix
    return suffix


def _versions(tags: Iterable[str]) -> list[UUID]:
    return [version for tag in tags if (version := parse_id(tag)) and str(version) == tag]


def _tags(header: str) -> list[str]:
    """The tags that a header names.

    A proxy that compresses an answer makes its strong tag a weak one (nginx: `W/"…"`). It still names the
    same version, so it counts, also in If-Match, where it would never match by RFC 9110 §13.1.1."""
    value = request.headers.get(header)
    return [tag.strip().removeprefix("W/").strip('"') for tag in value.split(",")] if value else []
