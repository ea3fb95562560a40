"""Directories of migration files, and PostgreSQL's own programs."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep

import psycopg
import pytest

Run = Callable[..., str]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two migrations, for the tests to add to."""
    path = tmp_path / "migrations"
    path.mkdir()
    (path / "0001_create_notes.sql").write_text("CREATE TABLE notes (body text);\n")
    (path / "0002_add_author.sql").write_text("ALTER TABLE notes ADD author text;\n")
    return path


@pytest.fixture
def conn(new_database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(new_database, autocommit=True) as conn:
        yield conn


@pytest.fixture
def wait_for(conn: psycopg.Connection) -> Callable[[str], None]:
    """Wait until a query returns a row."""

    def wait_for(query: str) -> None:
        for _ in range(1000):
            if conn.execute(query).rowcount:
                return
            sleep(0.02)
        raise AssertionError(f"no row in time: {query}")

    return wait_for


@pytest.fixture
def dump_schema(run_program: Run) -> Callable[[str], str]:
    """Dump a schema as text that does not depend on the version of the server.

    Comments and settings go: they carry the versions of pg_dump and server, and `\\restrict` a random key.
    """

    def dump_schema(database_url: str) -> str:
        text = run_program("pg_dump", "--schema-only", "--no-owner", "--no-privileges", database_url)
        text = re.sub(
            r"^(--|SET |SELECT pg_catalog\.set_config|\\(un)?restrict).*\n", "", text, flags=re.MULTILINE
        )
        # The November 2026 releases of older majors stamp each column with a number of their own.
        text = re.sub(
            r"^ALTER TABLE ONLY \S+ ALTER COLUMN \S+ SET \(pg_attver=\d+\);\n", "", text, flags=re.MULTILINE
        )
        return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"

    return dump_schema
