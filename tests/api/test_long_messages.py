"""Messages whose content stays UTF-8 on its way to PostgreSQL: each reply is what a read gives."""

from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from support.chats import SESSIONS

TEXT = 'é\n"😀\\ \u0001' * 20_000
LONG = {"role": "user", "content": TEXT}
# Not a random one, so that all workers of pytest collect the same tests.
OWN_ID = "0190a1b2-0000-7000-8000-0000000000aa"


@pytest.fixture
def path(client: FlaskClient) -> str:
    """The messages of a new session."""
    return f"{SESSIONS}/{client.post(SESSIONS, json={}).get_json()['id']}/messages"


def read(client: FlaskClient, path: str) -> Any:
    return client.get(path).get_json()


@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["", "keyed"])
def test_session_with_long_messages_is_returned_as_it_is_read(
    client: FlaskClient, key: dict[str, str]
) -> None:
    first, second = str(uuid4()), str(uuid4())
    body = {
        "messages": [
            {**LONG, "id": first, "parts": [{"type": "text", "text": "p"}], "metadata": {"a": 1}},
            {**LONG, "id": second, "parent_id": None},
        ],
        "head_id": first,
    }
    created = client.post(SESSIONS, json=body, headers=key).get_json()
    assert created == read(client, f"{SESSIONS}/{created['id']}")
    assert [message["content"] for message in created["messages"]] == [TEXT]
    if key:
        assert client.post(SESSIONS, json=body, headers=key).get_json() == created


@pytest.mark.parametrize("given", [{}, {"id": OWN_ID}, {"parent_id": None}], ids=str)
@pytest.mark.parametrize("key", [{}, {"Idempotency-Key": "once"}], ids=["", "keyed"])
def test_long_message_is_returned_as_it_is_read(
    client: FlaskClient, path: str, given: dict[str, Any], key: dict[str, str]
) -> None:
    added = client.post(path, json={**LONG, **given}, headers=key).get_json()
    assert added == read(client, f"{path}/{added['id']}")
    assert added["content"] == TEXT
    if key or "id" in given:
        assert client.post(path, json={**LONG, **given}, headers=key).get_json() == added


@pytest.mark.parametrize("given", [{}, {"id": OWN_ID}], ids=["", "with an id"])
def test_batch_of_long_messages_is_returned_as_it_is_read(
    client: FlaskClient, path: str, given: dict[str, Any]
) -> None:
    body = {"messages": [{**LONG, **given}, LONG], "session": {"title": "new"}}
    added = client.post(path, json=body).get_json()
    assert added["messages"] == read(client, path)
    session = read(client, f"{path.removesuffix('/messages')}?messages_limit=0")
    assert {**added["session"], "messages": []} == session


@pytest.mark.parametrize("status", [{}, {"status": "streaming"}, {"status": "complete"}], ids=str)
def test_long_change_is_returned_as_it_is_read(
    client: FlaskClient, path: str, status: dict[str, str]
) -> None:
    message = client.post(path, json={"role": "user", "content": "x", "status": "streaming"}).get_json()
    changed = client.patch(f"{path}/{message['id']}", json={"content": TEXT, **status}).get_json()
    assert changed == read(client, f"{path}/{message['id']}")
    assert changed["content"] == TEXT
    ended = client.patch(f"{path}/{message['id']}", json={"status": "complete"}).get_json()
    assert ended["token_count"] == len(TEXT.split())


@pytest.mark.parametrize(("end", "type"), [("\\u0000", "nul"), ("\\ud800", "surrogate")])
def test_long_text_that_cannot_be_stored_is_refused(
    client: FlaskClient, path: str, end: str, type: str
) -> None:
    body = '{"role":"user","content":"%s"}' % ("x" * 100_000 + end)
    refused = client.post(path, data=body, content_type="application/json")
    assert refused.status_code == 422
    assert [(error["loc"], error["type"]) for error in refused.get_json()["errors"]] == [
        (["body", "content"], type)
    ]
