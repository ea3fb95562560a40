"""GET /export: everything of a user, a line for each session."""

import json
import uuid
from collections.abc import Callable
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.samples import data_url, png

from mai_sessions.postgres.connection import Connection

EXPORT = "/api/v1/export"


def export(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    response = client.get(EXPORT + query)
    assert response.status_code == 200
    assert response.content_type == "application/x-ndjson"
    return [json.loads(line) for line in response.data.splitlines()]


def create(client: FlaskClient, messages: int = 0, **fields: Any) -> str:
    session_id: str = client.post(SESSIONS, json=fields).get_json()["id"]
    for number in range(messages):
        client.post(f"{SESSIONS}/{session_id}/messages", json={"role": "user", "content": f"text {number}"})
    return session_id


def test_user_without_sessions_exports_nothing(client: FlaskClient) -> None:
    assert export(client) == []


def test_accept_with_ndjson_is_served(client: FlaskClient) -> None:
    session_id = create(client)
    response = client.get(EXPORT, headers={"Accept": "application/x-ndjson"})
    assert response.status_code == 200
    assert json.loads(response.data)["id"] == session_id


def test_accept_without_json_and_ndjson_is_a_406(client: FlaskClient) -> None:
    assert client.get(EXPORT, headers={"Accept": "text/html"}).status_code == 406
    assert client.get(EXPORT, headers={"Accept": "application/x-ndjson;q=0"}).status_code == 406
    assert client.get(EXPORT, headers={"Accept": "application/x-ndjson"}).status_code == 200


def test_each_session_is_a_line_with_all_its_messages_oldest_first(client: FlaskClient) -> None:
    ids = [create(client, messages) for messages in (0, 1, 120)]
    lines = export(client)
    assert [line["id"] for line in lines] == ids
    assert [len(line["messages"]) for line in lines] == [0, 1, 120]
    assert [message["content"] for message in lines[2]["messages"]] == [
        f"text {number}" for number in range(120)
    ]


def test_first_moment_and_smallest_id_are_exported(client: FlaskClient) -> None:
    ids = [
        create(client, id=str(uuid.UUID(int=number)), created_at="0001-01-01T00:00:00Z") for number in (0, 1)
    ]
    assert [line["id"] for line in export(client)] == ids


def test_line_has_every_field_that_the_session_has(client: FlaskClient) -> None:
    session_id = create(client, title="T", agent_name="a", model_id="m")
    url = f"{SESSIONS}/{session_id}"
    message = {
        "role": "assistant",
        "content": "x\n\u2028",
        "images": [data_url(png())],
        "documents": ["a.pdf"],
    }
    client.post(f"{url}/messages", json=message)
    [line] = export(client)
    [exported] = line["messages"]
    session = client.get(url).get_json()
    [stored] = session["messages"]
    assert {name: line[name] for name in session} == {**session, "messages": line["messages"]}
    assert {name: exported[name] for name in stored} == stored
    assert line["head_id"] == stored["id"]
    assert (exported["parent_id"], exported["status"], exported["parts"]) == (None, "complete", None)
    assert client.get(exported["images"][0]).data == png()


def test_pages_neither_skip_nor_repeat_sessions(client: FlaskClient, conn: Connection) -> None:
    ids = sorted(create(client) for _ in range(120))
    # Times that are equal are ordered by the id.
    conn.execute("UPDATE session_titles SET created_at = '2026-01-01Z'")
    assert [line["id"] for line in export(client)] == ids


def test_one_session_is_exported_alone(client: FlaskClient) -> None:
    ids = [create(client, 1) for _ in range(2)]
    assert [line["id"] for line in export(client, f"?session_id={ids[1]}")] == [ids[1]]


def test_unknown_session_is_not_found(client: FlaskClient) -> None:
    response = client.get(f"{EXPORT}?session_id={uuid.uuid4()}")
    assert response.status_code == 404
    assert response.get_json()["detail"] == "Session not found"


def test_other_users_are_not_exported(make_app: Callable[..., Flask]) -> None:
    app = make_app(auth="proxy", trusted_proxies=("127.0.0.1",))
    ann, bob = ({"X-Forwarded-User": name} for name in ("ann", "bob"))
    client = app.test_client()
    session_id = client.post(SESSIONS, json={}, headers=ann).get_json()["id"]
    assert client.get(EXPORT, headers=bob).data == b""
    assert client.get(f"{EXPORT}?session_id={session_id}", headers=bob).status_code == 404
    assert json.loads(client.get(EXPORT, headers=ann).data)["id"] == session_id
