"""Concurrent writers that retry and lose connections: each write is stored once, and no check finds a row."""

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.races import at_once
from support.scripts import RunChecks

Conn = psycopg.Connection[Any]
PAIRS, STEPS, CUTS = 3, 12, 60
# As a service that loses its connections responds, and one that the first request of a key still runs in.
RETRIED = (503, 409)


class Writer:
    """A client whose requests depend on its seed. Two of the same seed send the same at once.

    Each request is sent until it succeeds, and then sometimes once more, as if its response had been lost.
    """

    def __init__(self, client: FlaskClient, sessions: list[str], name: str, seed: str) -> None:
        self._client, self._sessions, self._name = client, sessions, name
        self._chance = random.Random(seed)
        self._seed = seed
        self.ids: set[str] = set()
        self.contents: set[str] = set()

    def run(self) -> None:
        for number in range(STEPS):
            self._step(number, self._chance.choice(self._sessions))

    def _step(self, number: int, session: str) -> None:
        kind = self._chance.choice(["one", "batch", "overlapping batch", "key"])
        count = 1 if kind == "one" else self._chance.randint(1, 4)
        rows = [
            {"role": "user", "content": f"{self._seed} {number} {place}", "metadata": {"place": place}}
            for place in range(count)
        ]
        headers = {}
        if kind == "key":
            headers["Idempotency-Key"] = f"{self._seed}-{number}"
        else:
            for row in rows:
                row["id"] = str(UUID(int=self._chance.getrandbits(128), version=4))
        self.contents.update(str(row["content"]) for row in rows)
        self.ids.update(str(row["id"]) for row in rows if "id" in row)
        path = f"{session}/messages"
        body = rows[0] if kind == "one" else {"messages": rows}
        if kind == "overlapping batch":
            self._send("POST", path, {"messages": rows[:1]}, headers)
        replies = [self._send("POST", path, body, headers)]
        if self._chance.random() < 0.5:
            replies.append(self._send("POST", path, body, headers))
        for reply in replies:
            assert [row["content"] for row in reply.get("messages", [reply])] == [
                row["content"] for row in rows
            ]
        metadata = {"metadata": {f"{self._name} {number}": number, f"{self._name} {number - 1}": None}}
        self._send("PATCH", session, metadata, {})

    def _send(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        for _ in range(CUTS + 50):
            response = self._client.open(path, method=method, json=body, headers=headers)
            if response.status_code not in RETRIED:
                assert response.status_code in {200, 201}, response.text
                return response.get_json()
        raise AssertionError(f"{response.status_code} again and again")


def cut_connections(conn: Conn, is_over: threading.Event) -> None:
    """End a connection of the application every few milliseconds, a limited number of times."""
    for _ in range(CUTS):
        if is_over.wait(0.02):
            return
        conn.execute("""
            SELECT pg_terminate_backend(a.pid)
              FROM pg_stat_activity AS a
             WHERE a.datname = current_database() AND a.application_name = 'mai-sessions'
             ORDER BY random()
             LIMIT 1""")


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("cuts", [False, True], ids=["connected", "cut"])
def test_writers_that_meet_and_retry_store_everything_once(  # noqa: PLR0917 - four fixtures and two parameters
    make_app: Callable[..., Flask],
    client: FlaskClient,
    conn: Conn,
    run_checks: RunChecks,
    seed: int,
    cuts: bool,
) -> None:
    app = make_app(pool_timeout=30, threads=2 * PAIRS)
    sessions = [client.post(SESSIONS).headers["Location"] for _ in range(2)]
    writers = [
        Writer(app.test_client(), sessions, f"writer {number}", f"{seed}-{number // 2}")
        for number in range(2 * PAIRS)
    ]
    is_over = threading.Event()
    cutter = threading.Thread(target=cut_connections, args=[conn, is_over])
    if cuts:
        cutter.start()
    try:
        at_once(len(writers), lambda number: writers[number].run())
    finally:
        is_over.set()
        if cuts:
            cutter.join()
    rows = conn.execute("SELECT id::text, content FROM messages").fetchall()
    assert Counter(content for _, content in rows) == Counter(
        {content for writer in writers for content in writer.contents}
    )
    assert {id for writer in writers for id in writer.ids} <= {id for id, _ in rows}
    merged = [client.get(session).get_json()["metadata"] for session in sessions]
    # Each writer took away the key of its step before, where that was in the same session.
    for number in range(2 * PAIRS):
        assert any(merge.get(f"writer {number} {STEPS - 1}") == STEPS - 1 for merge in merged)
    assert run_checks() == {}
