"""A worker node that is stopped, killed or hangs: its users get 503, others are served, and nothing is a
500.
"""

from collections.abc import Callable
from signal import Signals
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.citus import HUNG, KILLED, STOPPED, Node, nodes
from support.service import wait_until

SHARD_NODE = """
    SELECT nodeport
      FROM pg_dist_placement
      JOIN pg_dist_node USING (groupid)
     WHERE shardid = get_shard_id_for_distribution_column('sessions', %s::text)"""


def users_by_node(conn: psycopg.Connection[Any]) -> dict[int, str]:
    """A user of each worker node, by the node's port."""
    users: dict[int, str] = {}
    for number in range(100):
        [(port,)] = conn.execute(SHARD_NODE, [f"user{number}"]).fetchall()
        users.setdefault(port, f"user{number}")
    return users


class Caller:
    """A user with a session."""

    def __init__(self, client: FlaskClient, user_id: str) -> None:
        self._client = client
        self._headers = {"X-Forwarded-User": user_id}
        self._session = f"{SESSIONS}/{self._send('POST', SESSIONS, {'title': 'Trip'}).get_json()['id']}"

    def _send(self, method: str, path: str, body: Any = None) -> Any:
        return self._client.open(path, method=method, json=body, headers=self._headers)

    def statuses(self) -> set[int]:
        """The statuses of a read, a write, a deletion, a search and analytics; a 503 has Retry-After."""
        responses = [
            self._send("GET", SESSIONS),
            self._send("POST", f"{self._session}/messages", {"role": "user", "content": "hi"}),
            self._send("DELETE", f"{self._session}/messages"),
            self._send("GET", "/api/v1/search?q=hi"),
            self._send("GET", "/api/v1/analytics/usage"),
        ]
        for response in responses:
            assert response.status_code != 503 or int(response.headers["Retry-After"]) > 0
        return {response.status_code for response in responses}


@pytest.mark.parametrize("fault", [STOPPED, KILLED, HUNG])
def test_lost_node_affects_only_its_users(
    make_app: Callable[..., Any], database_url: str, conn: psycopg.Connection[Any], fault: Signals
) -> None:
    users = users_by_node(conn)
    lost: Node = nodes(database_url)[1]
    app = make_app(auth="proxy", trusted_proxies=("127.0.0.1",), statement_timeout=0.5)
    client = app.test_client()
    its_user = Caller(client, users.pop(lost.port))
    others = [Caller(client, user_id) for user_id in users.values()]

    with lost.away(fault):
        for _ in range(3):
            assert its_user.statuses() == {503}
            assert [other.statuses() for other in others] == [{200, 201, 204}] * len(others)
        health = client.get("/health/detailed").get_json()
        assert health["status"] == "degraded"
        details = health["services"]["postgres"]["details"]
        assert details["nodes"] == {"total": len(users) + 2, "unreachable": 1}
        assert client.get("/health/ready").status_code == 200

    wait_until(lambda: its_user.statuses() == {200, 201, 204})
    wait_until(lambda: client.get("/health/detailed").get_json()["status"] == "healthy")
