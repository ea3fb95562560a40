"""The removal of expired rows: by one worker at a time, in batches, and nothing that has not expired."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg.conninfo import make_conninfo
from support.chats import SESSIONS
from support.scripts import USERS, RunChecks

from mai_sessions import expiry
from mai_sessions.config import Settings
from mai_sessions.expiry import Expiry
from mai_sessions.postgres.database import Database

Conn = psycopg.Connection[Any]
Chats = dict[str, list[UUID]]


@pytest.fixture
def make_expiry(database_url: str, conn: Conn) -> Iterator[Callable[..., Expiry]]:
    """Makes an Expiry with the role of the service and other settings."""
    app_url = make_conninfo(database_url, user="mai_sessions_app", password="mai_sessions_app")
    databases = []

    def make(**settings: Any) -> Expiry:
        database = Database(Settings(database_url=app_url, threads=1, **settings))
        databases.append(database)
        return Expiry(database, Settings(**settings))

    yield make
    for database in databases:
        database.close()


def make_keys(client: FlaskClient, conn: Conn, *, hours_old: dict[str, float]) -> None:
    for key, hours in hours_old.items():
        client.post(SESSIONS, json={"title": key}, headers={"Idempotency-Key": key})
        conn.execute(
            "UPDATE idempotency_keys SET created_at = now() - make_interval(secs => %s * 3600) WHERE key = "
            "%s",
            [hours, key],
        )


def keys_left(conn: Conn) -> list[str]:
    return [key for (key,) in conn.execute("SELECT key FROM idempotency_keys ORDER BY key").fetchall()]


@pytest.mark.parametrize("batch", [1, 2, 3, 1000])
def test_keys_expire_after_a_day_and_their_sessions_are_kept(
    client: FlaskClient,
    conn: Conn,
    make_expiry: Callable[..., Expiry],
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr(expiry, "_BATCH", batch)
    make_keys(client, conn, hours_old={"a": 0, "b": 23.9, "c": 24.1, "d": 48, "e": 400, "f": 24.1})
    assert make_expiry().purge() == {"idempotency_keys": 4, "streams": 0, "sessions": 0}
    assert keys_left(conn) == ["a", "b"]
    assert client.get(SESSIONS).get_json()["total"] == 6


def test_one_worker_at_a_time_removes(
    client: FlaskClient, conn: Conn, make_expiry: Callable[..., Expiry]
) -> None:
    make_keys(client, conn, hours_old={"old": 25})
    with conn.transaction():
        assert conn.execute(expiry.TRY_LOCK).fetchone() == (True,)
        assert make_expiry().purge()["idempotency_keys"] == 0
    assert make_expiry().purge()["idempotency_keys"] == 1


def test_disabled_expiry_counts_overdue_rows(
    client: FlaskClient, conn: Conn, make_expiry: Callable[..., Expiry]
) -> None:
    make_keys(client, conn, hours_old={"due": 24.5, "overdue": 25.5})
    disabled = make_expiry(expiry="off")
    disabled.run_once()
    assert keys_left(conn) == ["due", "overdue"]
    assert disabled.count_overdue() == {"idempotency_keys": 1, "streams": 0}
    body = {"messages": [{"role": "assistant", "content": "", "status": "streaming"}]}
    client.post(SESSIONS, json=body)
    conn.execute("UPDATE messages SET created_at = now() - interval '3 hours', updated_at = NULL")
    disabled.run_once()
    assert disabled.count_overdue() == {"idempotency_keys": 1, "streams": 1}
    make_expiry().run_once()
    assert keys_left(conn) == []
    assert make_expiry().count_overdue() == {"idempotency_keys": 0, "streams": 0}


def test_abandoned_streams_are_interrupted_and_found(
    client: FlaskClient, conn: Conn, run_checks: RunChecks, make_expiry: Callable[..., Expiry]
) -> None:
    session = client.post(SESSIONS, json={}).get_json()["id"]
    for content in ("lighthouse", "windmill"):
        body = {"role": "assistant", "content": "", "status": "streaming"}
        message = client.post(f"{SESSIONS}/{session}/messages", json=body).headers["Location"]
        client.patch(message, json={"content": f"{content} by the sea"})
    hours_ago = """UPDATE messages
                      SET created_at = now() - interval '2 hours', updated_at = now() - %s * interval '1 hour'
                    WHERE content LIKE %s"""
    conn.execute(hours_ago, [0.9, "lighthouse%"])
    conn.execute(hours_ago, [1.1, "windmill%"])
    before = client.get(f"{SESSIONS}/{session}").get_json()["updated_at"]
    assert make_expiry().purge()["streams"] == 1
    rows = conn.execute("SELECT content, status, token_count FROM messages ORDER BY content").fetchall()
    assert rows == [("lighthouse by the sea", "streaming", 0), ("windmill by the sea", "interrupted", 4)]
    assert conn.execute("SELECT sum(token_count) FROM daily_usage WHERE part = 'total'").fetchone() == (4,)
    assert client.get("/api/v1/search?q=windmill").get_json()["results"]
    assert client.get(f"{SESSIONS}/{session}").get_json()["updated_at"] == before
    assert not {"check/newest_messages.sql", "check/message_counts.sql"} & run_checks().keys()


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_sessions_past_their_retention_go_with_everything_of_them(  # noqa: PLR0917 - five fixtures and a parameter
    conn: Conn,
    chats: Chats,
    run_checks: RunChecks,
    make_expiry: Callable[..., Expiry],
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
) -> None:
    monkeypatch.setattr(expiry, "_BATCH", batch)
    old = [chats[USERS[0]][0], *chats[USERS[2]]]
    conn.execute("UPDATE sessions SET updated_at = now() - interval '31 days' WHERE id = ANY (%s)", [old])
    assert make_expiry().purge(32)["sessions"] == 0
    make_expiry(retention_days=30).run_once()
    left = {id for (id,) in conn.execute("SELECT id FROM sessions").fetchall()}
    assert left == {id for ids in chats.values() for id in ids} - set(old)
    assert run_checks() == {}


def test_health_shows_the_last_run(app: Flask, client: FlaskClient) -> None:
    details = client.get("/health/detailed").get_json()["services"]["postgres"]["details"]
    assert set(details["expiry"]) == {"last_run", "overdue"}
