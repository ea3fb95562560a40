"""Sessions: contract §2."""

from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.chats import SESSIONS, Chat
from support.races import at_once

Conn = psycopg.Connection[Any]


def titles(client: FlaskClient, **query: Any) -> list[str]:
    page = client.get(SESSIONS, query_string=query).get_json()
    assert page["total"] == len(page["sessions"])
    return [session["title"] for session in page["sessions"]]


# Create


@pytest.mark.parametrize(
    "body", [None, {}, {"title": None, "agent_name": None, "model_id": None, "id": None}]
)
def test_create_with_defaults(client: FlaskClient, body: dict[str, Any] | None) -> None:
    made = client.post(SESSIONS, json=body) if body is not None else client.post(SESSIONS)
    assert made.status_code == 201
    session = made.get_json()
    assert session["id"] == str(UUID(session["id"]))
    assert made.headers["Location"] == f"{SESSIONS}/{session['id']}"
    assert session == {
        "id": session["id"],
        "title": "New Chat",
        "agent_name": "chat",
        "model_id": None,
        "created_at": session["created_at"],
        "updated_at": session["created_at"],
        "message_count": 0,
        "last_message_preview": None,
        "metadata": {},
        "archived": False,
        "head_id": None,
        "version": made.headers["ETag"].strip('"'),
        "messages": [],
    }
    assert client.get(made.headers["Location"]).get_json() == session


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000\u2003"])
def test_blank_title_is_the_default(client: FlaskClient, session: str, blank: str) -> None:
    assert client.post(SESSIONS, json={"title": blank}).get_json()["title"] == "New Chat"
    client.patch(session, json={"title": "x"})
    assert client.patch(session, json={"title": blank}).get_json()["title"] == "New Chat"
    client.patch(session, json={"title": "x"})
    merge_patch = client.patch(session, json={"title": blank}, content_type="application/merge-patch+json")
    assert merge_patch.get_json()["title"] == "New Chat"


# Read


def test_detail_contains_the_newest_messages(client: FlaskClient, session: str) -> None:
    for number in range(1, 5):
        client.post(f"{session}/messages", json={"role": "user", "content": str(number)})
    for limit, expected in (
        (None, "1234"),
        (0, ""),
        (1, "4"),
        (3, "234"),
        (4, "1234"),
        (5, "1234"),
        (500, "1234"),
    ):
        query = {} if limit is None else {"messages_limit": limit}
        for detail in (
            client.get(session, query_string=query),
            client.patch(session, query_string=query, json={}),
        ):
            assert "".join(message["content"] for message in detail.get_json()["messages"]) == expected
            assert detail.get_json()["message_count"] == 4
            assert detail.get_json()["last_message_preview"] == "4"


def test_summary_is_the_detail_without_messages(client: FlaskClient, chat: Chat) -> None:
    detail = client.get(chat.session).get_json()
    del detail["messages"]
    assert client.get(SESSIONS).get_json()["sessions"] == [detail]


# Patch


def test_patch_changes_only_the_given_fields(client: FlaskClient) -> None:
    body = {"title": "a", "agent_name": "b", "model_id": "c"}
    session = client.post(SESSIONS, json=body).headers["Location"]
    for name in list(body):
        patched = client.patch(session, json={name: f"{name} 2"})
        body[name] = f"{name} 2"
        assert body.items() <= patched.get_json().items()
        assert client.get(session).get_json() == patched.get_json()


def test_patch_with_null_changes_nothing(client: FlaskClient) -> None:
    body = {"title": "a", "agent_name": "b", "model_id": "c"}
    session = client.post(SESSIONS, json=body).headers["Location"]
    assert body.items() <= client.patch(session, json=dict.fromkeys(body)).get_json().items()


def test_merge_patch_with_null_restores_the_default(client: FlaskClient) -> None:
    body = {"title": "a", "agent_name": "b", "model_id": "c"}
    session = client.post(SESSIONS, json=body).headers["Location"]
    for name, default in (("model_id", None), ("title", "New Chat"), ("agent_name", "chat")):
        body[name] = default  # type: ignore[assignment]
        patched = client.patch(session, json={name: None}, content_type="application/merge-patch+json")
        assert body.items() <= patched.get_json().items()
    assert (
        client.patch(session, json={}, content_type="application/merge-patch+json").get_json()["model_id"]
        is None
    )


def test_patch_always_moves_updated_at(client: FlaskClient, conn: Conn, session: str) -> None:
    before = client.get(session).get_json()
    after = client.patch(session, json={}).get_json()
    assert after["updated_at"] > before["updated_at"]
    assert after["created_at"] == before["created_at"]


@pytest.mark.parametrize("write", ["patch", "append", "clear"])
@pytest.mark.parametrize("seconds", [30, 3600])
def test_updated_at_in_the_future_is_corrected(
    client: FlaskClient, conn: Conn, session: str, write: str, seconds: int
) -> None:
    conn.execute("UPDATE sessions SET updated_at = now() + make_interval(secs => %s)", [seconds])
    ahead = client.get(session).get_json()["updated_at"]
    if write == "patch":
        client.patch(session, json={})
    elif write == "append":
        client.post(f"{session}/messages", json={"role": "user", "content": ""})
    else:
        client.delete(f"{session}/messages")
    assert (client.get(session).get_json()["updated_at"] >= ahead) is (seconds < 60)


