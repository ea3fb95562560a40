"""The commands of the coordinator to the nodes for each write: one transaction on one node."""

from typing import Any
from uuid import uuid4

import pytest
from support.chats import SESSIONS
from support.remote_commands import Wire
from support.samples import data_url, png

BATCH = f"{SESSIONS}/batch"
MESSAGE = {"role": "user", "content": "hi"}
FILE = data_url(b"%PDF-1.7 " + b"x" * 2000, "application/pdf")
PARTS = [{"type": "text", "text": "hi"}, {"type": "file", "data": FILE}]
ANSWER = {
    "role": "assistant",
    "content": "A lighthouse",
    "model_id": "opus",
    "agent_name": "coder",
    "response_time_ms": 1.5,
    "is_error": True,
    "token_count": 3,
    "documents": ["a.pdf"],
    "metadata": {"usage": {"output": 3}},
}
IMAGES = {**ANSWER, "images": [data_url(png()), data_url(png(noise=b"2"))]}
MESSAGES = {
    "plain": MESSAGE,
    "of an assistant": ANSWER,
    "empty": {**MESSAGE, "content": ""},
    "nulls": {**MESSAGE, "model_id": None, "agent_name": None, "response_time_ms": None, "metadata": None},
    "images": IMAGES,
    "an image twice": {**MESSAGE, "images": [data_url(png())] * 2},
    "parts": {"role": "user", "parts": PARTS[:1]},
    "parts with a file": {"role": "user", "parts": PARTS, "images": [data_url(png())]},
    "streaming": {**ANSWER, "status": "streaming"},
    "an own id": {**MESSAGE, "id": "{new_id}"},
    "another first message": {**MESSAGE, "parent_id": None},
    "a parent": {**MESSAGE, "parent_id": "{first_id}"},
    "a link to an image": {**MESSAGE, "images": ["{image}"]},
    "a time": {**MESSAGE, "created_at": "2024-01-01T00:00:00Z"},
}
SESSION_CHANGES = {
    "title": {"title": "Tour"},
    "names": {"agent_name": "coder", "model_id": "opus"},
    "metadata": {"metadata": {"pinned": True, "colour": None}},
    "archived": {"archived": True},
    "open": {"archived": False},
    "head": {"head_id": "{first_id}"},
    "all": {"title": "Tour", "metadata": {"a": 1}, "archived": True, "head_id": "{first_id}"},
    "nothing": {},
}
MESSAGE_CHANGES = {
    "nothing": {},
    "content": {"content": "changed"},
    "no content": {"content": ""},
    "nulls": {"content": None, "model_id": None},
    "names": {"model_id": "opus", "agent_name": "coder"},
    "numbers": {"response_time_ms": 3, "is_error": True, "token_count": 9},
    "parts": {"parts": PARTS},
    "metadata": {"metadata": {"feedback": "up", "usage": None}},
    "status": {"status": "interrupted"},
    "streaming": {"status": "streaming", "content": "chan"},
    "images": {"images": [data_url(png(noise=b"3"))], "documents": ["b.pdf"]},
    "no images": {"images": [], "documents": []},
}


@pytest.fixture(params=["linear", "branched"])
def path(request: pytest.FixtureRequest, wire: Wire) -> str:
    """The path of a session, without branches or with some."""
    if request.param == "branched":
        return wire.session
    wire.ids["first_id"] = str(uuid4())
    messages = [{**IMAGES, "id": wire.ids["first_id"]}, MESSAGE]
    return f"{SESSIONS}/{wire.request('POST', SESSIONS, {'messages': messages})['id']}"


def key() -> str:
    return str(uuid4())


def test_append_is_a_transaction_of_plain_statements(wire: Wire) -> None:
    path = f"{SESSIONS}/{wire.write('POST', SESSIONS, {})['id']}/messages"
    wire.write("POST", path, MESSAGE)
    assert wire.commands.verbs == ["BEGIN", "UPDATE", "INSERT", "INSERT", "COMMIT"]


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES)
def test_append_stays_on_one_node(wire: Wire, path: str, message: dict[str, Any]) -> None:
    # The fast path finds branches, and then the full one runs.
    at_most = 2 if path.endswith(wire.ids["session_id"]) else 1

    def append(**headers: str) -> None:
        wire.ids["new_id"] = str(uuid4())
        wire.request("POST", f"{path}/messages", message, **headers)
        assert 1 <= wire.commands.transactions <= at_most

    append()
    append(Idempotency_Key=key())
    version = wire.request("GET", path)["version"]
    append(If_Match=f'"{version}"')
    wire.request("POST", f"{path}/messages", {**message, "id": str(uuid4())}, 412, If_Match=f'"{version}"')


def test_appended_id_is_found_on_one_node(wire: Wire, path: str) -> None:
    message = {**MESSAGE, "id": "{new_id}"}
    for status in (201, 200):
        wire.request("POST", f"{path}/messages", message, status)


@pytest.mark.parametrize(
    ("message", "changes"),
    [*((message, "all") for message in MESSAGES), *(("images", changes) for changes in SESSION_CHANGES)],
)
def test_batch_of_messages_stays_on_one_node(wire: Wire, path: str, message: str, changes: str) -> None:
    own_id = {**MESSAGES[message], "id": str(uuid4())}
    body = {"messages": [own_id, ANSWER], "session": SESSION_CHANGES[changes]}
    wire.write("POST", f"{path}/messages", body)
    body["messages"] = [IMAGES, {**own_id, "id": str(uuid4())}]
    own_key = key()
    first = wire.write("POST", f"{path}/messages", body, Idempotency_Key=own_key)
    assert wire.request("POST", f"{path}/messages", body, Idempotency_Key=own_key) == first


