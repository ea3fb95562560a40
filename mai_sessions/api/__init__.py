"""The routes."""

from importlib.metadata import version

from flask import Flask
from flask_smorest import Api

from mai_sessions.api import analytics, attachments, health, messages, metrics, search, sessions
from mai_sessions.openapi import document as documentation
from mai_sessions.web import responses as requests
from mai_sessions.web.blueprint import api, root

__all__ = ["analytics", "attachments", "health", "init_app", "messages", "metrics", "search", "sessions"]


class _Api(Api):  # type: ignore[misc]
    def _register_error_handlers(self) -> None:
        """Leave the errors to `problems.py`."""

    def _register_responses(self) -> None:
        """Leave the responses to `documentation.py`."""

    def _register_pagination_header(self) -> None:
        """Pages are asked for in the query."""


def init_app(app: Flask) -> None:
    """Put the routes into the application."""
    app.config.update(API_TITLE="mai-sessions", API_VERSION=version("mai-sessions"), OPENAPI_VERSION="3.1.0")
    # No redirects, ever: every path answers with and without a slash at its end.
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    requests.init_app(app)
    smorest = _Api(app, spec_kwargs=documentation.SPEC)
    for converter, schema in documentation.PATH_SCHEMAS.items():
        smorest.register_converter(app.url_map.converters[converter], lambda _, schema=schema: schema)
    smorest.register_blueprint(root)
    smorest.register_blueprint(api)
    documentation.init_app(app, smorest)
