"""The backend that keeps the chats of an LLM frontend."""

from collections.abc import Callable
from typing import Any

from flask import Flask, Request
from werkzeug.routing import MapAdapter

from mai_sessions import api
from mai_sessions.auth import identity
from mai_sessions.config import Settings
from mai_sessions.content import tokens
from mai_sessions.postgres import migrations
from mai_sessions.postgres.database import Database
from mai_sessions.telemetry import middleware as observe
from mai_sessions.telemetry.metrics import Metrics
from mai_sessions.web import cors, problems
from mai_sessions.web import security_headers as headers


class _App(Flask):
    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Take a view or a hook as it is: none is a coroutine, and to ask that of each takes a tenth of a
        request.
        """
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Look for the route by path and method alone: none depends on a host, and to find that out takes
        longer than the rest.
        """
        if request is None:
            return None
        path = request.environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        return MapAdapter(self.url_map, "", "", "", request.scheme, path, request.method)


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application, with the database's schema brought up to date.

    Raises StartupError when a setting does not fit, the database cannot be reached or its schema is not what
    it should be."""
    settings = settings or Settings.from_environ()
    app = _App(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body
    app.config["MAX_JSON_DEPTH"] = settings.max_json_depth
    metrics = app.extensions["mai-sessions.metrics"] = Metrics()
    app.extensions["mai-sessions"] = database = Database(settings, metrics)
    observe.init_app(app, metrics)
    problems.init_app(app)
    headers.init_app(app)
    cors.init_app(app, settings)
    identity.init_app(app, settings)
    tokens.init_app(app, settings.tokenizer)
    api.init_app(app)
    # After all that can refuse the settings.
    migrations.migrate(settings.database_url, settings.migrate)
    if settings.migrate != "off":
        database.refuse_unfit_connections()
    return app
