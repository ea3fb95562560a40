"""The console script `mai-sessions`."""

import click

from mai_sessions.errors import StartupError


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except StartupError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mai-sessions")
def main() -> None:
    """Keep the chats of an LLM frontend."""
