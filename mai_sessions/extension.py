"""`MaiSessions`: the API as an extension of any Flask application."""

import re
from collections.abc import Awaitable, Callable
from importlib import import_module

import click
from flask import Flask

from mai_sessions.api import blueprint
from mai_sessions.auth.identity import authentication, identified_by, refuse_settings_of_other_modes
from mai_sessions.config import Settings
from mai_sessions.content.tokens import load_tokenizer
from mai_sessions.errors import StartupError
from mai_sessions.expiry import Expiry
from mai_sessions.postgres.database import Database
from mai_sessions.web.state import EXTENSION, State

DEFAULT_PREFIX = "/api/v1"

# The user id of the present request, or None for nobody.
Identify = Callable[[], str | None] | Callable[[], Awaitable[str | None]]


class _Commands(click.Group):
    """`flask mai-sessions`, imported at its first use, because the commands import this module."""

    @property
    def _group(self) -> click.Group:
        group: click.Group = import_module("mai_sessions.cli").flask_group
        return group

    def list_commands(self, ctx: click.Context) -> list[str]:
        return self._group.list_commands(ctx)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self._group.get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> object:
        return self._group.invoke(ctx)


class MaiSessions:
    """The API, for one or several Flask applications.

    `identify` returns the user id of the present request, 1 to 255 characters, or None for nobody, which is a
    401. It may be async. Without it, MAI_SESSIONS_AUTH says how users are authenticated.

        sessions = MaiSessions(identify=lambda: current_user.get_id())
        sessions.init_app(app, url_prefix="/chat/api")
    """

    def __init__(self, app: Flask | None = None, *, identify: Identify | None = None) -> None:
        self._identify = identify
        if app is not None:
            self.init_app(app)

    def init_app(
        self, app: Flask, *, url_prefix: str = DEFAULT_PREFIX, settings: Settings | None = None
    ) -> None:
        """Register the routes below `url_prefix` and the commands `flask mai-sessions`, and nothing else.

        The settings are those of `app.config` whose keys begin with MAI_SESSIONS_, unless they are passed.
        The environment is not read. The database is not reached before the first request: create its tables
        with `flask mai-sessions migrate`. Raises StartupError when a setting or the prefix is wrong.
        """
        if EXTENSION in app.extensions:
            raise StartupError("this application has registered MaiSessions already")
        if not re.fullmatch(r"(/[^/<]+)*/?", url_prefix):
            raise StartupError("url_prefix must be a path without variables, such as /chat/api")
        settings = settings or Settings.from_config(app.config)
        if self._identify is None:
            authenticate, url_signer = authentication(settings)
        elif settings.auth == "none":
            refuse_settings_of_other_modes(settings)
            authenticate, url_signer = identified_by(app.ensure_sync(self._identify)), None
        else:
            raise StartupError(f"MAI_SESSIONS_AUTH={settings.auth} does not go together with identify")
        url_prefix = url_prefix.rstrip("/")
        database = Database(settings)
        expiry = Expiry(database, settings)
        database.primary.on_open, database.primary.on_close = expiry.start, expiry.stop
        app.register_blueprint(blueprint, url_prefix=url_prefix)
        app.extensions[EXTENSION] = State(
            settings=settings,
            url_prefix=url_prefix,
            database=database,
            authenticate=authenticate,
            url_signer=url_signer,
            count_tokens=load_tokenizer(settings.tokenizer),
            expiry=expiry,
        )
        app.cli.add_command(
            _Commands("mai-sessions", help="Manage the sessions and messages of this application.")
        )
