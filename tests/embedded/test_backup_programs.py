"""The programs of PostgreSQL that backup and restore run: roles, missing and failing programs, passwords."""

import re
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.backups import client_path, rows, run
from support.chats import SESSIONS
from support.scripts import DBA

from mai_sessions import create_app
from mai_sessions.config import Settings
from mai_sessions.embedded.backup import backup
from mai_sessions.errors import StartupError


def test_restore_works_on_a_server_with_roles(
    make_migrated_database: Callable[[], str],
    new_database: str,
    run_program: Callable[..., str],
    tmp_path: Path,
) -> None:
    """docs/backup.md: the role readonly backs up, the owner restores."""

    def as_role(role: str, url: str) -> str:
        return make_conninfo(url, user=f"mai_sessions_{role}", password=f"mai_sessions_{role}")

    source = make_migrated_database()
    with psycopg.connect(source) as conn:
        conn.execute("INSERT INTO users VALUES ('ann', 0)")
        path = client_path(conn)
    file = tmp_path / "x"
    run("backup", file, DATABASE_URL=as_role("readonly", source), PATH=path)
    run_program("psql", "--no-psqlrc", "-f", str(DBA / "roles.sql"), new_database)
    run("restore", file, DATABASE_URL=as_role("owner", new_database), PATH=path)
    run_program("psql", "--no-psqlrc", "-f", str(DBA / "roles.sql"), new_database)
    assert rows(new_database) == rows(source)
    with create_app(
        Settings(database_url=as_role("app", new_database), migrate="check")
    ).test_client() as client:
        assert client.post(SESSIONS, json={}).status_code == 201
        client.application.extensions["mai_sessions"].close()
    assert run("backup", tmp_path / "y", DATABASE_URL=source, PATH=str(tmp_path)) == (
        "Error: pg_dump is missing: install PostgreSQL's client programs, of the server's version\n"
    )


def test_owner_restores_into_a_database_whose_extensions_another_role_owns(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    """The superuser of the suite has created them; the owner may create pgstattuple nowhere."""
    source = make_migrated_database()
    with psycopg.connect(source, autocommit=True) as conn:
        conn.execute("INSERT INTO users VALUES ('ann', 0)")
        conn.execute("CREATE EXTENSION pgstattuple")
        path = client_path(conn)
    file = tmp_path / "x"
    run("backup", file, DATABASE_URL=source, PATH=path)
    for target in (source, make_migrated_database()):
        owner = make_conninfo(target, user="mai_sessions_owner", password="mai_sessions_owner")
        assert run("restore", file, "--force", DATABASE_URL=owner, PATH=path) == f"{file} is restored\n"
        assert rows(target)["users"] == rows(source)["users"]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The directory of a pg_dump that writes a part of a backup, prints its arguments, and fails."""
    program = tmp_path / "pg_dump"
    program.write_text(
        """#!/bin/sh
        for argument; do
            case $argument in
                --file=*) echo half > "${argument#--file=}" ;;
                *passfile=*) passfile=$(cat "${argument##*passfile=}") ;;
            esac
        done
        printf '%s %s\\n' "$passfile" "$*" >&2
        exit 1"""
    )
    program.chmod(0o755)
    return tmp_path


def test_incomplete_backup_does_not_get_the_name(programs: Path) -> None:
    file = programs / "archive"
    with pytest.raises(StartupError, match="pg_dump"):
        backup("dbname=x", file, programs=programs, progress=lambda _: None)
    assert [path.name for path in programs.iterdir()] == ["pg_dump"]


def test_password_is_on_no_command_line(programs: Path) -> None:
    with pytest.raises(StartupError) as caught:
        backup(
            r"host=a user=ann password='top-s3\\c:ret'",
            programs / "archive",
            programs=programs,
            progress=lambda _: None,
        )
    passfile, command_line = str(caught.value).removeprefix("pg_dump: ").split(" ", 1)
    assert passfile == r"*:*:*:*:top-s3\\c\:ret"
    assert re.search(r"--dbname=user=ann host=a options='[^']*' passfile=", command_line)
    assert "top-s3" not in command_line
