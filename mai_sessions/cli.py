"""The commands of `mai-sessions`, and of `flask mai-sessions` in another application."""

import math
import os
import signal
import sys
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path
from types import ModuleType

import click
from flask import Flask, current_app, has_app_context
from flask.cli import ScriptInfo

from mai_sessions.auth.credentials import MAX_USER_ID
from mai_sessions.config import Settings
from mai_sessions.content.tokens import load_tokenizer
from mai_sessions.embedded import backup, psql
from mai_sessions.errors import StartupError, Unavailable
from mai_sessions.expiry import Expiry
from mai_sessions.importers.reader import SOURCES
from mai_sessions.importers.run import IMPORT_CONNECTIONS, Import, export_file, import_files
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.database import Database
from mai_sessions.postgres.pool import Pool
from mai_sessions.repository import reindex as reindexing
from mai_sessions.web.state import EXTENSION, current_state

_DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the private PostgreSQL keeps its data."
)


class _Group(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return self._invoke(ctx)
        except StartupError as error:
            raise click.ClickException(str(error)) from error

    def _invoke(self, ctx: click.Context) -> object:
        return super().invoke(ctx)


class _FlaskGroup(_Group):
    """The commands of `main` that make sense in another application, with its settings."""

    _LEFT_OUT = ("serve", "upgrade")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in main.list_commands(ctx) if name not in self._LEFT_OUT]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return None if cmd_name in self._LEFT_OUT else main.get_command(ctx, cmd_name)

    def _invoke(self, ctx: click.Context) -> object:
        app = ctx.ensure_object(ScriptInfo).load_app()
        if EXTENSION not in app.extensions:
            raise StartupError("this application does not register MaiSessions")
        with app.app_context():
            return super()._invoke(ctx)


def _settings() -> Settings:
    return current_state().settings if has_app_context() else Settings.from_environ()


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mai-sessions")
def main() -> None:
    """Keep the chats of an LLM frontend."""


@click.group("mai-sessions", cls=_FlaskGroup)
def flask_group() -> None:
    """Manage the sessions and messages of this application."""


@main.command()
@click.option("--host", help="Address to listen on.  [default: that of MAI_SESSIONS_BIND]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, 0 for any that is free.")
@_DATA_DIR
@click.option(
    "--workers", type=click.IntRange(min=1), help="Worker processes.  [default: MAI_SESSIONS_WORKERS]"
)
@click.option(
    "--threads", type=click.IntRange(min=1), help="Threads of each.  [default: MAI_SESSIONS_THREADS]"
)
def serve(
    host: str | None, port: int | None, data_dir: Path | None, workers: int | None, threads: int | None
) -> None:
    """Serve the API, over DATABASE_URL or else over a private PostgreSQL, until Ctrl-C."""
    # Not with the module, which `flask` imports for every command.
    from mai_sessions.server import serve as server  # noqa: PLC0415

    settings = Settings.from_environ()
    settings = replace(settings, workers=workers or settings.workers, threads=threads or settings.threads)
    bind, url = server.listen(settings, host, port)
    _exit_on_signals()
    with _database(settings, data_dir) as database_url:
        server.Gunicorn(replace(settings, bind=bind, database_url=database_url), url).run()


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
    """Print the settings in force with secrets masked, and where each that is set comes from."""
    if markdown:
        click.echo(Settings.markdown())
        return
    if file:
        os.environ.update(_read_environment_file(file))
        Settings.from_environ()
        click.echo("ok")
        return
    sources = {} if has_app_context() else Settings.sources()
    for name, value in _settings().in_force():
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
        # Methods that are only refused are not routes.
        if not rule.endpoint.endswith("._refuse_method")
        if rule.endpoint.startswith(EXTENSION)
    )
    for path, method, function in rows:
        click.echo(f"{method:<6} {path:<52} {function}")


def _routed_app() -> Flask:
    # Not with the module: what MaiSessions does not need is imported only where it is used.
    from mai_sessions import api  # noqa: PLC0415
    from mai_sessions.extension import DEFAULT_PREFIX  # noqa: PLC0415

    app = Flask(__name__)
    app.register_blueprint(api.blueprint, url_prefix=DEFAULT_PREFIX)
    app.register_blueprint(api.service_blueprint)
    return app


