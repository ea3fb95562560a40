"""The pool: connections that PostgreSQL closes, with wrong settings, and to an absent replica."""

import re
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support.samples import data_url, png
from support.service import wait_until

from mai_sessions.errors import StartupError, Unavailable
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection, fetch_one
from mai_sessions.postgres.session_settings import MEANING, PLANS


def test_connection_that_the_server_closed_is_not_checked_out(
    app: Flask, client: FlaskClient, conn: psycopg.Connection[Any], server_url: str
) -> None:
    with psycopg.connect(server_url, autocommit=True) as superuser:
        for _ in range(10):
            with app.extensions["mai_sessions"].database.connection() as pooled:
                pid = pooled.info.backend_pid
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert client.get("/api/v1/sessions").status_code == 200


def test_unprepared_connection_has_the_settings_of_the_role(make_app: Callable[..., Flask]) -> None:
    app = make_app(prepare="off")
    with app.extensions["mai_sessions"].database.connection() as pooled:
        assert not pooled.prepares
        for name, value in {
            **MEANING,
            "datestyle": "ISO, MDY",
            "statement_timeout": "10s",
            **PLANS,
        }.items():
            assert pooled.execute(f"SHOW {name}".encode()).fetchone() == (value,)


# Settings of a role or a database that the service refuses.
UNFIT = {
    "TimeZone": "America/Chicago",
    "DateStyle": "German",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "array_nulls": "off",
    "gin_fuzzy_search_limit": "5",
    "standard_conforming_strings": "off",
    "default_transaction_isolation": "repeatable read",
    "search_path": "pg_temp",
    "plan_cache_mode": "auto",
    "jit": "on",
    "max_parallel_workers_per_gather": "2",
    "random_page_cost": "4",
    "enable_seqscan": "on",
    "statement_timeout": "0",
}


@pytest.fixture(scope="module")
def pinned_database(make_migrated_database: Callable[[], str]) -> str:
    """A database whose own settings are those that the service needs."""
    url = make_migrated_database()
    with psycopg.connect(url, autocommit=True) as conn:
        for name, value in {**MEANING, **PLANS, "statement_timeout": "10s"}.items():
            conn.execute(alter_database(conn, name, value))
    return url


def alter_database(conn: psycopg.Connection[Any], name: str, value: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} SET {} = {}").format(
        sql.Identifier(conn.info.dbname), sql.Identifier(name), sql.Literal(value)
    )


@pytest.mark.parametrize(("name", "value"), UNFIT.items())
def test_unfit_setting_is_overridden_or_refused(
    make_app: Callable[..., Flask], pinned_database: str, name: str, value: str
) -> None:
    with psycopg.connect(pinned_database, autocommit=True) as conn:
        [(fit,)] = conn.execute("SELECT current_setting(%s)", [name]).fetchall()
        conn.execute(alter_database(conn, name, value))
        try:
            with pytest.raises(StartupError, match=rf"the session has {name} .*sql/dba/roles\.sql"):
                make_app(prepare="off", database_url=pinned_database)
            # The options of a connection override it.
            client = make_app(database_url=pinned_database).test_client()
            session = client.post("/api/v1/sessions", json={"title": "Trip"}).get_json()["id"]
            message = {"role": "user", "content": "a \\ lighthouse", "response_time_ms": 0.1 + 0.2}
            added = client.post(f"/api/v1/sessions/{session}/messages", json=message)
            assert added.status_code == 201
            assert added.get_json().items() >= message.items()
            assert client.get("/api/v1/search?q=lighthouse").get_json()["results"]
            assert client.get("/api/v1/analytics/usage").status_code == 200
        finally:
            conn.execute(alter_database(conn, name, fit))
    make_app(prepare="off", database_url=pinned_database)


def test_session_without_foreign_keys_is_refused(
    make_app: Callable[..., Flask], pinned_database: str
) -> None:
    """Removals rely on ON DELETE CASCADE, and only a superuser may set this."""
    with psycopg.connect(pinned_database, autocommit=True) as conn:
        conn.execute(alter_database(conn, "session_replication_role", "replica"))
        try:
            with pytest.raises(StartupError, match="session_replication_role replica"):
                make_app(database_url=pinned_database)
        finally:
            conn.execute(alter_database(conn, "session_replication_role", "origin"))


# Settings of a database that do not matter to the service.
HARMLESS = {
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "IntervalStyle": "iso_8601",
    "escape_string_warning": "off",
    "quote_all_identifiers": "on",
    "row_security": "off",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
    "xmloption": "document",
    "default_text_search_config": "german",
    "client_min_messages": "debug5",
    "idle_in_transaction_session_timeout": "1s",
    "lc_monetary": "C",
    "lc_numeric": "C",
    "lc_time": "C",
    "enable_indexscan": "off",
    "lock_timeout": "10s",
    "client_encoding": "LATIN1",
}


