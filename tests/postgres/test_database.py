"""The pool: connections that PostgreSQL ends, that are not fit, and those of a replica that is not there."""

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from mai_sessions.errors import StartupError, Unavailable
from mai_sessions.postgres.connection import Connection, fetch_one


def test_connection_that_the_server_ended_is_not_lent(
    app: Flask, client: FlaskClient, conn: psycopg.Connection[Any], server_url: str
) -> None:
    with psycopg.connect(server_url, autocommit=True) as superuser:
        for _ in range(10):
            with app.extensions["mai_sessions"].database.connection() as pooled:
                pid = pooled.info.backend_pid
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert client.get("/api/v1/sessions").status_code == 200


def test_without_options_the_role_sets_what_matters(make_app: Callable[..., Flask]) -> None:
    app = make_app(prepare="off")
    with app.extensions["mai_sessions"].database.connection() as pooled:
        assert not pooled.prepares
        for name, value in {
            "timezone": "UTC",
            "statement_timeout": "10s",
            "plan_cache_mode": "force_generic_plan",
            "jit": "off",
        }.items():
            assert pooled.execute(f"SHOW {name}".encode()).fetchone() == (value,)


def test_a_role_without_a_limit_is_refused(make_app: Callable[..., Flask], database_url: str) -> None:
    with pytest.raises(StartupError, match=r"statement_timeout 0, and needs UTC and a limit"):
        make_app(prepare="off", database_url=database_url)


def test_a_role_of_another_timezone_is_refused(
    make_app: Callable[..., Flask], make_migrated_database: Callable[[], str]
) -> None:
    url = make_migrated_database()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET timezone = 'America/Chicago'".encode())
        conn.execute(f"ALTER DATABASE {conn.info.dbname} SET statement_timeout = '10s'".encode())
    with pytest.raises(StartupError, match=r"timezone America/Chicago and"):
        make_app(prepare="off", database_url=url)
    # The options go before.
    assert make_app(database_url=url).test_client().get("/api/v1/sessions").status_code == 200


def test_a_dead_replica_is_left_alone(
    make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(read_url="host=127.0.0.1 port=1 dbname=none")
    client = app.test_client()
    client.post("/api/v1/sessions", json={"title": "Trip"})
    for _ in range(3):
        assert client.get("/api/v1/search?q=trip").get_json()["results"][0]["session"]["title"] == "Trip"
        assert client.get("/api/v1/analytics/usage").get_json()["total_sessions"] == 1
    assert "mai_sessions_db_replica_fallbacks_total 6.0" in client.get("/metrics").text
    # The first read found it dead; the others did not wait.
    assert sum("the replica failed" in record.message for record in caplog.records) == 1
    health = client.get("/health/detailed").get_json()
    assert health["status"] == "healthy"
    assert health["services"]["postgres"]["details"]["replica"]["ok"] is False


def test_connection_that_ends_under_a_statement_is_told(
    app: Flask, conn: Connection, server_url: str
) -> None:
    with (
        psycopg.connect(server_url, autocommit=True) as superuser,
        app.extensions["mai_sessions"].database.connection() as pooled,
    ):
        fetch_one(pooled, "SELECT /* first */ 1", {})
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pooled.info.backend_pid])
        with pytest.raises(Unavailable):
            fetch_one(pooled, "SELECT /* first */ 1", {})
        with pytest.raises(Unavailable):
            fetch_one(pooled, "SELECT /* second */ 1", {})


def test_connection_that_breaks_after_a_last_word_is_told(app: Flask, conn: Connection) -> None:
    """As in an immediate shutdown: libpq cannot send, but has something to read, and takes the connection for
    a good one.
    """
    with app.extensions["mai_sessions"].database.connection() as pooled:
        pooled.execute("LISTEN words")
        conn.execute("NOTIFY words")
        broken = socket.socket(fileno=pooled.pgconn.socket)
        assert select.select([broken], [], [], 10)[0]
        broken.shutdown(socket.SHUT_WR)
        broken.detach()
        with pytest.raises(Unavailable):
            fetch_one(pooled, "SELECT /* first */ 1", {})
    with app.extensions["mai_sessions"].database.connection() as pooled:
        assert fetch_one(pooled, "SELECT /* first */ 1", {}) == (1,)


def test_statement_stays_prepared_after_a_rollback(conn: Connection) -> None:
    def prepared() -> list[tuple[str]]:
        return conn.execute("SELECT name FROM pg_prepared_statements").fetchall()

    for number in (1, 2):
        with suppress(ZeroDivisionError), conn.transaction():
            assert fetch_one(conn, "SELECT /* answer */ %(number)s::int", {"number": number}) == (number,)
            raise ZeroDivisionError
        conn.execute("SELECT 1", prepare=True)
    assert ("answer_0",) in prepared()


def test_citus_plans_for_values(make_app: Callable[..., Flask], conn: psycopg.Connection[Any]) -> None:
    def mode() -> str:
        with make_app().extensions["mai_sessions"].database.connection() as pooled:
            return str(pooled.execute("SHOW plan_cache_mode").fetchone()[0])

    assert mode() == "force_generic_plan"
    conn.execute("INSERT INTO pg_extension SELECT 1, 'citus', 10, 11, false, '12.1'")
    try:
        assert mode() == "auto"
    finally:
        conn.execute("DELETE FROM pg_extension WHERE extname = 'citus'")
