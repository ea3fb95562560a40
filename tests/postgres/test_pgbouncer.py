"""The service behind a pooler: refused starts, and failures of the pooler."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.backups import COMMAND, ENVIRON
from support.chats import SESSIONS
from support.pgbouncer import PgBouncer, pgbouncer

from mai_sessions.errors import StartupError, Unavailable
from mai_sessions.postgres.migrations import migrate

# Only here do the messages about a pooler differ.
DROPS_OPTIONS = {"query_wait_timeout = 5": "query_wait_timeout = 5\nignore_startup_parameters = options"}
TAKES_COMMANDS = {"query_wait_timeout = 5": "query_wait_timeout = 1\nadmin_users = mai_sessions_app"}


@pytest.fixture(scope="module")
def pooler(database_url: str) -> Iterator[PgBouncer]:
    """A pooler before this worker's database."""
    with pgbouncer(database_url, **TAKES_COMMANDS) as pooler:
        yield pooler


@pytest.fixture
def client(pooler: PgBouncer, make_app: Callable[..., Flask]) -> FlaskClient:
    """A client of the service behind it."""
    return make_app(database_url=pooler.url, prepare="off", pool_timeout=0.5).test_client()


def test_prepared_statements_are_refused_at_start(pooler: PgBouncer, make_app: Callable[..., Flask]) -> None:
    with pytest.raises(StartupError, match=r"unsupported startup parameter: options.*docs/deploy\.md"):
        make_app(database_url=pooler.url)


def test_pooler_without_prepared_statements_is_noticed_at_start(
    database_url: str, make_app: Callable[..., Flask]
) -> None:
    """The pooler drops the options, and the role has the settings: only the statements show it."""
    with pgbouncer(database_url, **DROPS_OPTIONS) as pooler:
        for _ in range(3):
            with pytest.raises(
                StartupError, match=r"no prepared statements .*: set MAI_SESSIONS_PREPARE=off"
            ):
                make_app(database_url=pooler.url)
        make_app(database_url=pooler.url, prepare="off")


def test_pooler_of_sessions_keeps_prepared_statements(
    database_url: str, make_app: Callable[..., Flask]
) -> None:
    pools_sessions = {**DROPS_OPTIONS, "pool_mode = transaction": "pool_mode = session"}
    with pgbouncer(database_url, **pools_sessions) as pooler:
        client = make_app(database_url=pooler.url).test_client()
        for _ in range(2):
            assert client.get(SESSIONS).status_code == 200


def test_dropped_options_are_noticed(database_url: str, make_app: Callable[..., Flask]) -> None:
    with (
        pgbouncer(database_url, **DROPS_OPTIONS) as pooler,
        pytest.raises(StartupError, match="statement_timeout 0"),
    ):
        make_app(database_url=pooler.url_of("mai_sessions", "readonly"))


def test_migration_through_a_pooler_is_refused(new_database: str) -> None:
    with pgbouncer(new_database) as pooler:
        with pytest.raises(StartupError, match="need a connection past the pooler"):
            migrate(pooler.url, "on")
        with pytest.raises(StartupError, match="run `mai-sessions migrate`"):
            migrate(pooler.url, "check")
        migrate(new_database, "on")
        with psycopg.connect(new_database) as conn:
            conn.execute("GRANT SELECT ON schema_migrations TO mai_sessions_app")
        # Without pending migrations the start is not refused.
        migrate(pooler.url, "on")
        migrate(pooler.url, "check")


@pytest.mark.parametrize("arguments", [("backup", "archive"), ("restore", "archive"), ("psql", "health.sql")])
def test_programs_of_postgresql_are_refused(
    pooler: PgBouncer, client: FlaskClient, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Their settings, such as an empty search_path, would remain in a session that the service uses next."""
    (tmp_path / "archive").touch()
    done = subprocess.run(
        [COMMAND, *arguments, *["--force"] * (arguments[0] != "psql")],
        cwd=tmp_path,
        env=ENVIRON | {"DATABASE_URL": pooler.url},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: DATABASE_URL leads to a pooler")
    for _ in range(9):
        assert client.get(SESSIONS).status_code == 200


def test_read_without_a_connection_is_a_503(pooler: PgBouncer, client: FlaskClient) -> None:
    with closing(psycopg.connect(pooler.url_of("pgbouncer"), autocommit=True)) as commands:
        for path in (SESSIONS, "/health/ready"):
            commands.execute("PAUSE mai_sessions")
            assert client.get(path).status_code == 503
            commands.execute("RESUME mai_sessions")
            assert client.get(path).status_code == 200


def test_server_connection_that_ends_is_replaced(
    pooler: PgBouncer, client: FlaskClient, conn: psycopg.Connection[Any]
) -> None:
    statement = """
        SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
         WHERE datname = current_database() AND usename = %s"""
    for _ in range(5):
        assert client.post(SESSIONS, json={}).status_code == 201
        conn.execute(statement, ["mai_sessions_app"])
    assert client.get(SESSIONS).get_json()["total"] == 5


def test_absent_pooler_is_a_503(pooler: PgBouncer, client: FlaskClient) -> None:
    assert client.get(SESSIONS).status_code == 200
    pooler.stop()
    assert client.get(SESSIONS).status_code == 503
    pooler.start()
    deadline = time.monotonic() + 30
    while client.get(SESSIONS).status_code != 200:
        assert time.monotonic() < deadline


def test_transaction_whose_backend_ends_is_unavailable(client: FlaskClient, server_url: str) -> None:
    """The pooler sends the error of PostgreSQL and one of its own."""

    def lose_backend() -> None:
        database = client.application.extensions["mai_sessions"].database
        with (
            psycopg.connect(server_url, autocommit=True) as superuser,
            database.connection() as pooled,
            pooled.transaction(),
        ):
            backend = pooled.execute("SELECT pg_backend_pid()").fetchone()
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", backend)

    with pytest.raises(Unavailable):
        lose_backend()