@pytest.mark.parametrize(("name", "value"), HARMLESS.items())
def test_other_setting_changes_no_response(
    make_app: Callable[..., Flask], pinned_database: str, name: str, value: str
) -> None:
    def use() -> list[Any]:
        client = make_app(database_url=pinned_database).test_client()
        file = {"type": "file", "data": data_url(b"%PDF-1.7 " + b"x" * 2000, "application/pdf")}
        message = {"role": "user", "content": "näher \\ 量子", "images": [data_url(png())], "parts": [file]}
        session = client.post("/api/v1/sessions", json={"title": "Ärger", "messages": [message]}).get_json()
        path = f"/api/v1/sessions/{session['id']}"
        [stored] = client.get(path).get_json()["messages"]
        client.patch(f"{path}/messages/{stored['id']}", json={"metadata": {"a": None, "b": 0.1}})
        responses = [
            client.get(stored["images"][0]),
            client.get("/api/v1/sessions?search=ärg"),
            client.get("/api/v1/search?q=量子"),
            client.get("/api/v1/analytics/usage"),
            client.get(f"/api/v1/export?session_id={session['id']}"),
            client.delete(f"{path}/messages/{stored['id']}"),
            client.delete(path),
        ]
        volatile = rb'"(id|session_id|message_id|head_id|version|\w+_at)":"[^"]*"'
        return [(response.status_code, re.sub(volatile, b"", response.data)) for response in responses]

    plain = use()
    with psycopg.connect(pinned_database, autocommit=True) as conn:
        [(fit,)] = conn.execute("SELECT current_setting(%s)", [name]).fetchall()
        conn.execute(alter_database(conn, name, value))
        try:
            assert use() == plain
        finally:
            conn.execute(alter_database(conn, name, fit))


def test_read_only_database_is_read(make_app: Callable[..., Flask], pinned_database: str) -> None:
    """The administrator forbids writes: they are unavailable, and reads work."""
    with psycopg.connect(pinned_database, autocommit=True) as conn:
        conn.execute(alter_database(conn, "default_transaction_read_only", "on"))
        try:
            client = make_app(database_url=pinned_database).test_client()
            assert client.get("/api/v1/sessions").status_code == 200
            response = client.post("/api/v1/sessions", json={})
            assert response.status_code == 503
            assert int(response.headers["Retry-After"]) > 0
        finally:
            conn.execute(alter_database(conn, "default_transaction_read_only", "off"))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP"])
def test_database_of_another_encoding_is_refused_unchanged(
    make_app: Callable[..., Flask], server_url: str, encoding: str
) -> None:
    name = f"test_{encoding.lower()}"
    url = make_conninfo(server_url, dbname=name)
    with psycopg.connect(server_url, autocommit=True) as superuser:
        superuser.execute(f"DROP DATABASE IF EXISTS {name}".encode())
        create = f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        superuser.execute(create.encode())
        try:
            with pytest.raises(StartupError, match=rf"server_encoding {encoding}.*ENCODING 'UTF8'"):
                make_app(database_url=url, migrate="on")
            with pytest.raises(StartupError, match=rf"encoded in {encoding}.*ENCODING 'UTF8'"):
                migrations.migrate(url, "on")
            with psycopg.connect(url, client_encoding="UTF8") as conn:
                assert conn.execute("SELECT to_regclass('public.schema_migrations')").fetchone() == (None,)
        finally:
            superuser.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_options_of_the_url_are_kept(make_app: Callable[..., Flask], database_url: str) -> None:
    url = make_conninfo(database_url, options="-c work_mem=7MB -c datestyle=German")
    with make_app(database_url=url).extensions["mai_sessions"].database.connection() as pooled:
        assert pooled.execute("SHOW work_mem").fetchone() == ("7MB",)
        assert pooled.execute("SHOW datestyle").fetchone() == ("ISO, DMY",)


def test_dead_replica_is_left_alone(make_app: Callable[..., Flask], caplog: pytest.LogCaptureFixture) -> None:
    app = make_app(read_url="host=127.0.0.1 port=1 dbname=none")
    client = app.test_client()
    client.post("/api/v1/sessions", json={"title": "Trip"})
    for _ in range(3):
        assert client.get("/api/v1/search?q=trip").get_json()["results"][0]["session"]["title"] == "Trip"
        assert client.get("/api/v1/analytics/usage").get_json()["total_sessions"] == 1
    assert "mai_sessions_db_replica_fallbacks_total 6.0" in client.get("/metrics").text
    # The first read found it dead; the others did not wait.
    assert sum("the replica database is away" in record.message for record in caplog.records) == 1
    health = client.get("/health/detailed").get_json()
    assert health["status"] == "healthy"
    assert health["services"]["postgres"]["details"]["replica"]["ok"] is False


def test_connection_that_ends_under_a_statement_is_unavailable(
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


def test_timeout_of_an_idle_transaction_is_unavailable(app: Flask, conn: Connection) -> None:
    def idle() -> None:
        with app.extensions["mai_sessions"].database.connection() as pooled, pooled.transaction():
            pooled.execute("SET LOCAL idle_in_transaction_session_timeout = '1ms'")
            backend = [pooled.info.backend_pid]
            wait_until(
                lambda: not conn.execute("SELECT FROM pg_stat_activity WHERE pid = %s", backend).rowcount
            )

    with pytest.raises(Unavailable):
        idle()


def test_timeout_of_a_long_transaction_is_unavailable(app: Flask, conn: Connection) -> None:
    if conn.info.server_version < 170000:
        pytest.skip("transaction_timeout needs PostgreSQL 17")

    def sleep() -> None:
        with app.extensions["mai_sessions"].database.connection() as pooled, pooled.transaction():
            pooled.execute("SET LOCAL transaction_timeout = '100ms'")
            pooled.execute("SELECT pg_sleep(60)")

    with pytest.raises(Unavailable):
        sleep()


def test_connection_that_breaks_after_a_notification_is_unavailable(app: Flask, conn: Connection) -> None:
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
