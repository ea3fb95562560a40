"""The command groups: `mai-sessions`, and `flask mai-sessions` in another application."""

import re
from copy import copy

import click
from flask.cli import ScriptInfo

from mai_sessions.config import as_in_application
from mai_sessions.errors import StartupError
from mai_sessions.web.state import EXTENSION


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return self._invoke(ctx)
        except StartupError as error:
            raise click.ClickException(self.describe(error)) from error

    def describe(self, error: StartupError) -> str:
        """Return the message that the command prints."""
        return str(error)

    def _invoke(self, ctx: click.Context) -> object:
        return super().invoke(ctx)


class _FlaskGroup(_Group):
    """The commands of `main` that work in another application, with its settings."""

    _EXCLUDED = ("serve", "upgrade")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in main.list_commands(ctx) if name not in self._EXCLUDED]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command without its help on the private PostgreSQL, which an application does not have."""
        command = copy(main.get_command(ctx, cmd_name))
        if command is None or cmd_name in self._EXCLUDED:
            return None
        command.help = as_in_application(re.sub(", or else.* private PostgreSQL,?", "", command.help or ""))
        command.params = [copy(param) for param in command.params]
        for param in command.params:
            if isinstance(param, click.Option) and param.name == "data_dir":
                param.hidden = True
        return command

    def describe(self, error: StartupError) -> str:
        """Return the message with the names that the application knows."""
        return as_in_application(str(error))

    def _invoke(self, ctx: click.Context) -> object:
        app = ctx.ensure_object(ScriptInfo).load_app()
        if EXTENSION not in app.extensions:
            raise StartupError("this application does not register MaiSessions")
        with app.app_context():
            return super()._invoke(ctx)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mai-sessions")
def main() -> None:
    """Store the chats of an LLM frontend."""


@click.group("mai-sessions", cls=_FlaskGroup)
def flask_group() -> None:
    """Manage the sessions and messages of this application."""
