"""The whole application: the API with logs, metrics, security headers, CORS, documentation and health."""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from flask import Flask, Request, request
from werkzeug.routing import MapAdapter

from mai_sessions.api import blueprint as api_blueprint
from mai_sessions.api import service_blueprint
from mai_sessions.config import Settings
from mai_sessions.extension import MaiSessions
from mai_sessions.openapi import document, page
from mai_sessions.postgres import migrations
from mai_sessions.postgres.session_settings import connect
from mai_sessions.repository.reindex import count_old_words
from mai_sessions.telemetry import middleware
from mai_sessions.telemetry.metrics import Metrics
from mai_sessions.web import cors, problems, security_headers
from mai_sessions.web.state import EXTENSION, State, current_state

log = logging.getLogger(__name__)


class _Application(Flask):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._ensure_sync = lru_cache(maxsize=512)(super().ensure_sync)

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Cache whether a function is a coroutine. Flask checks it six times in a request."""
        return self._ensure_sync(func)

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by path and method alone.

        No route depends on a host, and werkzeug needs longer to read the host than for the rest.
        """
        if request is None:
            return None
        environ = request.environ
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace")
        script_name = environ.get("SCRIPT_NAME", "")
        return MapAdapter(self.url_map, "", script_name, "", request.scheme, path, request.method)


def _require_identity() -> None:
    """Authenticate where no blueprint does: unknown paths, and routes that are added to the application.

    The mode `none` checks the Host of all requests, public routes included.
    """
    blueprint = request.blueprint
    if blueprint == api_blueprint.name or request.method == "OPTIONS":
        return
    state = current_state()
    if blueprint is None or state.settings.auth == "none":
        state.authenticate()


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application, and bring the database's schema up to date.

    Raises StartupError when a setting is wrong, or the database cannot be reached or used.
    """
    settings = settings or Settings.from_environ()
    app = _Application(__package__, static_folder=None)
    # Nothing redirects: neither `//health` nor `/health/`.
    app.url_map.strict_slashes = app.url_map.merge_slashes = False
    MaiSessions().init_app(app, settings=settings)
    state: State = app.extensions[EXTENSION]
    state.metrics = state.expiry.metrics = Metrics()
    middleware.init_app(app, state.metrics)
    problems.register_error_handlers(app)
    security_headers.init_app(app)
    cors.init_app(app, settings)
    app.before_request(_require_identity)
    app.register_blueprint(service_blueprint)
    app.register_blueprint(page.blueprint)
    state.openapi = document.build(app)
    # Last, so that wrong settings change nothing in the database.
    if settings.migrate != "off":
        state.database.check_session_settings()
    migrations.migrate(settings.database_url, settings.migrate)
    if settings.migrate != "off":
        _log_old_words(settings)
    return app


def _log_old_words(settings: Settings) -> None:
    with connect(settings) as conn:
        old_words = count_old_words(conn)
    if any(old_words):
        log.warning(
            "the search knows %d messages and %d titles by the rules of an older release: run mai-sessions "
            "reindex",
            *old_words,
        )
