"""MAI_SESSIONS_MAX_RESPONSE, here 10,000 bytes."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.chats import SESSIONS

MAX_RESPONSE = 10_000

# Messages that take about 4,000 bytes of JSON each.
LARGE: dict[str, dict[str, Any]] = {
    "text": {"content": "x" * 3_000},
    "control characters": {"content": "\x01" * 500},
    "CJK": {"content": "中" * 1_000},
    "parts": {"content": "", "parts": [{"type": "data", "value": "x" * 3_000}]},
    "metadata": {"content": "", "metadata": {"value": "\x01" * 500}},
    "documents": {"content": "", "documents": ["\x01" * 250, "\x01" * 250]},
}


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(max_response=MAX_RESPONSE).test_client()


def fill(client: FlaskClient, session: str, number: int, kind: str = "text", **fields: Any) -> list[str]:
    """Append messages, and return their ids."""
    return [
        client.post(f"{session}/messages", json={"role": "user", **LARGE[kind], **fields}).get_json()["id"]
        for _ in range(number)
    ]


def branch(client: FlaskClient, session: str) -> None:
    """Make the session branched, with a first message outside of its branch."""
    head_id = client.get(f"{session}?messages_limit=1").get_json()["head_id"]
    client.post(f"{session}/messages", json={"role": "user", "content": "x", "parent_id": None})
    client.patch(session, json={"head_id": head_id})


def refused_parameter(client: FlaskClient, path: str) -> str:
    """Request a response that is too large, and return the parameter that the problem names."""
    response = client.get(path)
    assert response.status_code == 422
    [error] = response.get_json()["errors"]
    assert error["type"] == "too_large"
    assert error["msg"].startswith(f"The response would be larger than {MAX_RESPONSE} bytes.")
    place, name = error["loc"]
    assert place == "query"
    assert name in error["msg"]
    return str(name)


@pytest.mark.parametrize("is_branched", [False, True], ids=["linear", "branched"])
@pytest.mark.parametrize("kind", LARGE)
def test_read_above_the_limit_is_refused(
    client: FlaskClient, session: str, kind: str, is_branched: bool
) -> None:
    fill(client, session, 3, kind, token_count=1)
    if is_branched:
        branch(client, session)
    messages = f"{session}/messages"
    assert refused_parameter(client, session) == "messages_limit"
    assert refused_parameter(client, f"{session}?messages_limit=3") == "messages_limit"
    assert refused_parameter(client, f"{session}?branches=all") == "messages_limit"
    assert refused_parameter(client, messages) == "limit"
    assert refused_parameter(client, f"{messages}?limit=3") == "limit"
    assert refused_parameter(client, f"{messages}?after_seq=0") == "limit"
    assert refused_parameter(client, f"{messages}?before_seq=100&branches=all") == "limit"
    assert refused_parameter(client, f"{messages}?max_tokens=100") == "max_tokens"


@pytest.mark.parametrize("is_branched", [False, True], ids=["linear", "branched"])
@pytest.mark.parametrize("kind", LARGE)
def test_fewer_messages_are_read(client: FlaskClient, session: str, kind: str, is_branched: bool) -> None:
    ids = fill(client, session, 3, kind, token_count=1)
    if is_branched:
        branch(client, session)

    def read(path: str) -> list[str]:
        body = client.get(path).get_json()
        return [message["id"] for message in (body["messages"] if isinstance(body, dict) else body)]

    assert read(f"{session}?messages_limit=2") == ids[1:]
    assert read(f"{session}?messages_limit=0") == []
    assert read(f"{session}/messages?limit=2") == ids[:2]
    assert read(f"{session}/messages?limit=2&offset=1") == ids[1:]
    assert read(f"{session}/messages?limit=2&after_seq=1") == ids[1:]
    assert read(f"{session}/messages?limit=2&before_seq=3") == ids[:2]
    assert read(f"{session}/messages?max_tokens=2") == ids[1:]


def test_messages_up_to_the_limit_are_read(client: FlaskClient, session: str) -> None:
    """Many small ones are measured, too, since their least upper bound is above the limit."""
    for _ in range(12):
        client.post(f"{session}/messages", json={"role": "user", "content": "x"})
    # Each takes about 500 bytes.
    assert len(client.get(f"{session}?messages_limit=8").get_json()["messages"]) == 8
    assert refused_parameter(client, session) == "messages_limit"


def test_one_message_of_any_size_is_read(client: FlaskClient, session: str) -> None:
    content = "x" * 2 * MAX_RESPONSE
    message_id = client.post(f"{session}/messages", json={"role": "user", "content": content}).get_json()[
        "id"
    ]
    [read] = client.get(session).get_json()["messages"]
    [listed] = client.get(f"{session}/messages").get_json()
    [newest] = client.get(f"{session}/messages?max_tokens=1").get_json()
    assert read == listed == newest == client.get(f"{session}/messages/{message_id}").get_json()
    assert read["content"] == content


def test_known_version_of_a_large_session_is_a_304(client: FlaskClient, session: str) -> None:
    fill(client, session, 3)
    tag = client.get(f"{session}?messages_limit=1").headers["ETag"]
    for path in (session, f"{session}/messages"):
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 304


@pytest.mark.parametrize("is_branched", [False, True], ids=["linear", "branched"])
def test_patch_of_a_large_session_gives_the_newest_that_fit(
    client: FlaskClient, session: str, is_branched: bool
) -> None:
    ids = fill(client, session, 5)
    if is_branched:
        branch(client, session)
    for suffix, expected in (("", ids[3:]), ("?messages_limit=4", ids[3:]), ("?messages_limit=1", ids[4:])):
        response = client.patch(f"{session}{suffix}", json={"title": "new"})
        assert response.status_code == 200
        patched = response.get_json()
        assert patched["title"] == "new"
        assert patched["message_count"] == 5 + is_branched
        assert [message["id"] for message in patched["messages"]] == expected
        assert response.headers["ETag"] == f'"{patched["version"]}"'
    client.post(f"{session}/messages", json={"role": "user", "content": "x" * 2 * MAX_RESPONSE})
    assert len(client.patch(session, json={}).get_json()["messages"]) == 1


def test_repeated_creation_of_a_large_session_gives_the_newest_that_fit(client: FlaskClient) -> None:
    session_id = str(uuid4())
    session = client.post(SESSIONS, json={"id": session_id}).headers["Location"]
    ids = fill(client, session, 5)
    response = client.post(SESSIONS, json={"id": session_id})
    assert response.status_code == 200
    assert [message["id"] for message in response.get_json()["messages"]] == ids[3:]


def test_values_of_a_request_are_in_the_response(client: FlaskClient, session: str) -> None:
    """The limit does not apply: the response is no larger than the request."""
    given = [{"role": "user", "content": "x" * 3_000, "id": str(uuid4())} for _ in range(5)]
    ids = [message["id"] for message in given]
    for _ in range(2):
        created = client.post(SESSIONS, json={"messages": given}, headers={"Idempotency-Key": "a"})
        assert [message["id"] for message in created.get_json()["messages"]] == ids
    appended = client.post(f"{session}/messages", json={"messages": given})
    assert appended.status_code == 201
    assert [message["id"] for message in appended.get_json()["messages"]] == ids


def test_batch_of_large_messages_that_are_there_is_refused(client: FlaskClient, session: str) -> None:
    """The response would hold the stored messages, not those of the request."""
    ids = fill(client, session, 3)
    known = [{"role": "user", "content": "", "id": id} for id in ids]
    version = client.get(f"{session}?messages_limit=0").headers["ETag"]
    for batch in (known, [*known, {"role": "user", "content": "new"}]):
        response = client.post(f"{session}/messages", json={"messages": batch})
        assert response.status_code == 422
        [error] = response.get_json()["errors"]
        assert (error["loc"], error["type"]) == (["body", "messages"], "too_large")
    assert client.get(f"{session}?messages_limit=0").headers["ETag"] == version


def test_repeated_batch_gets_the_first_response(client: FlaskClient, session: str) -> None:
    batch = [{"role": "user", **LARGE["text"], "id": str(uuid4())} for _ in range(5)]
    for messages, status in ((batch, 201), (batch, 200), ([*batch, {"role": "user", "content": "x"}], 201)):
        response = client.post(f"{session}/messages", json={"messages": messages})
        assert response.status_code == status
        assert [message["id"] for message in response.get_json()["messages"]][:5] == [
            message["id"] for message in batch
        ]


@pytest.mark.parametrize("size", [400_000, 1024 * 1024, 1024 * 1024 + 1, 2_000_000])
def test_export_of_any_size_is_complete(client: FlaskClient, session: str, size: int) -> None:
    """A page of an export ends at 1 MiB, or with a larger message."""
    given = [{"role": "user", "content": str(number) * (size if number % 3 else 1)} for number in range(8)]
    for message in given:
        client.post(f"{session}/messages", json=message)
    [line] = client.get("/api/v1/export").text.splitlines()
    assert [message["content"] for message in orjson.loads(line)["messages"]] == [
        message["content"] for message in given
    ]
