"""The commands that write and read files: backup, restore, import, export."""

import sys
from pathlib import Path

import click

from mai_sessions.auth.credentials import MAX_USER_ID
from mai_sessions.cli.database import (
    DATA_DIR,
    command_settings,
    migrated_connections,
    reachable_database,
    show_progress,
)
from mai_sessions.cli.groups import main
from mai_sessions.content.tokens import load_tokenizer
from mai_sessions.embedded import backup
from mai_sessions.importers.reader import SOURCES
from mai_sessions.importers.run import IMPORT_CONNECTIONS, Import, export_file, import_files
from mai_sessions.postgres import migrations


def _check_user(_: click.Context, __: click.Parameter, value: str) -> str:
    if not 1 <= len(value) <= MAX_USER_ID or "\0" in value:
        raise click.BadParameter(f"a user has 1 to {MAX_USER_ID} characters")
    return value


_FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))


@main.command("backup")
@_FILE
@DATA_DIR
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def backup_(file: Path, data_dir: Path | None, force: bool) -> None:
    """Back up DATABASE_URL, or else the private PostgreSQL, to FILE, whether or not the service runs."""
    with reachable_database(data_dir, direct=True) as (database_url, programs):
        backup.backup(database_url, file, programs=programs, force=force, progress=show_progress)
    click.echo(f"{file}: {file.stat().st_size:,} bytes", err=True)


@main.command()
@_FILE
@DATA_DIR
@click.option("--force", is_flag=True, help="Replace all rows of the database.")
def restore(file: Path, data_dir: Path | None, force: bool) -> None:
    """Restore the backup in FILE, and apply the migrations that are newer than it."""
    with reachable_database(data_dir, make=True, direct=True) as (database_url, programs):
        backup.restore(database_url, file, programs=programs, force=force, progress=show_progress)
        migrations.migrate(database_url, command_settings().migrate)
    click.echo(f"{file} is restored", err=True)


@main.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--user", "user_id", required=True, callback=_check_user, help="The user who gets the chats.")
@click.option(
    "--format",
    "source",
    type=click.Choice(["auto", *SOURCES]),
    default="auto",
    show_default=True,
    help="Which product wrote the files.",
)
@click.option("--dry-run", is_flag=True, help="Print what would be done, and store nothing.")
@DATA_DIR
def import_(files: tuple[Path, ...], user_id: str, source: str, dry_run: bool, data_dir: Path | None) -> None:
    """Import chats that another product or this one has exported (docs/import.md).

    A second run adds only what is new. Exits with 1 if a conversation was refused.
    """
    options = Import(
        user_id=user_id,
        source=None if source == "auto" else source,
        dry_run=dry_run,
        count_tokens=load_tokenizer(command_settings().tokenizer),
    )
    with migrated_connections(data_dir, make=True, count=IMPORT_CONNECTIONS) as conns:
        complete = import_files(conns, files, options)
    if not complete:
        sys.exit(1)


@main.command()
@click.argument("file", required=False, default="-", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--user", "user_id", required=True, callback=_check_user, help="The owner of the chats.")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@DATA_DIR
def export(file: str, user_id: str, force: bool, data_dir: Path | None) -> None:
    """Write all sessions of a user to FILE or the standard output, in the format of `import`."""
    with migrated_connections(data_dir) as [conn]:
        export_file(conn, user_id, file, force=force)
