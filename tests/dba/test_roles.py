"""The service under the role `app`, and the limits of the roles."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask
from psycopg.conninfo import make_conninfo
from support.chats import SESSIONS
from support.samples import base64_of, png
from support.scripts import DBA, RunScript

from mai_sessions.errors import StartupError
from mai_sessions.postgres.migrations import apply, migrate

Conn = psycopg.Connection[Any]
SCRIPT = "roles.sql"
MIGRATIONS_OF_0_1_0 = 8


def login(url: str, role: str) -> str:
    """The URL for a role."""
    return make_conninfo(url, user=f"mai_sessions_{role}", password=f"mai_sessions_{role}")


def tour(app: Flask) -> None:
    """Do every kind of write and read."""
    client = app.test_client()

    def call(method: str, path: str, expected: int = 200, **kwargs: Any) -> Any:
        response = client.open(path, method=method, **kwargs)
        assert response.status_code == expected, response.text
        return response.get_json(silent=True)

    key = {"headers": {"Idempotency-Key": str(uuid4())}}
    path = f"{SESSIONS}/{call('POST', SESSIONS, 201, json={'title': 'Trip'}, **key)['id']}"
    call("POST", SESSIONS, 201, json={"title": "Trip"}, **key)
    call("POST", SESSIONS, json={"title": "Trip", "id": path.rpartition("/")[2]})
    message = {
        "role": "assistant",
        "content": "See the sea",
        "images": [base64_of(png())],
        "model_id": "opus",
    }
    sent = call("POST", f"{path}/messages", 201, json=message, **key)
    call("POST", f"{path}/messages", 201, json=message, **key)
    second = call("POST", f"{path}/messages", 201, json=message)
    call("GET", f"{path}/messages/{sent['id']}")
    call("GET", f"{path}/messages")
    assert client.get(sent["images"][0]).data == png()
    call("PATCH", f"{path}/messages/{sent['id']}", json={"content": "Sea", "is_error": True})
    call("PATCH", path, json={"title": "Voyage"})
    call("GET", path)
    assert call("GET", "/api/v1/search?q=sea")["results"]
    assert call("GET", f"{SESSIONS}?search=voy")["total"] == 1
    for name in ("usage", "agents", "models", "summary"):
        call("GET", f"/api/v1/analytics/{name}")
    call("DELETE", f"{path}/messages/{second['id']}", 204)
    call("DELETE", f"{path}/messages", 204)
    call("POST", f"{path}/messages", 201, json=message)
    call("DELETE", path, 204)
    for name in ("live", "ready", "detailed"):
        call("GET", f"/health/{name}")


def test_service_runs_as_app(
    new_database: str, make_app: Callable[..., Flask], run_script: RunScript
) -> None:
    run_script(SCRIPT, url=new_database)
    with pytest.raises(StartupError, match="run `mai-sessions migrate`"):
        make_app(database_url=login(new_database, "app"), migrate="check")
    migrate(login(new_database, "owner"), "on")
    tour(make_app(database_url=login(new_database, "app"), migrate="check"))
    run_script(SCRIPT, url=new_database)
    tour(make_app(database_url=login(new_database, "app"), migrate="check"))


def test_tables_of_another_role_get_the_new_owner(
    new_database: str, run_script: RunScript, make_app: Callable[..., Flask]
) -> None:
    migrate(new_database, "on")
    for _ in range(2):
        printed = dict(line.split("|") for line in run_script(SCRIPT, url=new_database))
        assert printed["roles created"] == "none, all were there"
    with psycopg.connect(new_database) as conn:
        owners = conn.execute(
            "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        assert owners == [("mai_sessions_owner",)]
    tour(make_app(database_url=login(new_database, "app"), migrate="check"))


def settings(conn: Conn, role: str) -> list[str]:
    """The settings that a role gives to its connections."""
    row = conn.execute("SELECT rolconfig FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    assert row
    return list(row[0])


def test_roles_may_have_other_names(new_database: str, run_script: RunScript) -> None:
    names = {role: f"{role} of \"test's" for role in ("owner", "maintenance", "app", "readonly")}
    migrate(new_database, "on")
    run_script(SCRIPT, url=new_database, **names)
    with psycopg.connect(new_database, autocommit=True) as conn:
        row = conn.execute(
            "SELECT has_table_privilege(%(app)s, 'messages', 'DELETE'), has_table_privilege(%(readonly)s, "
            "'messages', 'DELETE'), has_table_privilege(%(readonly)s, 'messages', 'SELECT'), "
            "has_table_privilege(%(owner)s, 'messages', 'TRUNCATE')",
            names,
        ).fetchone()
        assert row == (True, False, True, True)
        assert "plan_cache_mode=force_generic_plan" in settings(conn, names["app"])
        conn.execute("INSERT INTO pg_extension SELECT 1, 'citus', 10, 11, false, '12.1'")
        run_script(SCRIPT, url=new_database, **names, statement_timeout="5s")
        assert settings(conn, names["app"]) == [
            "TimeZone=UTC",
            "DateStyle=ISO, MDY",
            "client_encoding=UTF8",
            "extra_float_digits=1",
            "bytea_output=hex",
            "array_nulls=on",
            "gin_fuzzy_search_limit=0",
            "standard_conforming_strings=on",
            "default_transaction_isolation=read committed",
            "search_path=public",
            "statement_timeout=5s",
            "plan_cache_mode=auto",
            "jit=off",
            "max_parallel_workers_per_gather=0",
            "random_page_cost=1.1",
            "enable_seqscan=off",
        ]
        conn.execute("DELETE FROM pg_extension WHERE extname = 'citus'")
        conn.execute('REASSIGN OWNED BY "owner of ""test\'s" TO current_user')
        for name in names.values():
            quoted = '"' + name.replace('"', '""') + '"'
            conn.execute(f"DROP OWNED BY {quoted}".encode())
            conn.execute(f"DROP ROLE {quoted}".encode())


@pytest.mark.parametrize(
    ("role", "statement"),
    [
        ("app", "CREATE TABLE extra (id integer)"),
        ("app", "ALTER TABLE sessions ADD COLUMN extra integer"),
        ("app", "TRUNCATE messages"),
        ("app", "DELETE FROM users"),
        ("app", "SELECT lo_create(0)"),
        ("app", "SELECT lo_from_bytea(0, 'x')"),
        ("app", "UPDATE schema_migrations SET version = version"),
        ("app", "CREATE EXTENSION pg_trgm"),
        ("readonly", "INSERT INTO users (user_id, session_count) VALUES ('x', 0)"),
        ("readonly", "UPDATE sessions SET title = title"),
        ("readonly", "DELETE FROM messages"),
        ("readonly", "CREATE TABLE extra (id integer)"),
        ("readonly", "SELECT lo_creat(0)"),
        ("maintenance", "ALTER TABLE sessions ADD COLUMN extra integer"),
        ("maintenance", "TRUNCATE messages"),
        ("maintenance", "UPDATE schema_migrations SET version = version"),
    ],
)
def test_role_has_no_other_rights(database_url: str, role: str, statement: str) -> None:
    with (
        psycopg.connect(login(database_url, role)) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute(statement.encode())


@pytest.mark.parametrize("role", ["app", "readonly", "maintenance"])
def test_roles_make_no_temporary_tables(new_database: str, run_script: RunScript, role: str) -> None:
    run_script(SCRIPT, url=new_database)
    with (
        psycopg.connect(login(new_database, role)) as conn,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        conn.execute("CREATE TEMPORARY TABLE extra (id integer)")


def test_administrator_with_createrole_makes_the_roles(
    new_database: str, run_program: Callable[..., str], make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    """A managed PostgreSQL has no superuser; here the service of 0.1.0 connects as the administrator."""
    names = {role: f"managed_{role}" for role in ("owner", "maintenance", "app", "readonly")}
    with psycopg.connect(new_database, autocommit=True) as conn:
        conn.execute("CREATE ROLE managed_admin LOGIN CREATEROLE PASSWORD 'managed_admin'")
        conn.execute(f'ALTER DATABASE "{conn.info.dbname}" OWNER TO managed_admin'.encode())
    try:
        admin = make_conninfo(new_database, user="managed_admin", password="managed_admin")
        for migration in (DBA.parent / "migrations").glob("000[1-8]_*.sql"):
            shutil.copy(migration, tmp_path)
        assert len(list(apply(admin, tmp_path))) == MIGRATIONS_OF_0_1_0
        sets = [f"--set={role}={name}" for role, name in names.items()]
        for created in (
            "managed_owner, managed_maintenance, managed_app, managed_readonly",
            "none, all were there",
        ):
            printed = run_program("psql", "-XAtf", str(DBA / SCRIPT), *sets, admin)
            assert f"roles created|{created}" in printed.splitlines()
        with psycopg.connect(admin, autocommit=True) as conn:
            # A service that connects as the former owner goes on.
            conn.execute("DELETE FROM messages")
            for role in ("owner", "app"):
                conn.execute(f"ALTER ROLE managed_{role} PASSWORD 'managed_{role}'".encode())
            conn.execute("REVOKE managed_owner FROM managed_admin")
        migrate(make_conninfo(new_database, user="managed_owner", password="managed_owner"), "on")
        url = make_conninfo(new_database, user="managed_app", password="managed_app")
        tour(make_app(database_url=url, migrate="check"))
    finally:
        with psycopg.connect(new_database, autocommit=True) as conn:
            conn.execute(f'ALTER DATABASE "{conn.info.dbname}" OWNER TO CURRENT_USER'.encode())
            for name in (*names.values(), "managed_admin"):
                conn.execute(f"REASSIGN OWNED BY {name} TO CURRENT_USER".encode())
                conn.execute(f"DROP OWNED BY {name} CASCADE".encode())
            for name in (*names.values(), "managed_admin"):
                conn.execute(f"DROP ROLE {name}".encode())


def test_every_table_is_given_out(conn: Conn) -> None:
    """A migration that creates a table must be followed by a change of roles.sql."""
    tables = conn.execute(
        """ SELECT tablename, tableowner, has_table_privilege('mai_sessions_app', format('public.%I',
        tablename), 'SELECT'),
               has_table_privilege('mai_sessions_readonly', format('public.%I', tablename), 'SELECT')
          FROM pg_tables WHERE schemaname = 'public'"""
    ).fetchall()
    assert len(tables) >= 8
    assert [table for table in tables if table[1:] != ("mai_sessions_owner", True, True)] == []
