"""Messages: contract §3."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.chats import SESSIONS, Chat
from support.races import at_once

from mai_sessions.content.lexemes import message_vector
from mai_sessions.schemas.messages import ROLES

Conn = psycopg.Connection[Any]
FULL = {
    "role": "assistant",
    "content": "two words",
    "token_count": 7,
    "model_id": "m",
    "agent_name": "a",
    "response_time_ms": 12.5,
    "is_error": True,
    "documents": ["a.pdf", "a.pdf", ""],
}


def append(client: FlaskClient, session: str, content: str = "") -> str:
    """Append a message, and return its path."""
    return client.post(f"{session}/messages", json={"role": "user", "content": content}).headers["Location"]


def summary(client: FlaskClient, session: str) -> tuple[int, str | None]:
    """Return message count and preview of the session. The list and the detail must agree."""
    detail = client.get(session).get_json()
    del detail["messages"]
    assert detail in client.get(SESSIONS).get_json()["sessions"]
    return detail["message_count"], detail["last_message_preview"]


# Append


@pytest.mark.parametrize("path", ["", "/messages"])
def test_words_are_extracted_before_a_connection_is_checked_out(
    app: Flask, client: FlaskClient, session: str, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    pool = app.extensions["mai_sessions"].database.primary
    in_use: list[int] = []

    def extract(*args: Any) -> str:
        stats = pool.stats()
        in_use.append(stats["pool_size"] - stats["pool_available"])
        return message_vector(*args)

    monkeypatch.setattr("mai_sessions.content.message.message_vector", extract)
    monkeypatch.setattr("mai_sessions.repository.patches.message_vector", extract)
    new = {"role": "user", "content": "quetzal"}
    target = session + path if path else SESSIONS
    assert client.post(target, json={"messages": [new, new]}).status_code == 201
    assert in_use == [0, 0]
    assert len(client.get("/api/v1/search?q=quetzal").get_json()["results"]) == 2
    message = client.post(f"{session}/messages", json=new).headers["Location"]
    in_use.clear()
    for change in (
        {"content": "a"},
        {"content": "b", "status": "complete"},
        {"content": "c", "model_id": "m"},
    ):
        assert client.patch(message, json=change).status_code == 200
    assert in_use == [0, 0, 0]


def test_appended_message_is_returned_and_counted(client: FlaskClient, session: str) -> None:
    before = client.get(session).get_json()
    added = client.post(f"{session}/messages", json=FULL)
    assert added.status_code == 201
    message = added.get_json()
    assert message["id"] == str(UUID(message["id"]))
    assert added.headers["Location"] == f"{session}/messages/{message['id']}"
    session_id = session.rpartition("/")[2]
    expected = {
        **FULL,
        "id": message["id"],
        "session_id": session_id,
        "seq": 1,
        "images": [],
        "parts": None,
        "metadata": {},
        "status": "complete",
        "parent_id": None,
        "created_at": message["created_at"],
        "updated_at": message["created_at"],
    }
    assert message == expected
    assert client.get(added.headers["Location"]).get_json() == message
    assert client.get(f"{session}/messages").get_json() == [message]
    after = client.get(session).get_json()
    assert after["messages"] == [message]
    assert (after["message_count"], after["last_message_preview"]) == (1, "two words")
    assert after["updated_at"] == message["created_at"] > before["updated_at"]


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("given", [{}, dict.fromkeys(set(FULL) - {"role", "content"} | {"images"})])
def test_append_with_defaults(client: FlaskClient, session: str, role: str, given: dict[str, None]) -> None:
    message = client.post(f"{session}/messages", json={**given, "role": role, "content": ""}).get_json()
    expected = {
        "role": role,
        "content": "",
        "token_count": 0,
        "model_id": None,
        "agent_name": None,
        "response_time_ms": None,
    }
    assert expected.items() <= message.items()
    assert (message["is_error"], message["images"], message["documents"]) == (False, [], [])


@pytest.mark.parametrize(
    ("content", "words"),
    [("", 0), (" \n\t", 0), ("a", 1), (" a\u3000b\n\nc\td ", 4), ("日本語", 1), ("x" * 9, 1)],
)
def test_token_count_is_the_number_of_words(
    client: FlaskClient, chat: Chat, content: str, words: int
) -> None:
    assert (
        client.post(chat.messages, json={"role": "user", "content": content}).get_json()["token_count"]
        == words
    )
    assert client.patch(chat.message, json={"content": content}).get_json()["token_count"] == words


@pytest.mark.parametrize("milliseconds", [0, 0.0, 1, 0.1, 1e-300, 123456789.125, 1e12])
def test_response_time_is_returned_exactly(client: FlaskClient, chat: Chat, milliseconds: float) -> None:
    assert (
        client.patch(chat.message, json={"response_time_ms": milliseconds}).get_json()["response_time_ms"]
        == milliseconds
    )


def test_preview_shows_the_newest_message(client: FlaskClient, session: str) -> None:
    assert summary(client, session) == (0, None)
    paths = [append(client, session, content) for content in ("one", "two", "")]
    assert summary(client, session) == (3, "")
    client.patch(paths[1], json={"content": "2"})
    assert summary(client, session) == (3, "")
    client.delete(paths[2])
    assert summary(client, session) == (2, "2")
    client.patch(paths[1], json={"content": "2 " * 99})
    assert summary(client, session) == (2, ("2 " * 99)[:100])
    client.delete(paths[0])
    assert summary(client, session) == (1, ("2 " * 99)[:100])
    client.delete(paths[1])
    assert summary(client, session) == (0, None)


# Patch


@pytest.mark.parametrize("name", sorted(set(FULL) - {"role", "documents"}))
def test_patch_changes_only_the_given_fields(client: FlaskClient, chat: Chat, name: str) -> None:
    full = client.post(chat.messages, json=FULL)
    new = {"content": "new", "token_count": 0, "is_error": False, "response_time_ms": 0}.get(name, "n")
    expected = {**full.get_json(), name: new}
    if name == "content":
        expected["token_count"] = 1
    patched = client.patch(full.headers["Location"], json={name: new}).get_json()
    assert patched["updated_at"] > expected["updated_at"]
    assert patched == {**expected, "updated_at": patched["updated_at"]}
    assert client.get(full.headers["Location"]).get_json() == patched


def test_patch_with_null_changes_nothing(client: FlaskClient, chat: Chat) -> None:
    full = client.post(chat.messages, json=FULL)
    nothing = dict.fromkeys(sorted(set(FULL) - {"role", "documents"}))
    for body in (nothing, {}):
        patched = client.patch(full.headers["Location"], json=body).get_json()
        assert patched == {**full.get_json(), "updated_at": patched["updated_at"]}


def test_patch_with_the_tokens_of_the_content(client: FlaskClient, chat: Chat) -> None:
    patched = client.patch(chat.message, json={"content": "one two three", "token_count": 9})
    assert patched.get_json()["token_count"] == 9


def test_patch_moves_the_session(client: FlaskClient, chat: Chat) -> None:
    before = client.get(chat.session).get_json()
    client.patch(chat.message, json={"content": "grown"})
    after = client.get(chat.session).get_json()
    assert after["updated_at"] > before["updated_at"]
    assert after["last_message_preview"] == "grown"


# Delete


def test_delete_keeps_the_seq_of_other_messages(client: FlaskClient, session: str) -> None:
    paths = [append(client, session, str(number)) for number in range(1, 5)]
    for path in (paths[1], paths[3]):
        assert client.delete(path).status_code == 204
        for again in (client.delete(path), client.get(path), client.patch(path, json={})):
            assert again.status_code == 404
    append(client, session, "5")
    messages = client.get(f"{session}/messages").get_json()
    assert [(message["seq"], message["content"]) for message in messages] == [(1, "1"), (3, "3"), (5, "5")]
    assert summary(client, session) == (3, "5")


def test_cleared_session_has_no_messages(client: FlaskClient, session: str) -> None:
    other = append(client, client.post(SESSIONS, json={}).headers["Location"])
    path = append(client, session, "1")
    before = client.get(session).get_json()
    for _ in range(2):
        assert client.delete(f"{session}/messages").status_code == 204
        assert summary(client, session) == (0, None)
    assert client.get(session).get_json()["updated_at"] > before["updated_at"]
    assert client.get(path).status_code == 404
    assert client.get(other).status_code == 200
    assert client.get(append(client, session)).get_json()["seq"] == 2


def test_message_is_found_only_in_its_session(client: FlaskClient, chat: Chat) -> None:
    other = client.post(SESSIONS, json={}).headers["Location"]
    elsewhere = chat.message.replace(chat.session, other)
    for response in (
        client.get(elsewhere),
        client.patch(elsewhere, json={"content": "x"}),
        client.delete(elsewhere),
    ):
        assert response.status_code == 404
        assert response.get_json()["detail"] == "Message not found"
    assert client.get(chat.message).get_json()["content"] == "hi"


# Versions


def test_known_version_is_a_304(client: FlaskClient, chat: Chat) -> None:
    for path in (chat.messages, f"{chat.messages}?limit=1", f"{chat.messages}?before_seq=9", chat.message):
        tag = client.get(path).headers["ETag"]
        for header in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            for method in ("GET", "HEAD"):
                known = client.open(path, method=method, headers={"If-None-Match": header})
                assert (known.status_code, known.data, known.headers["ETag"]) == (304, b"", tag), header


def test_unknown_version_gets_the_content(client: FlaskClient, chat: Chat) -> None:
    tag = client.get(chat.messages).headers["ETag"]
    for header in ("", '"x"', f'"{uuid4()}"', tag.upper(), tag.replace("-", "")):
        for path in (chat.messages, chat.message):
            response = client.get(path, headers={"If-None-Match": header})
            assert (response.status_code, response.get_json()) == (200, client.get(path).get_json()), header


def test_change_with_a_stale_if_match_is_refused(client: FlaskClient, chat: Chat) -> None:
    stale = client.get(chat.message).headers["ETag"]
    append(client, chat.session, "newer")
    current = client.get(chat.session)
    for header in (stale, f"W/{stale}", '"x"', "x", "", f'{stale}, "y"'):
        for refused in (
            client.patch(chat.message, json={"content": "lost"}, headers={"If-Match": header}),
            client.delete(chat.message, headers={"If-Match": header}),
            client.delete(chat.messages, headers={"If-Match": header}),
            client.post(chat.messages, json={"role": "user", "content": ""}, headers={"If-Match": header}),
        ):
            assert refused.status_code == 412
    unchanged = client.get(chat.session)
    assert (unchanged.get_json(), unchanged.headers["ETag"]) == (current.get_json(), current.headers["ETag"])
    # An append without a condition never conflicts.
    append(client, chat.session, "newest")


def test_change_with_the_current_if_match_is_made(client: FlaskClient, chat: Chat) -> None:
    for form in ("{}", "W/{}", '"x", {}', "*"):
        header = form.format(client.get(chat.message).headers["ETag"])
        patched = client.patch(chat.message, json={}, headers={"If-Match": header})
        assert patched.status_code == 200
        assert patched.headers["ETag"] == client.get(chat.message).headers["ETag"]
    for path in (chat.message, chat.messages):
        assert (
            client.delete(path, headers={"If-Match": client.get(chat.messages).headers["ETag"]}).status_code
            == 204
        )


def test_if_match_on_an_unknown_id_is_a_404(client: FlaskClient, chat: Chat) -> None:
    for header in ('"x"', "*"):
        for path in (f"{chat.messages}/{uuid4()}", f"{SESSIONS}/{uuid4()}/messages/{uuid4()}"):
            assert client.patch(path, json={}, headers={"If-Match": header}).status_code == 404
            assert client.delete(path, headers={"If-Match": header}).status_code == 404
        assert (
            client.delete(f"{SESSIONS}/{uuid4()}/messages", headers={"If-Match": header}).status_code == 404
        )


@pytest.mark.parametrize("methods", [("PATCH", "PATCH"), ("PATCH", "DELETE"), ("DELETE", "DELETE")])
def test_one_of_two_writers_with_the_same_if_match_wins(
    app: Flask, client: FlaskClient, session: str, methods: tuple[str, str]
) -> None:
    for _ in range(10):
        path = append(client, session, "old")
        headers = {"If-Match": client.get(path).headers["ETag"]}

        def change(number: int, path: str = path, headers: dict[str, str] = headers) -> int:
            method = methods[number]
            response = app.test_client().open(path, method=method, json={"content": method}, headers=headers)
            return response.status_code

        won, lost = sorted(at_once(2, change))
        assert won in (200, 204)
        assert lost in ((412, 404) if won == 204 else (412,))