def test_patch_moves_to_the_top(client: FlaskClient) -> None:
    made = [client.post(SESSIONS, json={"title": title}).headers["Location"] for title in "abc"]
    assert titles(client) == ["c", "b", "a"]
    client.patch(made[0], json={})
    assert titles(client) == ["a", "c", "b"]
    client.post(f"{made[1]}/messages", json={"role": "user", "content": ""})
    assert titles(client) == ["b", "a", "c"]


# Delete


def test_delete_removes_everything_of_the_session(client: FlaskClient, conn: Conn, chat: Chat) -> None:
    assert client.delete(chat.session).status_code == 204
    for path in chat:
        assert client.get(path).status_code == 404
    assert client.delete(chat.session).status_code == 404
    assert conn.execute(
        "SELECT (SELECT count(*) FROM sessions), (SELECT count(*) FROM messages)"
    ).fetchone() == (0, 0)
    assert client.get(SESSIONS).get_json()["total"] == 0


def test_id_is_free_again_after_delete(client: FlaskClient, chat: Chat) -> None:
    session_id = chat.session.rpartition("/")[2]
    tag = client.get(chat.session).headers["ETag"]
    client.delete(chat.session)
    made = client.post(SESSIONS, json={"id": session_id})
    assert (made.status_code, made.get_json()["messages"]) == (201, [])
    assert made.headers["ETag"] != tag


# Versions


def test_known_version_is_a_304(client: FlaskClient, chat: Chat) -> None:
    for path in (
        SESSIONS,
        f"{SESSIONS}?limit=1",
        f"{SESSIONS}?search=new",
        chat.session,
        f"{chat.session}?messages_limit=1",
    ):
        tag = client.get(path).headers["ETag"]
        assert tag[0] == tag[-1] == '"'
        for header in (tag, f"W/{tag}", f'"x", {tag}', f'W/"x",W/{tag} , "y"', "*"):
            for method in ("GET", "HEAD"):
                known = client.open(path, method=method, headers={"If-None-Match": header})
                assert (known.status_code, known.data, known.headers["ETag"]) == (304, b"", tag), header


def test_unknown_version_gets_the_content(client: FlaskClient, chat: Chat) -> None:
    tag = client.get(chat.session).headers["ETag"]
    for header in ("", '"x"', f'"{uuid4()}"', "x", '""', tag.upper().replace("W/", ""), tag.replace("-", "")):
        for path in (SESSIONS, chat.session):
            response = client.get(path, headers={"If-None-Match": header})
            if response.status_code == 200:
                assert response.get_json() == client.get(path).get_json(), header
            else:
                assert (response.status_code, response.headers["ETag"].lower()) == (304, header.lower())


def test_every_change_creates_a_new_version(client: FlaskClient, chat: Chat) -> None:
    seen = []
    for change in (
        lambda: None,
        lambda: client.patch(chat.session, json={}),
        lambda: client.post(chat.messages, json={"role": "user", "content": ""}),
        lambda: client.patch(chat.message, json={}),
        lambda: client.delete(chat.message),
        lambda: client.delete(chat.messages),
    ):
        changed = change()
        tag = client.get(chat.session).headers["ETag"]
        assert client.get(chat.messages).headers["ETag"] == tag
        if changed is not None and changed.status_code != 204:
            assert changed.headers["ETag"] == tag
        seen.append((tag, client.get(SESSIONS).headers["ETag"]))
    assert len({tag for tag, _ in seen}) == len({tag for _, tag in seen}) == len(seen)


def test_change_with_a_stale_if_match_is_refused(client: FlaskClient, session: str) -> None:
    stale = client.get(session).headers["ETag"]
    current = client.patch(session, json={"title": "new"})
    for header in (stale, f"W/{stale}", '"x"', "x", "", f'{stale}, "y"'):
        for refused in (
            client.patch(session, json={"title": "lost"}, headers={"If-Match": header}),
            client.delete(session, headers={"If-Match": header}),
        ):
            assert refused.status_code == 412
    unchanged = client.get(session)
    assert (unchanged.get_json(), unchanged.headers["ETag"]) == (current.get_json(), current.headers["ETag"])


def test_change_with_the_current_if_match_is_made(client: FlaskClient, session: str) -> None:
    for form in ("{}", "W/{}", '"x", {}', "*"):
        header = form.format(client.get(session).headers["ETag"])
        assert client.patch(session, json={}, headers={"If-Match": header}).status_code == 200
    assert (
        client.delete(session, headers={"If-Match": client.get(session).headers["ETag"]}).status_code == 204
    )


def test_if_match_on_an_unknown_id_is_a_404(client: FlaskClient) -> None:
    for header in ('"x"', "*"):
        assert client.patch(f"{SESSIONS}/{uuid4()}", json={}, headers={"If-Match": header}).status_code == 404
        assert client.delete(f"{SESSIONS}/{uuid4()}", headers={"If-Match": header}).status_code == 404


@pytest.mark.parametrize("methods", [("PATCH", "PATCH"), ("PATCH", "DELETE"), ("DELETE", "DELETE")])
def test_one_of_two_writers_with_the_same_if_match_wins(
    app: Flask, client: FlaskClient, methods: tuple[str, str]
) -> None:
    for _ in range(10):
        session = client.post(SESSIONS, json={}).headers["Location"]
        headers = {"If-Match": client.get(session).headers["ETag"]}

        def change(number: int, session: str = session, headers: dict[str, str] = headers) -> int:
            method = methods[number]
            response = app.test_client().open(session, method=method, json={"title": method}, headers=headers)
            return response.status_code

        won, lost = sorted(at_once(2, change))
        assert won in (200, 204)
        assert lost == (404 if won == 204 else 412)
