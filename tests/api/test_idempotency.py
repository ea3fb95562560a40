from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.races import at_once
from support.samples import data_url, png

Conn = psycopg.Connection[Any]


@pytest.fixture
def messages(client: FlaskClient) -> str:
    """The path of a session's messages."""
    return f"{SESSIONS}/{client.post(SESSIONS).get_json()['id']}/messages"


def test_replayed_append_gets_the_first_response(client: FlaskClient, messages: str) -> None:
    body = {
        "role": "assistant",
        "content": "a b  c\n",
        "images": [data_url(png())],
        "documents": ["x"],
        "model_id": "m",
        "response_time_ms": 1.5,
    }
    first = client.post(messages, json=body, headers={"Idempotency-Key": "k"})
    client.patch(first.headers["Location"], json={"content": "changed", "model_id": "n"})
    # The same content in other bytes.
    again = client.post(
        f"{messages}/", json={**dict(reversed(body.items())), "unknown": 1}, headers={"Idempotency-Key": "k"}
    )
    assert (again.status_code, again.get_json()) == (201, first.get_json())
    for name in ("Location", "ETag"):
        assert again.headers[name] == first.headers[name]
    assert (first.headers.get("Idempotency-Replayed"), again.headers["Idempotency-Replayed"]) == (
        None,
        "true",
    )
    assert len(client.get(messages).get_json()) == 1


def test_replayed_create_gets_the_first_response(client: FlaskClient) -> None:
    first = client.post(SESSIONS, json={"title": "x"}, headers={"Idempotency-Key": "k"})
    client.patch(first.headers["Location"], json={"title": "y"})
    again = client.post(SESSIONS, json={"title": "x"}, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.get_json()) == (201, first.get_json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.headers["ETag"] == first.headers["ETag"]
    assert client.get(SESSIONS).get_json()["total"] == 1


@pytest.mark.parametrize("path", [SESSIONS, "messages"])
def test_key_of_release_0_1_gets_the_first_response(
    client: FlaskClient, conn: Conn, messages: str, path: str
) -> None:
    """Release 0.1 stored no response in the row of the key."""
    path = messages if path == "messages" else path
    client.post(messages, json={"role": "user", "content": "before"})
    body = {"role": "user", "content": "hi", "title": "Trip", "images": [data_url(png())]}
    first = client.post(path, json=body, headers={"Idempotency-Key": "k"}).get_json()
    conn.execute("UPDATE idempotency_keys SET reply = NULL")
    again = client.post(path, json=body, headers={"Idempotency-Key": "k"})
    assert again.status_code == 201
    assert again.headers["Idempotency-Replayed"] == "true"
    assert again.get_json() == first


def test_key_with_another_body_is_refused(client: FlaskClient, messages: str) -> None:
    for path, one, other in (
        (SESSIONS, {"title": "x"}, {"title": "y"}),
        (messages, {"role": "user", "content": "x"}, {"role": "user", "content": "x "}),
    ):
        assert client.post(path, json=one, headers={"Idempotency-Key": "k"}).status_code == 201
        response = client.post(path, json=other, headers={"Idempotency-Key": "k"})
        assert response.status_code == 422
        assert response.get_json()["errors"][0]["loc"] == ["header", "Idempotency-Key"]


def test_key_belongs_to_one_path(client: FlaskClient, messages: str) -> None:
    other = f"{SESSIONS}/{client.post(SESSIONS).get_json()['id']}/messages"
    for path in (messages, other):
        response = client.post(path, json={"role": "user", "content": ""}, headers={"Idempotency-Key": "k"})
        assert "Idempotency-Replayed" not in response.headers


@pytest.mark.parametrize("key", ["", " ", "a b", "x" * 256, "é"])
def test_malformed_key_is_refused(client: FlaskClient, messages: str, key: str) -> None:
    response = client.post(messages, json={"role": "user", "content": ""}, headers={"Idempotency-Key": key})
    assert response.status_code == 422


def test_failed_request_does_not_store_its_key(client: FlaskClient, conn: Conn, messages: str) -> None:
    headers = {"Idempotency-Key": "k"}
    assert client.post(messages, json={"role": "nobody", "content": ""}, headers=headers).status_code == 422
    assert (
        client.post(
            f"{SESSIONS}/{uuid4()}/messages", json={"role": "user", "content": ""}, headers=headers
        ).status_code
        == 404
    )
    assert conn.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (0,)
    assert client.post(messages, json={"role": "user", "content": ""}, headers=headers).status_code == 201


@pytest.mark.parametrize("age", ["23 hours", "25 hours"])
def test_key_is_forgotten_after_a_day(client: FlaskClient, conn: Conn, messages: str, age: str) -> None:
    ids = []
    for text in ("first", "second", "second"):
        response = client.post(
            messages, json={"role": "user", "content": text}, headers={"Idempotency-Key": "k"}
        )
        ids.append(response.get_json().get("id"))
        if text == "first":
            conn.execute("UPDATE idempotency_keys SET created_at = now() - %s::interval", [age])
    if age == "23 hours":
        assert ids[1:] == [None, None]
    else:
        assert ids[1] == ids[2] != ids[0]


@pytest.mark.parametrize("deleted", ["message", "session"])
def test_key_is_forgotten_with_what_it_created(client: FlaskClient, messages: str, deleted: str) -> None:
    """A replay never returns a deleted row: the request is a new one."""
    headers, message = {"Idempotency-Key": "k"}, {"role": "user", "content": "x"}
    path, body = (messages, message) if deleted == "message" else (SESSIONS, {"messages": [message]})
    first = client.post(path, json=body, headers=headers)
    assert client.delete(first.headers["Location"]).status_code == 204
    again = client.post(path, json=body, headers=headers)
    assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (201, None)
    assert again.get_json()["id"] != first.get_json()["id"]
    assert client.get(again.headers["Location"]).status_code == 200


def test_key_of_a_batch_is_forgotten_with_its_first_message(client: FlaskClient, messages: str) -> None:
    body = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}
    headers = {"Idempotency-Key": "k"}
    first, second = client.post(messages, json=body, headers=headers).get_json()["messages"]
    client.delete(f"{messages}/{second['id']}")
    assert client.post(messages, json=body, headers=headers).headers["Idempotency-Replayed"] == "true"
    client.delete(f"{messages}/{first['id']}")
    assert "Idempotency-Replayed" not in client.post(messages, json=body, headers=headers).headers
    assert len(client.get(messages).get_json()) == 2


