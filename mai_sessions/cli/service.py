"""The commands that run the service, and that print and check its configuration."""

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import click
from flask import Flask, current_app, has_app_context

from mai_sessions.cli.database import (
    DATA_DIR,
    command_settings,
    exit_on_signals,
    reachable_database,
    serving_database,
)
from mai_sessions.cli.groups import main
from mai_sessions.config import Settings, as_in_application
from mai_sessions.postgres import migrations
from mai_sessions.postgres.database import Database
from mai_sessions.web.state import EXTENSION


@main.command()
@click.option("--host", help="Address to listen on.  [default: that of MAI_SESSIONS_BIND]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; 0 chooses a free one.")
@DATA_DIR
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes.  [default: MAI_SESSIONS_WORKERS]"
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of each worker.  [default: MAI_SESSIONS_THREADS]"
)
def serve(
    host: str | None, port: int | None, data_dir: Path | None, workers: int | None, threads: int | None
) -> None:
    """Serve the API until Ctrl-C, with DATABASE_URL or else with a private PostgreSQL."""
    # Only here: `flask` imports this module for every command.
    from mai_sessions.server import serve as server  # noqa: PLC0415

    settings = Settings.from_environ()
    settings = replace(settings, workers=workers or settings.workers, threads=threads or settings.threads)
    bind, url = server.listen(settings, host, port)
    exit_on_signals()
    with serving_database(settings, data_dir) as (database_url, keep_running):
        settings = replace(settings, bind=bind, database_url=database_url)
        server.Gunicorn(settings, url, keep_running).run()


@main.command()
@click.option(
    "--markdown", is_flag=True, help="Print the table of all settings instead, as in docs/settings.md."
)
@click.option(
    "--check",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Check the settings in an environment file of systemd instead; exit with 1 if one is wrong.",
)
def config(markdown: bool, file: Path | None) -> None:
    """Print the settings in force, with secrets masked, and the source of each."""
    if markdown:
        click.echo(Settings.markdown())
        return
    if file:
        os.environ.update(_read_environment_file(file))
        Settings.from_environ()
        click.echo("ok")
        return
    sources = {} if has_app_context() else Settings.sources()
    for variable, value in command_settings().in_force():
        name = as_in_application(variable) if has_app_context() else variable
        click.echo(f"{name}={value}" + (f"  # {sources[name]}" if name in sources else ""))


def _read_environment_file(file: Path) -> dict[str, str]:
    """Read NAME=value lines, as systemd's EnvironmentFile= does for values without line breaks."""
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    pairs = [line.partition("=") for line in lines if line and line[0] not in "#;"]
    return {name.strip(): value.strip().strip("\"'") for name, separator, value in pairs if separator}


@main.command()
def routes() -> None:
    """List the routes: method, path, and the function in mai_sessions/api."""
    app = current_app if has_app_context() else _routed_app()
    rows = sorted(
        (rule.rule, min((rule.methods or set()) - {"HEAD", "OPTIONS"}), rule.endpoint.rpartition(".")[2])
        for rule in app.url_map.iter_rules()
        # These endpoints only refuse methods.
        if not rule.endpoint.endswith("._refuse_method")
        if rule.endpoint.startswith(EXTENSION)
    )
    for path, method, function in rows:
        click.echo(f"{method:<6} {path:<52} {function}")


def _routed_app() -> Flask:
    # Only here: MaiSessions does not need them.
    from mai_sessions import api  # noqa: PLC0415
    from mai_sessions.extension import DEFAULT_PREFIX  # noqa: PLC0415

    app = Flask(__name__)
    app.register_blueprint(api.blueprint, url_prefix=DEFAULT_PREFIX)
    app.register_blueprint(api.service_blueprint)
    return app


@main.command()
@DATA_DIR
def check(data_dir: Path | None) -> None:
    """Check the settings, the connection to PostgreSQL and the schema; exit with 1 if one is wrong."""
    with reachable_database(data_dir) as (database_url, _):
        with closing(Database(replace(command_settings(), database_url=database_url))) as database:
            database.check_session_settings()
        migrations.migrate(database_url, "check")
    click.echo("ok")
