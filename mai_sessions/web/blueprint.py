"""The two blueprints: `api` for the routes that require an identity, `service` for the public ones."""

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Any

import flask_smorest
from flask import Response, g, request
from marshmallow import Schema

from mai_sessions.telemetry import request_record
from mai_sessions.web import problems
from mai_sessions.web.body import parse
from mai_sessions.web.converters import convert_path_arguments
from mai_sessions.web.responses import refuse_unless_json_is_accepted
from mai_sessions.web.security_headers import HEADERS
from mai_sessions.web.state import current_state

View = Callable[..., Any]
Decorator = Callable[[View], View]


class Blueprint(flask_smorest.Blueprint):  # type: ignore[misc]
    """flask-smorest's blueprint, whose routes never redirect, with a cache of parsed query strings."""

    def add_url_rule(self, rule: str, *args: Any, **options: Any) -> None:
        """Add a route that matches with and without a slash at its end."""
        super().add_url_rule(rule, *args, strict_slashes=False, merge_slashes=False, **options)

    def arguments(
        self, schema: Schema, *, location: str = "json", cache: bool = True, **documented: Any
    ) -> Decorator:
        """Pass the loaded body or query to the view, after the arguments of the path.

        Parsed query strings are cached. Pass cache=False if parsing depends on the clock.
        """
        document = super().arguments(schema, location=location, **documented)

        @lru_cache(maxsize=256)
        def parse_cached(query_string: str) -> dict[str, Any]:
            return parse(schema, location)

        def load() -> dict[str, Any]:
            if location == "query" and cache:
                return dict(parse_cached(request.environ["QUERY_STRING"]))
            return parse(schema, location)

        def decorator(view: View) -> View:
            @wraps(view)
            def view_with_arguments(*args: Any, **kwargs: Any) -> Any:
                return view(*args, load(), **kwargs)

            # flask-smorest keeps the documentation of a view in this attribute of its wrapper.
            view_with_arguments._apidoc = document(view)._apidoc  # type: ignore[attr-defined]
            return view_with_arguments

        return decorator


api = Blueprint("mai_sessions", __name__)
service = Blueprint("mai_sessions_service", __name__)


@api.before_request
def _require_identity() -> None:
    # Flask itself responds to OPTIONS. Browsers send it ahead of a request, without credentials.
    if request.method == "OPTIONS":
        return
    g.mai_sessions_user_id = user_id = current_state().authenticate()
    if record := request_record.current.get():
        record.user_id = user_id
    refuse_unless_json_is_accepted()
    convert_path_arguments()


@api.after_request
def _add_security_headers(response: Response) -> Response:
    # In the application of `create_app` a middleware adds them, which costs less.
    if not current_state().is_whole_application:
        for name, value in HEADERS:
            response.headers.setdefault(name, value)
    return response


problems.register_error_handlers(api)
service.before_request(refuse_unless_json_is_accepted)
