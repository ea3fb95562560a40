"""How the body and the query of a request are read and checked."""

from typing import Any, NoReturn

from flask import Request, request
from marshmallow import EXCLUDE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    HTTPException,
    LengthRequired,
    RequestEntityTooLarge,
    UnsupportedMediaType,
)

from mai_sessions.content.attachments import link_base
from mai_sessions.content.json_text import is_deeper, parse_json, without_escaped_quotes
from mai_sessions.content.long_text import cut_long_texts, restore_long_texts
from mai_sessions.content.parts import BrokenValue
from mai_sessions.errors import Invalid, broken_rule
from mai_sessions.web.state import current_state
from mai_sessions.web.urls import attachments_url

_LOCATIONS = {"json": "body"}
_CHUNK = 64 * 1024
_INCOMPLETE = "The body is incomplete"
# Arrays, objects, strings and all other values. The largest body holds 20 million empty arrays, which become
# gigabytes of Python objects.
MAX_JSON_VALUES = 100_000


class UnsupportedEncoding(UnsupportedMediaType):
    """The 415 for a Content-Encoding (RFC 9110 §15.5.16)."""

    def get_headers(self, *args: Any, **kwargs: Any) -> list[tuple[str, str]]:
        """Name the one encoding that is supported."""
        return [*super().get_headers(*args, **kwargs), ("Accept-Encoding", "identity")]


class Parser(FlaskParser):
    """webargs' parser, with orjson, and limits on what it builds."""

    DEFAULT_UNKNOWN_BY_LOCATION = {"json": EXCLUDE, "query": EXCLUDE}  # noqa: RUF012 - as webargs has it

    def load_json(self, req: Request, schema: Schema) -> Any:
        """Parse the body. An empty one is an empty object."""
        mimetype = req.mimetype
        if mimetype and mimetype != "application/json" and not mimetype.endswith("+json"):
            raise UnsupportedMediaType("The body must be application/json")
        if req.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise UnsupportedEncoding("The body must not be compressed")
        body = _read(req)
        if not body:
            return {}
        if _has_too_many_values(body):
            rule = broken_rule(["body"], f"More than {MAX_JSON_VALUES} values.", "too_many")
            raise Invalid(rule, detail="The body holds too many values")
        body, long_texts = cut_long_texts(body)
        try:
            value = parse_json(body)
            restore_long_texts(value, long_texts)
        except BrokenValue as error:
            detail = "The body is not JSON" if error.reason == "json" else None
            rule = broken_rule(["body", *error.path], str(error), error.reason)
            raise Invalid(rule, detail=detail) from None
        if is_deeper(value, limit := current_state().settings.max_json_depth):
            members = value.items() if isinstance(value, dict) else ()
            names = [name for name, member in members if is_deeper(member, limit - 1)]
            rule = broken_rule(["body", *names[:1]], f"Nested deeper than {limit}.", "too_deep")
            raise Invalid(rule, detail="The body is nested too deep")
        return value

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        """Parse the query without its empty parameters. Raises Invalid if it is not UTF-8."""
        try:
            given = MultiDict((name, text) for name, text in req.args.items(multi=True) if text)
        except UnicodeDecodeError as error:
            rule = broken_rule(["query"], str(error), "utf8")
            raise Invalid(rule, detail="The query is not UTF-8") from None
        return self._makeproxy(given, schema)

    def handle_error(self, error: ValidationError, *args: Any, **kwargs: Any) -> NoReturn:
        """Raise Invalid with the errors of marshmallow."""
        raise Invalid(
            *(
                broken_rule(
                    [_LOCATIONS.get(location, location), *loc], str(text), getattr(text, "type", "invalid")
                )
                for location, messages in error.messages_dict.items()
                for loc, text in _flatten(messages)
            )
        )


def parse(schema: Schema, location: str) -> dict[str, Any]:
    """Load a location of the request (`json` or `query`) with a schema. Raises Invalid."""
    # Attachments come back as the links that this caller was given.
    links = link_base.set(attachments_url())
    try:
        values: dict[str, Any] = _PARSER.parse(schema, request, location=location)
    finally:
        link_base.reset(links)
    return values


_PARSER = Parser()


def _read(req: Request) -> bytes:
    """Return the whole body. Raises RequestEntityTooLarge, LengthRequired, and ClientDisconnected when a part
    is missing.

    werkzeug's own method takes longer, and returns the beginning of a broken body.
    """
    limit = current_state().settings.max_body
    # A hook of the application around has read the body already.
    if "stream" in vars(req):
        body: bytes = req.get_data()
        if len(body) > limit:
            raise RequestEntityTooLarge
        return body
    length, stream = req.content_length, req.environ["wsgi.input"]
    if length is None and not req.environ.get("wsgi.input_terminated"):
        # Some servers (uWSGI, asgiref) do not say where a chunked body ends.
        if "HTTP_TRANSFER_ENCODING" in req.environ:
            raise LengthRequired("The body must have a Content-Length")
        return b""
    # A chunked body has no length: one byte above the limit shows that it is too long.
    wanted = limit + 1 if length is None else length
    try:
        if wanted <= limit or length is None:
            body = stream.read(wanted)
            if length is not None and len(body) < length:
                raise ClientDisconnected(_INCOMPLETE)
            if len(body) <= limit:
                return body
        # A client that is still sending does not read the response, and sees a broken connection instead. So
        # read on, within bounds.
        for _ in range(limit // _CHUNK):
            if not stream.read(_CHUNK):
                break
    except OSError:
        raise ClientDisconnected(_INCOMPLETE) from None
    except HTTPException:
        raise
    # Every WSGI server has exceptions of its own for a body that is not framed as HTTP says.
    except Exception:
        raise BadRequest("The body is not chunked correctly") from None
    raise RequestEntityTooLarge


def _has_too_many_values(body: bytes) -> bool:
    """Return whether the JSON holds more than MAX_JSON_VALUES, by the delimiters before each value."""
    if len(body) <= MAX_JSON_VALUES or _count_delimiters(body) <= MAX_JSON_VALUES:
        return False
    # Texts hold these characters too: count them outside of strings only.
    bare = without_escaped_quotes(body)
    if bare.count(b'"') > 2 * MAX_JSON_VALUES:
        return True
    return sum(map(_count_delimiters, bare.split(b'"')[::2])) > MAX_JSON_VALUES


def _count_delimiters(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _flatten(messages: Any) -> list[tuple[list[str | int], str]]:
    """Make marshmallow's nested messages a list of paths and texts."""
    if isinstance(messages, dict):
        return [
            ([*([] if key == "_schema" else [key]), *loc], text)
            for key, nested in messages.items()
            for loc, text in _flatten(nested)
        ]
    return [([], text) for text in messages]
