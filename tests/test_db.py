"""The pool, when PostgreSQL ends its connections."""

from contextlib import suppress

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from mai_sessions.db import Connection, fetch_one
from mai_sessions.errors import Unavailable


def test_connection_that_the_server_ended_is_not_lent(app: Flask, client: FlaskClient, conn: Connection, server_url: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as superuser:
        for _ in range(10):
            with app.extensions["mai-sessions"].connection() as pooled:
                pid = pooled.info.backend_pid
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert client.get("/api/v1/sessions").status_code == 200


def test_connection_that_ends_under_a_statement_is_told(app: Flask, conn: Connection, server_url: str) -> None:
    with psycopg.connect(server_url, autocommit=True) as superuser, app.extensions["mai-sessions"].connection() as pooled:
        fetch_one(pooled, "SELECT /* first */ 1", {})
        superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pooled.info.backend_pid])
        with pytest.raises(Unavailable):
            fetch_one(pooled, "SELECT /* first */ 1", {})
        with pytest.raises(Unavailable):
            fetch_one(pooled, "SELECT /* second */ 1", {})


def test_statement_stays_prepared_after_a_rollback(conn: Connection) -> None:
    def prepared() -> list[tuple[str]]:
        return conn.execute("SELECT name FROM pg_prepared_statements").fetchall()

    for number in (1, 2):
        with suppress(ZeroDivisionError), conn.transaction():
            assert fetch_one(conn, "SELECT /* answer */ %(number)s::int", {"number": number}) == (number,)
            raise ZeroDivisionError
        conn.execute("SELECT 1", prepare=True)
    assert ("answer_0",) in prepared()
