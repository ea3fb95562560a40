"""A connection keeps the plans that it makes. They use an index also where the tables are small, because the
tables grow.
"""

from collections.abc import Callable
from uuid import uuid4

import psycopg
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.samples import data_url, png

from mai_sessions import create_app
from mai_sessions.config import Settings
from mai_sessions.web.state import EXTENSION

MESSAGE = {"role": "user", "content": "some words"}
IMAGE = {**MESSAGE, "images": [data_url(png())]}
READS = [
    SESSIONS,
    f"{SESSIONS}?archived=any&limit=1",
    f"{SESSIONS}?search=chat",
    f"{SESSIONS}?search=chat&metadata=%7B%22a%22%3A1%7D",
    f"{SESSIONS}?metadata=%7B%22a%22%3A1%7D",
    "/api/v1/export",
    "{session}",
    "{session}?branches=all",
    "{session}?messages_limit=1",
    "{session}/messages",
    "{session}/messages?branches=all",
    "{session}/messages?max_tokens=5",
    "{session}/messages/{message}",
    "/api/v1/search?q=words",
    "/api/v1/search?q=chat&agent_name=chat",
    "/api/v1/analytics/summary",
    "/api/v1/analytics/usage",
]


def test_no_request_scans_a_table(make_migrated_database: Callable[[], str]) -> None:
    url = make_migrated_database()
    with psycopg.connect(url, autocommit=True) as conn:
        # As after a migration to a server that cleans up: the planner knows that the tables are empty.
        conn.execute("VACUUM ANALYZE")
        before = sequential_scans(conn)
        app = create_app(Settings(database_url=url, migrate="off"))
        try:
            for _ in range(2):
                use_all_routes(app.test_client())
            app.extensions[EXTENSION].expiry.run_once()
        finally:
            # A connection reports what it has counted when it is closed.
            app.extensions[EXTENSION].close()
        assert sequential_scans(conn) == before


def use_all_routes(client: FlaskClient) -> None:
    """Send each kind of request once."""

    def send(method: str, path: str, **body: object) -> str:
        reply = client.open(path, method=method, headers={"Idempotency-Key": str(uuid4())}, json=body or None)
        assert reply.status_code < 300, (path, reply.text)
        return str(reply.json["id"]) if reply.json and "id" in reply.json else ""

    other = send("POST", SESSIONS, messages=[MESSAGE, IMAGE])
    id = send("POST", SESSIONS, title="a chat", metadata={"a": 1})
    session, messages = f"{SESSIONS}/{id}", f"{SESSIONS}/{id}/messages"
    first = send("POST", messages, **MESSAGE)
    send("POST", messages, **IMAGE)
    send("POST", messages, messages=[MESSAGE, MESSAGE])
    streaming = send("POST", messages, role="assistant", content="", status="streaming", id=str(uuid4()))
    send("PATCH", f"{messages}/{streaming}", content="some")
    send("PATCH", f"{messages}/{streaming}", content="some words", status="complete")
    branch = send("POST", messages, **MESSAGE, parent_id=first)
    send("PATCH", session, head_id=first)
    send("PATCH", session, title="another chat", archived=True)
    send("PATCH", session, archived=False)
    for path in READS:
        reply = client.get(path.format(session=session, message=first))
        assert reply.status_code == 200, path
    send("DELETE", f"{messages}/{branch}")
    send("DELETE", messages)
    send("POST", f"{SESSIONS}/batch", ids=[other], action="archive")
    send("DELETE", f"{SESSIONS}/{other}")


def sequential_scans(conn: psycopg.Connection) -> dict[str, int]:
    """Count the sequential scans of each table."""
    return dict(conn.execute("SELECT relname, seq_scan FROM pg_stat_user_tables").fetchall())