@pytest.mark.parametrize("kind", ["session", "append", "batch", "sessions"])
def test_key_and_its_replay_stay_on_one_node(wire: Wire, kind: str) -> None:
    method_path, body, other = {
        "session": (SESSIONS, {"title": "Trip"}, {"title": "Tour"}),
        "append": (wire.messages, IMAGES, MESSAGE),
        "batch": (wire.messages, {"messages": [IMAGES]}, {"messages": [MESSAGE]}),
        "sessions": (
            BATCH,
            {"ids": ["{session_id}"], "action": "archive"},
            {"ids": ["{session_id}"], "action": "delete"},
        ),
    }[kind]
    status = 200 if kind == "sessions" else 201
    own_key = key()
    first = wire.write("POST", method_path, body, status, Idempotency_Key=own_key)
    assert wire.request("POST", method_path, body, status, Idempotency_Key=own_key) == first
    wire.request("POST", method_path, other, 422, Idempotency_Key=own_key)


@pytest.mark.parametrize("changes", MESSAGE_CHANGES.values(), ids=MESSAGE_CHANGES)
@pytest.mark.parametrize("message", ["plain", "images", "parts with a file", "streaming"])
def test_patch_of_a_message_stays_on_one_node(
    wire: Wire, path: str, message: str, changes: dict[str, Any]
) -> None:
    added = wire.request("POST", f"{path}/messages", MESSAGES[message])["id"]
    wire.request("PATCH", f"{path}/messages/{added}", changes, 412, If_Match=f'"{uuid4()}"')
    wire.request("PATCH", f"{path}/messages/{added}", changes)
    # A content first takes the fast path of streams; a PATCH without changes is a read.
    assert wire.commands.transactions <= 2


@pytest.mark.parametrize("changes", SESSION_CHANGES.values(), ids=SESSION_CHANGES)
def test_patch_of_a_session_stays_on_one_node(wire: Wire, path: str, changes: dict[str, Any]) -> None:
    wire.request("PATCH", path, changes, 412, If_Match=f'"{uuid4()}"')
    wire.request("PATCH", path, changes)
    assert wire.commands.transactions <= 1


@pytest.mark.parametrize("target", ["first", "head", "all", "session"])
def test_removal_stays_on_one_node(wire: Wire, target: str) -> None:
    """The children of the first message move to its parent, and the parent of the head becomes the head."""
    path = {"all": wire.messages, "session": wire.session}.get(target) or wire.message(target)
    wire.request("DELETE", path, expected=412, If_Match=f'"{uuid4()}"')
    wire.write("DELETE", path)
    wire.request("DELETE", path, expected=204 if target == "all" else 404)


@pytest.mark.parametrize("message", MESSAGES)
def test_message_of_each_kind_is_removed_on_one_node(wire: Wire, path: str, message: str) -> None:
    added = wire.request("POST", f"{path}/messages", MESSAGES[message])["id"]
    wire.write("DELETE", f"{path}/messages/{added}")
    wire.write("DELETE", f"{path}/messages")
    wire.write("DELETE", path)


@pytest.mark.parametrize("given", [{}, *SESSION_CHANGES.values()])
@pytest.mark.parametrize("messages", [[], [MESSAGE], [IMAGES, {**MESSAGE, "parent_id": None}]])
def test_creation_stays_on_one_node(
    wire: Wire, given: dict[str, Any], messages: list[dict[str, Any]]
) -> None:
    body = {**given, "id": str(uuid4()), "messages": messages}
    body.pop("head_id", None)
    wire.write("POST", SESSIONS, body)
    wire.request("POST", SESSIONS, body, 200)
    wire.write("POST", SESSIONS, {**body, "id": None}, Idempotency_Key=key())


@pytest.mark.parametrize("message", MESSAGES)
def test_creation_with_a_message_stays_on_one_node(wire: Wire, message: str) -> None:
    given = {name: value for name, value in MESSAGES[message].items() if value != "{first_id}"}
    wire.write("POST", SESSIONS, {"messages": [given]})


@pytest.mark.parametrize("action", ["archive", "unarchive", "delete"])
def test_batch_of_sessions_stays_on_one_node(wire: Wire, action: str) -> None:
    ids = ["{session_id}", str(uuid4()), *(wire.request("POST", SESSIONS, {})["id"] for _ in range(3))]
    for headers in ({}, {"Idempotency_Key": key()}):
        result = wire.write("POST", BATCH, {"ids": ids, "action": action}, 200, **headers)
    assert len(result["done"]) == (0 if action == "delete" else 4)


def test_tenth_run_of_each_statement_stays_on_one_node(wire: Wire) -> None:
    """From the sixth run on, PostgreSQL keeps a plan for any values where that is as cheap."""
    for _ in range(10):
        created = wire.write("POST", SESSIONS, {"messages": [IMAGES]}, Idempotency_Key=key())
        path = f"{SESSIONS}/{created['id']}"
        wire.write("POST", f"{path}/messages", MESSAGE)
        added = wire.write("POST", f"{path}/messages", ANSWER, Idempotency_Key=key())["id"]
        wire.write("POST", f"{path}/messages", {"messages": [MESSAGE, IMAGES]})
        wire.request("PATCH", f"{path}/messages/{added}", {"content": "changed"})
        wire.write("PATCH", path, {"title": "Tour", "metadata": {"pinned": True}})
        for read in (SESSIONS, path, f"{path}/messages", "/api/v1/search?q=changed"):
            wire.request("GET", read)
        wire.write("DELETE", f"{path}/messages/{added}")
        wire.write("DELETE", f"{path}/messages")
        wire.write("POST", BATCH, {"ids": [created["id"]], "action": "archive"}, 200)
        wire.write("DELETE", path)