def test_key_of_a_message_in_a_deleted_session_is_a_404(client: FlaskClient, messages: str) -> None:
    request: Any = {"json": {"role": "user", "content": "x"}, "headers": {"Idempotency-Key": "k"}}
    assert client.post(messages, **request).status_code == 201
    client.delete(messages.removesuffix("/messages"))
    assert client.post(messages, **request).status_code == 404


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"parts": [{"type": "text", "text": "x"}, {"type": "tool-x", "input": {"n": 1e2}}]},
        {"metadata": {"a": [1]}, "documents": ["a.pdf"], "status": "streaming", "response_time_ms": 2},
    ],
)
@pytest.mark.parametrize("with_key", [True, False])
def test_message_with_its_own_id_is_added_once(
    client: FlaskClient, messages: str, extra: dict[str, Any], with_key: bool
) -> None:
    body = {"id": str(uuid4()), "role": "assistant", "content": "x", **extra}
    first = client.post(messages, json=body, headers={"Idempotency-Key": "k"} if with_key else {})
    # What is there comes before the key and its body.
    again = client.post(
        messages, json={**body, "content": "y"}, headers={"Idempotency-Key": "k"} if with_key else {}
    )
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.get_json() == again.get_json() == client.get(first.headers["Location"]).get_json()
    assert len(client.get(messages).get_json()) == 1


def test_storm_of_retries_makes_one_row(app: Flask, client: FlaskClient, messages: str) -> None:
    for path, body in (
        (messages, {"role": "user", "content": "x", "images": [data_url(png())]}),
        (SESSIONS, {"title": "storm"}),
    ):

        def retry(_: int, path: str = path, body: Any = body) -> set[tuple[int, str]]:
            request = {"json": body, "headers": {"Idempotency-Key": "storm"}}
            responses = [app.test_client().post(path, **request) for _ in range(10)]
            return {(response.status_code, response.get_json()["id"]) for response in responses}

        [(status, _)] = set().union(*at_once(10, retry))
        assert status == 201
    assert len(client.get(messages).get_json()) == 1
    assert client.get(f"{SESSIONS}?search=storm").get_json()["total"] == 1


def test_create_with_a_known_id_returns_the_session(client: FlaskClient) -> None:
    chosen = str(uuid4())
    first = client.post(SESSIONS, json={"id": chosen.upper(), "title": "x"})
    assert (first.status_code, first.get_json()["id"]) == (201, chosen)
    client.post(f"{SESSIONS}/{chosen}/messages", json={"role": "user", "content": "hi"})
    again = client.post(SESSIONS, json={"id": chosen, "title": "y"})
    assert again.status_code == 200
    assert again.get_json() == client.get(f"{SESSIONS}/{chosen}").get_json()
    assert again.get_json()["title"] == "x"
    assert client.get(SESSIONS).get_json()["total"] == 1
    for bad in ("x", 7, chosen[:-1], f"{{{chosen}}}", chosen.replace("-", "")):
        assert client.post(SESSIONS, json={"id": bad}).status_code == 422


@pytest.mark.parametrize(
    ("headers", "status"), [({}, 200), ({"If-None-Match": "*"}, 412), ({"Idempotency-Key": "k"}, 201)]
)
def test_repeated_creation_may_link_to_an_image_that_is_gone(
    client: FlaskClient, messages: str, headers: dict[str, str], status: int
) -> None:
    image = {"role": "user", "content": "x", "images": [data_url(png())]}
    made = client.post(messages, json=image)
    linked = {**image, "images": made.get_json()["images"]}
    body = {"id": str(uuid4()), "messages": [linked]}
    first = client.post(SESSIONS, json=body, headers=headers)
    assert first.status_code == 201
    client.delete(made.headers["Location"])
    client.delete(f"{first.headers['Location']}/messages")
    before = client.get(first.headers["Location"]).get_json()
    again = client.post(SESSIONS, json=body, headers=headers)
    assert again.status_code == status
    if status != 412:
        assert again.get_json() == (first.get_json() if "Idempotency-Key" in headers else before)
    assert client.get(first.headers["Location"]).get_json() == before
    new = client.post(SESSIONS, json={**body, "id": str(uuid4())})
    assert new.get_json()["errors"][0]["loc"] == ["body", "messages", 0, "images", 0]


def test_two_users_create_sessions_with_one_id(client: FlaskClient, conn: Conn) -> None:
    chosen = str(uuid4())
    conn.execute(
        "INSERT INTO sessions (user_id, id, title, agent_name, version) VALUES ('other', %(id)s, 'theirs', "
        "'chat', %(id)s)",
        {"id": chosen},
    )
    assert client.post(SESSIONS, json={"id": chosen, "title": "mine"}).get_json()["title"] == "mine"
    assert client.get(f"{SESSIONS}/{chosen}").get_json()["title"] == "mine"
