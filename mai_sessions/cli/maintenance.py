"""The commands that maintain a database: migrations, reindex, purge, upgrade, scripts."""

import sys
import time
from dataclasses import replace
from datetime import UTC
from functools import partial
from pathlib import Path

import click

from mai_sessions.cli.database import (
    DATA_DIR,
    command_settings,
    exit_on_signals,
    migrated_connections,
    private_postgres,
    reachable_database,
    show_progress,
)
from mai_sessions.cli.groups import main
from mai_sessions.embedded import backup, psql
from mai_sessions.errors import StartupError, Unavailable
from mai_sessions.expiry import Expiry
from mai_sessions.postgres import migrations
from mai_sessions.postgres.database import Database
from mai_sessions.repository import reindex as reindexing

# In seconds. Finding the next user with old lexemes may read much of an index of all users.
_REINDEX_STATEMENT_TIMEOUT = 3600.0


@main.command()
@click.option(
    "--status", "action", flag_value="status", help="List the migrations with the time of application."
)
@click.option("--check", "action", flag_value="check", help="Apply nothing; exit with 1 if any is pending.")
@click.option(
    "--sql",
    "action",
    flag_value="sql",
    help="Apply nothing; print the pending migrations as a script for psql.",
)
@DATA_DIR
def migrate(action: str | None, data_dir: Path | None) -> None:
    """Apply the pending migrations to DATABASE_URL, or else to the private PostgreSQL."""
    with reachable_database(data_dir, make=action is None) as (database_url, _):
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
@click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    help="Rows of a transaction.",
)
@click.option(
    "--rest",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    help="Pause after each batch, as a multiple of its duration.",
)
@DATA_DIR
def reindex(batch: int, rest: float, data_dir: Path | None) -> None:
    """Rewrite the lexemes of the search that an older release wrote. The service may run or not.

    It may be stopped at any time, and continues there when it is run again.
    """
    with migrated_connections(data_dir, statement_timeout=_REINDEX_STATEMENT_TIMEOUT) as [conn]:
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


@main.command()
@DATA_DIR
@click.option(
    "--programs",
    type=click.Path(path_type=Path),
    help="Directory of the old pg_ctl.  [default: the copy in the data directory]",
)
def upgrade(data_dir: Path | None, programs: Path | None) -> None:
    """Move the data of the private PostgreSQL to a new major version of PostgreSQL."""
    exit_on_signals()
    embedded = private_postgres()
    copy = partial(backup.copy, programs=embedded.PROGRAMS, progress=show_progress)
    if moved := embedded.upgrade(data_dir, programs, copy):
        click.echo(f"moved from PostgreSQL {moved[0]}; when all is well, delete {moved[1]}", err=True)
    else:
        click.echo("there is nothing to move", err=True)


@main.command()
@click.option(
    "--retention-days",
    type=click.IntRange(min=0),
    help="Delete sessions without writes in this time.  [default: MAI_SESSIONS_RETENTION_DAYS]",
)
@DATA_DIR
def purge(retention_days: int | None, data_dir: Path | None) -> None:
    """Remove expired keys, abandoned streams and old sessions, as the service does by itself."""
    settings = command_settings()
    days = settings.retention_days if retention_days is None else retention_days
    with reachable_database(data_dir) as (database_url, _):
        settings = replace(settings, database_url=database_url, read_url="", threads=1)
        database = Database(settings)
        try:
            database.check_session_settings()
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
@DATA_DIR
@click.pass_context
def psql_(ctx: click.Context, script: str | None, variables: tuple[str, ...], data_dir: Path | None) -> None:
    """Run a SCRIPT of sql/dba/ on the database, such as health.sql, or without one a shell."""
    path = psql.find_script(script) if script else None
    with reachable_database(data_dir, direct=True) as (database_url, programs):
        ctx.exit(psql.run_psql(database_url, path, variables, programs=programs))


@main.command()
@click.option("--path", is_flag=True, help="Print the directory of sql/dba/ instead.")
@click.option(
    "--deploy",
    is_flag=True,
    help="Print the directory of deploy/ instead, with the files for nginx and systemd.",
)
def scripts(path: bool, deploy: bool) -> None:
    """List the scripts for DBAs, and print their directory."""
    if path or deploy:
        click.echo(psql.SCRIPTS if path else psql.DEPLOYMENT)
        return
    for name, summary in psql.list_scripts():
        click.echo(f"{name:<36} {summary}")
    click.echo(
        f"\nThey are in {psql.SCRIPTS}, and run by `mai-sessions psql NAME`; the files of deploy/ are in "
        f"{psql.DEPLOYMENT}"
    )
