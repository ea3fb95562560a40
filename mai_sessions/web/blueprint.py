"""The blueprint that every resource puts its routes on, and how a request's body is read and checked."""

from collections.abc import Callable, Iterable
from functools import lru_cache, wraps
from typing import Any, NoReturn

import flask_smorest
from flask import Request, current_app, request
from marshmallow import EXCLUDE, Schema, ValidationError
from webargs.flaskparser import FlaskParser
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge, UnsupportedMediaType

from mai_sessions.content.json_text import is_deeper, parse_json
from mai_sessions.content.parts import BrokenValue
from mai_sessions.errors import Invalid

_LOCATIONS = {"json": "body"}
_CHUNK = 64 * 1024
_CUT = "The body is not whole"
# Arrays, objects, strings and the rest. 20 million empty arrays fit into the largest body, and became 2 GB
# and half a minute.
_MOST_VALUES = 100_000


class _Parser(FlaskParser):
    DEFAULT_UNKNOWN_BY_LOCATION = {"json": EXCLUDE, "query": EXCLUDE}  # noqa: RUF012 - the form that webargs asks for

    def load_json(self, req: Request, schema: Schema) -> Any:
        mimetype = req.mimetype
        if mimetype and mimetype != "application/json" and not mimetype.endswith("+json"):
            raise UnsupportedMediaType("The body must be application/json")
        body = _read(req)
        if not body:
            return {}
        if _holds_too_many(body):
            raise Invalid(
                "The body holds too many values",
                [_error(["body"], f"More than {_MOST_VALUES} values.", "too_many")],
            )
        try:
            value = parse_json(body)
        except BrokenValue as error:
            what = (
                "The body is not JSON" if error.reason == "json" else f"body.{_dotted(error.path)}: {error}"
            )
            raise Invalid(what, [_error(["body", *error.path], str(error), error.reason)]) from None
        if is_deeper(value, limit := current_app.config["MAX_JSON_DEPTH"]):
            raise Invalid(
                "The body is nested too deep", [_error(["body"], f"Nested deeper than {limit}.", "too_deep")]
            )
        return value

    def load_querystring(self, req: Request, schema: Schema) -> Any:
        try:
            return super().load_querystring(req, schema)
        except UnicodeDecodeError as error:
            raise Invalid("The query is not UTF-8", [_error(["query"], str(error), "utf8")]) from None

    def handle_error(self, error: ValidationError, *args: Any, **kwargs: Any) -> NoReturn:
        errors = [
            _error([_LOCATIONS.get(location, location), *loc], text, getattr(text, "type", "invalid"))
            for location, messages in error.messages_dict.items()
            for loc, text in _flatten(messages)
        ]
        raise Invalid(" ".join(f"{_dotted(e['loc'])}: {e['msg']}" for e in errors), errors)


def _read(req: Request) -> bytes:
    """The whole body. Raises RequestEntityTooLarge, and ClientDisconnected when it is not whole.

    werkzeug's own reading takes ten times as long, and takes what has come of a broken body for all of it.
    """
    limit, length, stream = (
        current_app.config["MAX_CONTENT_LENGTH"],
        req.content_length,
        req.environ["wsgi.input"],
    )
    if length is None and not req.environ.get("wsgi.input_terminated"):
        return b""
    # Of a chunked body, whose length nobody knows, a byte more than the limit allows tells that it is too
    # long.
    wanted = limit + 1 if length is None else length
    try:
        if wanted <= limit or length is None:
            body: bytes = stream.read(wanted)
            if length is not None and len(body) < length:
                raise ClientDisconnected(_CUT)
            if len(body) <= limit:
                return body
        # Whoever is still sending hears no answer, only that the connection breaks; so hear them out, within
        # bounds.
        for _ in range(limit // _CHUNK):
            if not stream.read(_CHUNK):
                break
    except OSError:
        raise ClientDisconnected(_CUT) from None
    raise RequestEntityTooLarge


def _error(loc: list[str | int], msg: str, type: str) -> dict[str, Any]:
    return {"loc": loc, "msg": str(msg), "type": type}


def _holds_too_many(body: bytes) -> bool:
    """Tell whether the JSON holds more than _MOST_VALUES, by the marks before each."""
    if len(body) <= _MOST_VALUES or _marks(body) <= _MOST_VALUES:
        return False
    # Texts are full of them, too: look outside of strings.
    bare = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if bare.count(b'"') > 2 * _MOST_VALUES:
        return True
    return sum(map(_marks, bare.split(b'"')[::2])) > _MOST_VALUES


def _marks(body: bytes) -> int:
    return body.count(b",") + body.count(b"[") + body.count(b"{")


def _dotted(path: Iterable[str | int]) -> str:
    return ".".join(map(str, path))


def _flatten(messages: Any) -> list[tuple[list[str | int], str]]:
    """marshmallow's nested messages as a list of paths and texts."""
    if isinstance(messages, dict):
        return [
            ([*([] if key == "_schema" else [key]), *loc], text)
            for key, nested in messages.items()
            for loc, text in _flatten(nested)
        ]
    return [([], text) for text in messages]


View = Callable[..., Any]
Decorator = Callable[[View], View]


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """Takes from flask-smorest the documentation alone: our views answer ready bytes, and its wrappers do
    nothing for them.
    """

    ARGUMENTS_PARSER = _Parser()

    def arguments(
        self, schema: Schema, *, location: str = "json", timeless: bool = True, **documented: Any
    ) -> Decorator:
        """Give the view what the schema makes of the body or the query.

        A query that means the same at any time, as all do but those that speak of now, is read once, and what
        it means is kept."""
        document = super().arguments(schema, location=location, **documented)

        def parse() -> dict[str, Any]:
            parsed: dict[str, Any] = self.ARGUMENTS_PARSER.parse(schema, request, location=location)
            return parsed

        @lru_cache(maxsize=256)
        def kept(query_string: str) -> dict[str, Any]:
            return parse()

        def arguments() -> dict[str, Any]:
            return (
                dict(kept(request.environ["QUERY_STRING"])) if location == "query" and timeless else parse()
            )

        def decorator(view: View) -> View:
            @wraps(view)
            def reading(*args: Any, **kwargs: Any) -> Any:
                return view(*args, arguments(), **kwargs)

            return _documented(reading, document(view))

        return decorator

    def response(self, *args: Any, **kwargs: Any) -> Decorator:
        """Document an answer."""
        return _only_documenting(super().response(*args, **kwargs))

    def alt_response(self, *args: Any, **kwargs: Any) -> Decorator:
        """Document another answer."""
        return _only_documenting(super().alt_response(*args, **kwargs))


def _only_documenting(document: Decorator) -> Decorator:
    def decorator(view: View) -> View:
        return _documented(view, document(view))

    return decorator


def _documented(view: View, documented: View) -> View:
    """Give a view what flask-smorest has noted on its own wrapper of it."""
    view._apidoc = documented._apidoc  # type: ignore[attr-defined]  # flask-smorest's, which no type of a function has
    return view


root = Blueprint("root", __name__)
api = Blueprint("api", __name__, url_prefix="/api/v1")