def _exit_on_signals() -> None:
    """End in order, so that what was started is stopped too; gunicorn has its own handlers later."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: sys.exit())


def _database(settings: Settings, data_dir: Path | None) -> AbstractContextManager[str]:
    if settings.database_url:
        return nullcontext(settings.database_url)
    # Each thread may hold a connection; the rest are for the migrations and for whoever looks around with
    # psql.
    server: AbstractContextManager[str] = _private_postgres().postgresql(
        data_dir, {"max_connections": settings.workers * settings.threads + 20}
    )
    return server


def _private_postgres() -> ModuleType:
    try:
        # An extra, which may be missing.
        from mai_sessions.embedded import private_postgres  # noqa: PLC0415
    except ImportError:
        raise StartupError(
            "no PostgreSQL: set DATABASE_URL, or pip install 'mai-sessions[embedded]'"
        ) from None
    return private_postgres


@main.command()
@click.option(
    "--status", "action", flag_value="status", help="List the migrations and when each was applied."
)
@click.option("--check", "action", flag_value="check", help="Apply nothing; exit with 1 when one is pending.")
@click.option(
    "--sql", "action", flag_value="sql", help="Apply nothing; print what is pending as a script for psql."
)
@_DATA_DIR
def migrate(action: str | None, data_dir: Path | None) -> None:
    """Apply the pending migrations to the database of DATABASE_URL, or else to the private PostgreSQL."""
    with _reached(data_dir, make=action is None) as (database_url, _):
        _migrate(database_url, action)


def _migrate(database_url: str, action: str | None) -> None:
    if action == "status":
        for name, applied_at in migrations.status(database_url):
            when = f"{applied_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z" if applied_at else "pending"
            click.echo(f"{when:<20}  {name}")
    elif action == "check":
        migrations.migrate(database_url, "check")
    elif action == "sql":
        click.echo(migrations.pending_sql(database_url), nl=False)
    else:
        for migration in migrations.apply(database_url):
            click.echo(f"applied {migration.name}")


@main.command()
def check() -> None:
    """Check the settings, the connection to PostgreSQL and the schema; exit with 1 if one is wrong."""
    settings = _settings()
    Database(settings).check_session_settings()
    migrations.migrate(settings.database_url, "check")
    click.echo("ok")


@main.command()
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="Rows that are locked at once.",
)
@click.option(
    "--rest",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="How long to rest after each batch, in times of what the batch took.",
)
@_DATA_DIR
def reindex(batch: int, rest: float, data_dir: Path | None) -> None:
    """Write the words of the search again where an older release wrote them, while it is served or not.

    It may be stopped at any time, and goes on where it was.
    """
    with _reached(data_dir) as (database_url, _), Connection.connect(database_url, autocommit=True) as conn:
        left = reindexing.count_old_words(conn)
        messages = titles = 0
        with click.progressbar(length=sum(left), label="Reindexing", file=sys.stderr) as bar:
            started = time.monotonic()
            for written in reindexing.reindex(conn, batch):
                messages, titles = messages + written.messages, titles + written.titles
                bar.update(sum(written))
                time.sleep(rest * (time.monotonic() - started))
                started = time.monotonic()
        left = reindexing.count_old_words(conn)
    click.echo(f"wrote the words of {messages:,} messages and {titles:,} titles; left: {sum(left):,}")
    if sum(left):
        raise click.ClickException("rows were locked, or an older release still writes: run it again")


def _check_user(_: click.Context, __: click.Parameter, value: str) -> str:
    if not 1 <= len(value) <= MAX_USER_ID or "\0" in value:
        raise click.BadParameter(f"a user has 1 to {MAX_USER_ID} characters")
    return value


_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@main.command("backup")
@_FILE
@_DATA_DIR
@click.option("--force", is_flag=True, help="Replace FILE, if it is there.")
def backup_(file: Path, data_dir: Path | None, force: bool) -> None:
    """Back up DATABASE_URL, or else the private PostgreSQL, to FILE, whether or not the service runs."""
    with _reached(data_dir) as (database_url, programs):
        backup.backup(database_url, file, programs=programs, force=force, progress=_show)
    click.echo(f"{file}: {file.stat().st_size:,} bytes", err=True)


@main.command()
@_FILE
@_DATA_DIR
@click.option("--force", is_flag=True, help="Replace all that the database holds.")
def restore(file: Path, data_dir: Path | None, force: bool) -> None:
    """Make the database what a backup in FILE says, and apply the migrations that came after it."""
    with _reached(data_dir, make=True) as (database_url, programs):
        backup.restore(database_url, file, programs=programs, force=force, progress=_show)
        migrations.migrate(database_url, _settings().migrate)
    click.echo(f"{file} is restored", err=True)


@main.command()
@_DATA_DIR
@click.option(
    "--programs",
    type=click.Path(path_type=Path),
    help="Where the old pg_ctl is.  [default: the copy in the data directory]",
)
def upgrade(data_dir: Path | None, programs: Path | None) -> None:
    """Move the data of the private PostgreSQL to its new version, after an update brought one."""
    _exit_on_signals()
    embedded = _private_postgres()
    copy = partial(backup.copy, programs=embedded.PROGRAMS, progress=_show)
    if moved := embedded.upgrade(data_dir, programs, copy):
        click.echo(f"moved from PostgreSQL {moved[0]}; when all is well, delete {moved[1]}", err=True)
    else:
        click.echo("there is nothing to move", err=True)


@main.command()
@click.option(
    "--retention-days",
    type=click.IntRange(min=0),
    help="Delete sessions not written to for this long.  [default: MAI_SESSIONS_RETENTION_DAYS]",
)
@_DATA_DIR
def purge(retention_days: int | None, data_dir: Path | None) -> None:
    """Remove what the service removes by itself: expired keys, abandoned streams, old sessions."""
    settings = _settings()
    days = settings.retention_days if retention_days is None else retention_days
    with _reached(data_dir) as (database_url, _):
        settings = replace(settings, database_url=database_url, read_url="", threads=1)
        database = Database(settings)
        try:
            removed = Expiry(database, settings).purge(days)
        except Unavailable as error:
            raise StartupError(str(error)) from None
        finally:
            database.close()
    for kind, count in removed.items():
        click.echo(f"{kind.replace('_', ' ')}: {count:,} removed")


@main.command("psql")
@click.argument("script", required=False)
@click.option(
    "-v", "--variable", "variables", multiple=True, metavar="NAME=VALUE", help="A variable of the script."
)
@_DATA_DIR
@click.pass_context
def psql_(ctx: click.Context, script: str | None, variables: tuple[str, ...], data_dir: Path | None) -> None:
    """Run a SCRIPT of sql/dba/, such as health.sql, or a shell, on the database."""
    path = psql.find_script(script) if script else None
    with _reached(data_dir) as (database_url, programs):
        ctx.exit(psql.run_psql(database_url, path, variables, programs=programs))


@main.command()
@click.option("--path", is_flag=True, help="Print only the directory of sql/dba/.")
@click.option(
    "--deploy",
    is_flag=True,
    help="Print only the directory of deploy/, with the files for nginx and systemd.",
)
def scripts(path: bool, deploy: bool) -> None:
    """List the scripts for DBAs, and print where they are installed."""
    if path or deploy:
        click.echo(psql.SCRIPTS if path else psql.DEPLOYMENT)
        return
    for name, summary in psql.list_scripts():
        click.echo(f"{name:<36} {summary}")
    click.echo(
        f"\nThey are in {psql.SCRIPTS}, and run by `mai-sessions psql NAME`; the files of deploy/ are in "
        f"{psql.DEPLOYMENT}"
    )


@main.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--user", "user_id", required=True, callback=_check_user, help="Whose chats these become.")
@click.option(
    "--format",
    "source",
    type=click.Choice(["auto", *SOURCES]),
    default="auto",
    show_default=True,
    help="Which product wrote the files.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be done, and store nothing.")
@_DATA_DIR
def import_(files: tuple[Path, ...], user_id: str, source: str, dry_run: bool, data_dir: Path | None) -> None:
    """Import the chats that another product, or this one, has exported; docs/import.md tells how.

    It may be run again: it adds only what is new. It ends with 1 if anything was refused.
    """
    options = Import(
        user_id=user_id,
        source=None if source == "auto" else source,
        dry_run=dry_run,
        count_tokens=load_tokenizer(_settings().tokenizer),
    )
    with _connected(data_dir, make=True, count=IMPORT_CONNECTIONS) as conns:
        complete = import_files(conns, files, options)
    if not complete:
        sys.exit(1)


@main.command()
@click.argument("file", required=False, default="-", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--user", "user_id", required=True, callback=_check_user, help="Whose chats these are.")
@click.option("--force", is_flag=True, help="Replace FILE, if it is there.")
@_DATA_DIR
def export(file: str, user_id: str, force: bool, data_dir: Path | None) -> None:
    """Write all sessions of a user to FILE, or to the standard output, for `import` to read."""
    with _connected(data_dir) as [conn]:
        export_file(conn, user_id, file, force=force)


@contextmanager
def _connected(data_dir: Path | None, *, make: bool = False, count: int = 1) -> Generator[list[Connection]]:
    """Give connections to the migrated database, whether it is served or not."""
    with _reached(data_dir, make=make) as (database_url, _):
        settings = replace(_settings(), database_url=database_url, threads=count)
        migrations.migrate(database_url, settings.migrate)
        pool = Pool(settings, "command")
        pool.check()
        try:
            with ExitStack() as checked_out:
                # A command waits for its own work as long as that takes.
                connections = (
                    pool.checkout(settings.pool_timeout, max_seconds=math.inf) for _ in range(count)
                )
                yield [checked_out.enter_context(connection) for connection in connections]
        except Unavailable as error:
            raise StartupError(f"{error}: run the same command again") from None
        finally:
            pool.close()


@contextmanager
def _reached(data_dir: Path | None, *, make: bool = False) -> Generator[tuple[str, Path | None]]:
    """Give the URI of the database, and where the programs are that go with it; None is the PATH."""
    _exit_on_signals()
    if database_url := _settings().database_url:
        yield database_url, None
        return
    embedded = _private_postgres()
    with embedded.reach(data_dir, make=make) as database_url:
        yield database_url, embedded.PROGRAMS


def _show(size: int) -> None:
    """Keep somebody who watches informed."""
    if sys.stderr.isatty():
        click.echo(f"{size:,} bytes\r", nl=False, err=True)
