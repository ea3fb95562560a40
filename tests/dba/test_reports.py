"""Every report runs as readonly, and shows its subject."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import sleep
from typing import Any
from uuid import UUID

import psycopg
import pytest
from flask.testing import FlaskClient
from psycopg.conninfo import make_conninfo
from support.citus import ONE_NODE
from support.scripts import DBA, REPORTS, USERS, RunScript

Conn = psycopg.Connection[Any]
Chats = dict[str, list[UUID]]
ANN = USERS[0]
GIN_HEADING = "GIN indexes, with the pending entries, all of which each search reads"


@contextmanager
def extension(conn: Conn, name: str) -> Iterator[None]:
    """Create an extension in the database."""
    conn.execute(f"CREATE EXTENSION {name}".encode())
    yield
    conn.execute(f"DROP EXTENSION {name}".encode())


@pytest.mark.parametrize("report", REPORTS)
def test_report_runs_on_an_empty_database(conn: Conn, run_script: RunScript, report: str) -> None:
    run_script(report)


@ONE_NODE
def test_report_shows_sizes_and_growth(conn: Conn, chats: Chats, run_script: RunScript) -> None:
    conn.execute("ANALYZE")
    lines = run_script("report/sizes.sql")
    assert any(line.startswith("messages|21|") for line in lines)
    assert any(line.startswith("messages|messages_user_id_words_idx|") for line in lines)
    assert lines[-1].split("|", 1)[1] == "3|6|21|42"


def test_reports_show_users_and_sessions_by_size(chats: Chats, run_script: RunScript) -> None:
    lines = [line.split("|") for line in run_script("report/users.sql")]
    assert {
        (name, sessions, messages, attachments) for name, sessions, messages, attachments, *_ in lines
    } == {(name, "3", "7", "2") for name in USERS}
    longest = [line.split("|")[:4] for line in run_script("report/sessions.sql", user_id=ANN, top=2)]
    assert longest == [[ANN, str(chats[ANN][0]), "5", "1"], [ANN, str(chats[ANN][1]), "2", "0"]]


@ONE_NODE
def test_activity_shows_the_blocking_session(
    conn: Conn, chats: Chats, database_url: str, run_script: RunScript
) -> None:
    with psycopg.connect(database_url) as blocker, psycopg.connect(database_url) as blocked:
        blocker.execute("SELECT FROM users WHERE user_id = %s FOR UPDATE", [ANN])
        pids = blocker.info.backend_pid, blocked.info.backend_pid
        waiting = threading.Thread(
            target=blocked.execute, args=["UPDATE /* blocked_one */ users SET session_count = 9"]
        )
        waiting.start()
        while conn.execute("SELECT pg_blocking_pids(%s) <> '{}'", [pids[1]]).fetchone() != (True,):
            sleep(0.01)
        lines = run_script("report/activity.sql", seconds=3600)
        blocker.rollback()
        waiting.join()
        blocked.rollback()
    found = {line.split("|")[0]: line for line in lines}
    assert f"|{{{pids[0]}}}|" in found[str(pids[1])]
    assert found[str(pids[1])].endswith("|blocked_one")
    assert str(pids[0]) in found


@ONE_NODE
def test_report_shows_invalid_indexes_and_how_full_indexes_are(conn: Conn, run_script: RunScript) -> None:
    conn.execute("CREATE INDEX half_built_idx ON users (user_id)")
    conn.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'half_built_idx'::regclass")
    try:
        assert run_script("report/indexes.sql")[0].split("|")[1:8:6] == ["half_built_idx", "invalid: rebuild"]
        assert "invalid indexes|half_built_idx|rebuild_indexes.sql" in run_script("report/health.sql")
        with extension(conn, "pgstattuple"):
            assert any(line.startswith("messages_pkey|") for line in run_script("report/indexes.sql"))
    finally:
        conn.execute("DROP INDEX half_built_idx")


def indexes_of_search(lines: list[str]) -> set[str]:
    """The GIN indexes that a report names as those of the search."""
    rows = [line.split("|") for line in lines]
    return {row[1] for row in rows if row[2:3] == ["gin"] and row[-1].startswith("search")}


SEARCH_INDEXES = {"messages_user_id_words_idx", "session_titles_user_id_words_idx"}


@ONE_NODE
def test_indexes_of_the_search_are_named_with_their_pending_entries(
    conn: Conn, chats: Chats, run_script: RunScript
) -> None:
    with extension(conn, "pgstattuple"):
        lines = run_script("report/indexes.sql")
    assert indexes_of_search(lines) == SEARCH_INDEXES
    pending = {line.split("|")[0]: int(line.split("|")[-1]) for line in lines[lines.index(GIN_HEADING) + 1 :]}
    assert {name: pending[name] > 0 for name in SEARCH_INDEXES} == dict.fromkeys(SEARCH_INDEXES, True)


@ONE_NODE
def test_statements_have_the_names_of_functions_and_indexes_those_of_statements(
    conn: Conn, client: FlaskClient, run_script: RunScript
) -> None:
    preloaded = conn.execute("SHOW shared_preload_libraries").fetchone()
    if preloaded != ("pg_stat_statements",):
        assert run_script("report/statements.sql")[0].startswith("pg_stat_statements is not installed")
        return
    with extension(conn, "pg_stat_statements"):
        client.post("/api/v1/sessions", json={"title": "x"})
        client.get("/api/v1/sessions")
        lines = run_script("report/statements.sql", top=1000)
    assert {"create_session", "sessions"} <= {line.split("|")[0] for line in lines}
    assert indexes_of_search(lines) == SEARCH_INDEXES


@ONE_NODE
def test_health_names_the_schema(conn: Conn, run_script: RunScript) -> None:
    health = dict(line.split("|")[:2] for line in run_script("report/health.sql"))
    assert conn.execute("SELECT max(name) FROM schema_migrations").fetchone() == (health["schema"],)


def remark(run_script: RunScript, what: str) -> str:
    """The remark of the report on health at a value."""
    [line] = [line for line in run_script("report/health.sql") if line.startswith(f"{what}|")]
    return line.rsplit("|", 1)[1]


@ONE_NODE
def test_health_remarks_on_dead_rows(conn: Conn, run_script: RunScript) -> None:
    assert remark(run_script, "dead rows, most") == ""
    conn.execute("ALTER TABLE users SET (autovacuum_enabled = off)")
    try:
        conn.execute("INSERT INTO users SELECT number::text, 0 FROM generate_series(1, 12000) AS number")
        conn.execute("DELETE FROM users WHERE user_id <> '1'")
        conn.execute("SELECT pg_stat_force_next_flush()")
        assert remark(run_script, "dead rows, most") == "see vacuum.sql"
        conn.execute("VACUUM users")
        conn.execute("SELECT pg_stat_force_next_flush()")
        assert remark(run_script, "dead rows, most") == ""
    finally:
        conn.execute("ALTER TABLE users RESET (autovacuum_enabled)")


@ONE_NODE
@pytest.mark.parametrize("report", ["activity", "health", "vacuum"])
def test_report_says_what_is_hidden_from_a_role_without_statistics(
    database_url: str, run_program: Callable[..., str], report: str
) -> None:
    def first_line(role: str) -> str:
        url = make_conninfo(database_url, user=f"mai_sessions_{role}", password=f"mai_sessions_{role}")
        return run_program("psql", "-XqAt", "-f", str(DBA / f"report/{report}.sql"), url).partition("\n")[0]

    assert first_line("app").startswith("The sessions of other roles are hidden from this one")
    assert not first_line("readonly").startswith("The sessions")


OVERDUE = "expiry does not run: see docs/runbook.md"


def test_health_remarks_on_overdue_keys(conn: Conn, chats: Chats, run_script: RunScript) -> None:
    conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '24.5 hours'")
    assert remark(run_script, "keys older than 25 hours") == ""
    conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '25.5 hours'")
    assert remark(run_script, "keys older than 25 hours") == OVERDUE


def test_health_remarks_on_overdue_streams(conn: Conn, client: FlaskClient, run_script: RunScript) -> None:
    body = {"messages": [{"role": "assistant", "content": "", "status": "streaming"}]}
    assert client.post("/api/v1/sessions", json=body).status_code == 201
    conn.execute("UPDATE messages SET created_at = now() - interval '3 hours'")
    conn.execute("UPDATE messages SET updated_at = now() - interval '1.5 hours'")
    assert remark(run_script, "streams idle for 2 hours") == ""
    conn.execute("UPDATE messages SET updated_at = now() - interval '2.5 hours'")
    assert remark(run_script, "streams idle for 2 hours") == OVERDUE
