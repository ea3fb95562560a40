"""Any node as the database of the service, and several at once: writers queue on the node of their user."""

import random
import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from flask.testing import FlaskClient
from psycopg.conninfo import make_conninfo
from support.chats import SESSIONS
from support.citus import Node, nodes
from support.samples import data_url, png
from support.scripts import RunChecks
from support.service import wait_until

from mai_sessions.auth.identity import DEFAULT_USER
from mai_sessions.config import Settings
from mai_sessions.expiry import Expiry
from mai_sessions.postgres.connection import Connection, run_transaction
from mai_sessions.postgres.database import Database
from mai_sessions.postgres.session_settings import connect
from mai_sessions.repository.attachments import LOCK_UPLOADS

ADVISORY_LOCKS = """
    SELECT granted
      FROM pg_locks
     WHERE locktype = 'advisory' AND classid <> 0
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
IMAGES = [data_url(png(noise=bytes([number]))) for number in range(4)]
SESSION_IDS = [str(UUID(int=number + 1)) for number in range(2)]
MESSAGE_IDS = [str(UUID(int=number + 100)) for number in range(4)]


@pytest.fixture
def clients(make_app: Callable[..., Any], database_url: str) -> list[FlaskClient]:
    """A client for each node: of an application that connects to that one."""
    role = {"user": "mai_sessions_app", "password": "mai_sessions_app"}
    return [
        make_app(database_url=make_conninfo(node.url, **role), threads=4, pool_timeout=60).test_client()
        for node in nodes(database_url)
    ]


def upload_locks(node: Node) -> list[bool]:
    """The advisory locks on a node of transactions that write attachments: whether each is held."""
    with psycopg.connect(node.url) as conn:
        return sorted(granted for (granted,) in conn.execute(ADVISORY_LOCKS).fetchall())


def lock_uploads(conn: Connection, session_id: str) -> None:
    run_transaction(conn, [LOCK_UPLOADS], {"user_id": DEFAULT_USER, "session_id": UUID(session_id)})


def test_every_node_serves_what_the_others_wrote(clients: list[FlaskClient]) -> None:
    for number, client in enumerate(clients):
        key = {"Idempotency-Key": str(number)}
        message = {"role": "user", "content": f"lighthouse {number}", "images": IMAGES}
        session = client.post(SESSIONS, json={"title": "Trip", "messages": [message]}, headers=key).json
        for other in clients:
            again = other.post(SESSIONS, json={"title": "Trip", "messages": [message]}, headers=key)
            assert again.json == session
            assert other.get(f"{SESSIONS}/{session['id']}").json == session
            assert other.get("/api/v1/search?q=lighthouse").json["results"]
            assert other.get(SESSIONS).json["total"] == 1
            assert other.get("/health/ready").status_code == 200
        assert client.delete(f"{SESSIONS}/{session['id']}").status_code == 204


def test_uploads_of_a_user_queue_whichever_nodes_they_come_through(
    clients: list[FlaskClient], database_url: str
) -> None:
    session_id = clients[0].post(SESSIONS, json={}).json["id"]
    first, second = [connect(Settings(database_url=node.url)) for node in nodes(database_url)[1:]]
    with first, second:
        with first.transaction():
            lock_uploads(first, session_id)
            waiting = threading.Thread(target=lock_uploads, args=[second, session_id])
            waiting.start()
            expected = [[False, True]]
            # One node has the user's shard, and there both locks are asked for.
            wait_until(
                lambda: [locks for node in nodes(database_url) if (locks := upload_locks(node))] == expected
            )
        waiting.join(timeout=60)
        assert not waiting.is_alive()


def test_writers_through_all_nodes_lose_and_double_nothing(
    clients: list[FlaskClient], run_checks: RunChecks
) -> None:
    failed = []

    def write(client: FlaskClient, number: int) -> None:
        choice = random.Random(number)
        for _ in range(40):
            path = f"{SESSIONS}/{choice.choice(SESSION_IDS)}"
            images = choice.sample(IMAGES, choice.randint(0, 3))
            message = {"role": "user", "content": "hi", "images": images, "id": choice.choice(MESSAGE_IDS)}
            method, target, body = choice.choice(
                [
                    ("POST", SESSIONS, {"id": path.rpartition("/")[2], "messages": [message]}),
                    ("POST", f"{path}/messages", message),
                    ("POST", f"{path}/messages", {"messages": [{"role": "user", "images": images}]}),
                    ("PATCH", f"{path}/messages/{message['id']}", {"images": images}),
                    ("DELETE", f"{path}/messages/{message['id']}", None),
                    ("DELETE", f"{path}/messages", None),
                    ("DELETE", path, None),
                ]
            )
            key = {"Idempotency-Key": choice.choice("ab")} if method == "POST" else {}
            response = client.open(target, method=method, json=body, headers=key)
            if response.status_code not in (200, 201, 204, 404, 422):
                failed.append((method, target, response.text))

    threads = [
        threading.Thread(target=write, args=[client, number])
        for number, client in enumerate([*clients, *clients])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert run_checks() == {}


def test_expiry_through_two_nodes_at_once_removes_each_key_once(
    clients: list[FlaskClient], database_url: str, conn: psycopg.Connection[Any]
) -> None:
    for number in range(40):
        clients[0].post(SESSIONS, json={}, headers={"Idempotency-Key": str(number)})
    conn.execute("UPDATE idempotency_keys SET created_at = '2024-01-01Z'")
    purged: list[int] = []

    def purge(node: Node) -> None:
        settings = Settings(database_url=node.url, threads=1)
        database = Database(settings)
        purged.append(Expiry(database, settings).purge()["idempotency_keys"])
        database.close()

    threads = [threading.Thread(target=purge, args=[node]) for node in nodes(database_url)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(purged) == 40
    assert conn.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (0,)
