"""The rules that hold everywhere: contract §1."""

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from support.calls import CALLS, WITH_BODY, path_of
from support.chats import SESSIONS, Chat, insert_chat
from werkzeug.test import TestResponse

ROOT = ["/", "/health", "/health/live", "/health/ready"]
TEXTS = [
    "  leading blanks",
    "\n\nleading newlines",
    "trailing \n",
    "\t\r\n\x0b\x0c\x1b\x7f",
    "👩‍👩‍👧‍👦 🏳️‍🌈 🧑🏽‍💻",
    "مرحبا بالعالم",
    "שלום \u202eעולם\u202c",  # noqa: RUF001
    "日本語 中文 한국어",
    "e\u0301 is not \u00e9",
    "\ufeff\u200b\u2028\u2029\ufffd\ufffe\uffff",
    "\U0010ffff",
    "100%_done",
    "%s %(content)s %% $1 :name",
    "<b>&amp;</b><script>alert(1)</script>",
    "\\ \\n \\u0000 \\' ''; --",
    '"quoted" /* comment */',
    '{"json": [1, 2]}',
    "```python\n\tprint('x')\n```",
]


def body_but_request_id(response: TestResponse) -> dict[str, Any]:
    return {name: value for name, value in response.get_json().items() if name != "request_id"}


# Paths, methods and headers


@pytest.mark.parametrize("slash", ["", "/"])
def test_every_path_matches_with_and_without_a_slash(client: FlaskClient, chat: Chat, slash: str) -> None:
    for path in [*ROOT, SESSIONS, *chat]:
        response = client.get(path if path == "/" else path + slash)
        assert response.status_code == 200, path
        head = client.head(path if path == "/" else path + slash)
        assert (head.status_code, head.data) == (200, b""), path
        if not path.startswith("/health"):
            assert head.content_length == len(response.data), path


@pytest.mark.parametrize("slash", ["", "/"])
def test_writes_match_with_and_without_a_slash(client: FlaskClient, slash: str) -> None:
    made = client.post(SESSIONS + slash, json={})
    assert made.status_code == 201
    session = made.headers["Location"]
    assert not session.endswith("/")
    message = client.post(f"{session}/messages{slash}", json={"role": "user", "content": "x"}).headers[
        "Location"
    ]
    assert client.get(message).status_code == 200
    assert client.patch(message + slash, json={"content": "y"}).status_code == 200
    assert client.patch(session + slash, json={"title": "y"}).status_code == 200
    assert client.delete(message + slash).status_code == 204
    assert client.delete(f"{session}/messages{slash}").status_code == 204
    assert client.delete(session + slash).status_code == 204


def test_doubled_slash_is_another_path(client: FlaskClient, chat: Chat) -> None:
    for path in [f"{SESSIONS}//", f"{chat.session}//messages", "/api//v1/sessions"]:
        assert client.get(path).status_code == 404


def test_405_lists_the_allowed_methods(client: FlaskClient, chat: Chat) -> None:
    allowed = {
        **{path: {"GET"} for path in ROOT},
        SESSIONS: {"GET", "POST"},
        chat.session: {"GET", "PATCH", "DELETE"},
        chat.messages: {"GET", "POST", "DELETE"},
        chat.message: {"GET", "PATCH", "DELETE"},
    }
    for path, methods in allowed.items():
        options = client.options(path)
        assert options.status_code == 200
        assert set(options.allow) == {*methods, "HEAD", "OPTIONS"}
        for method in {"POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"} - methods:
            refused = client.open(path, method=method, json={})
            assert refused.status_code == 405, (method, path)
            assert set(refused.allow) == {*methods, "HEAD", "OPTIONS"}


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "application/xml, text/*",
        "image",
        "application/json;q=0",
        "application/json; Q=0.000",
        "application/json;q=0, */*",
        "*/*, application/json;q=0.0",
        "*/*;q=0",
        "*/*;q=0, text/html",
        "application/*;q=0",
        "application/x-ndjson",
        "application/x-ndjson, application/json;q=0",
        "image/*;q=0",
        "image/png;q=0, image/webp;q=0.0, text/*",
    ],
)
@pytest.mark.parametrize("path", [SESSIONS, "/health/live", "/"])
def test_accept_without_json_is_a_406(client: FlaskClient, path: str, accept: str) -> None:
    assert client.get(path, headers={"Accept": accept}).status_code == 406


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "application/*",
        "application/*;q=0.001",
        "application/json",
        "APPLICATION/JSON;q=0.1",
        "*/*;q=0, application/json",
        "text/html;q=0, */*",
        "text/html, */*;q=0.01",
        "image/avif,image/webp,*/*;q=0.8",
        "image/png, application/json;q=0",
    ],
)
def test_accept_with_json_or_an_image_is_served(client: FlaskClient, accept: str) -> None:
    assert client.get(SESSIONS, headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_content_type_must_be_json(client: FlaskClient, chat: Chat, method: str, path: str) -> None:
    data = b'{"title": "x", "role": "user", "content": "x"}'
    for content_type in (
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/vnd.api+json",
        "application/merge-patch+json",
        None,
        "",
    ):
        response = client.open(path_of(chat, path), method=method, data=data, content_type=content_type)
        assert response.status_code in (200, 201), content_type
    for content_type in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "json",
        "text/json",
    ):
        response = client.open(path_of(chat, path), method=method, data=data, content_type=content_type)
        assert response.status_code == 415, content_type


@pytest.mark.usefixtures("conn")
def test_body_over_the_limit_is_a_413(make_app: Callable[..., Flask]) -> None:
    client = make_app(max_body=1000).test_client()
    for size, status in ((1000, 201), (1001, 413)):
        assert (
            client.post(SESSIONS, data=b"{}".ljust(size), content_type="application/json").status_code
            == status
        )
        # Chunked, so the length is not known before.
        chunked = {"wsgi.input_terminated": True, "CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
        response = client.post(
            SESSIONS, data=b"{}".ljust(size), content_type="application/json", environ_overrides=chunked
        )
        assert response.status_code == status


def test_request_id_of_the_caller_is_kept(client: FlaskClient) -> None:
    assert client.get("/health", headers={"X-Request-ID": "a.b-1"}).headers["X-Request-ID"] == "a.b-1"
    assert client.get("/nowhere", headers={"X-Request-ID": "a.b-1"}).get_json()["request_id"] == "a.b-1"
    for malformed in ("", "a b", "é", "x" * 129, "<b>"):
        assert client.get("/health", headers={"X-Request-ID": malformed}).headers["X-Request-ID"] != malformed


# Unknown and foreign resources


@pytest.mark.parametrize(
    "path",
    ["/nowhere", "/api", "/api/v1", "/api/v1/session", "/health/other", "/%00", "/%ff", "/é", "/a%0d%0ab"],
)
def test_unknown_path_is_a_404(client: FlaskClient, path: str) -> None:
    assert client.get(path).status_code == 404


MALFORMED = [
    "1",
    "new",
    "undefined",
    "%00",
    "%ff",
    "é",
    "0199f0000000700080000000000000000",
    "0199f000000070008000000000000000",
    "{0199f000-0000-7000-8000-000000000000}",
    "urn:uuid:0199f000-0000-7000-8000-000000000000",
    "0199f000-0000-7000-8000-00000000000g",
    "0199f000-0000-7000-8000-00000000000%00",
    "\uff10199f000-0000-7000-8000-000000000000",
    "' OR '1'='1",
    "x" * 4000,
]


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_malformed_id_is_an_unknown_id(
    client: FlaskClient, chat: Chat, method: str, path: str, body: dict[str, Any] | None
) -> None:
    target = path_of(chat, path)
    session_id, message_id = chat.session.rpartition("/")[2], chat.message.rpartition("/")[2]
    nouns = {session_id: "Session", message_id: "Message"}
    for identifier in (identifier for identifier in nouns if identifier in target):
        unknown = client.open(target.replace(identifier, str(uuid4())), method=method, json=body)
        assert unknown.status_code == 404
        assert unknown.get_json()["detail"] == f"{nouns[identifier]} not found"
        for malformed in MALFORMED:
            response = client.open(target.replace(identifier, malformed), method=method, json=body)
            assert response.status_code == 404, malformed
            assert body_but_request_id(response) == body_but_request_id(unknown), malformed


@pytest.mark.parametrize(("method", "path", "body"), CALLS)
def test_row_of_another_user_is_a_404(
    client: FlaskClient, chat_of_another_user: Chat, method: str, path: str, body: dict[str, Any] | None
) -> None:
    target = path_of(chat_of_another_user, path)
    response = client.open(target, method=method, json=body)
    unknown = client.open(
        target.replace(chat_of_another_user.session, f"{SESSIONS}/{uuid4()}"), method=method, json=body
    )
    assert (response.status_code, unknown.status_code) == (404, 404)
    assert body_but_request_id(response) == body_but_request_id(unknown)


def test_two_users_may_use_one_id(client: FlaskClient, conn: psycopg.Connection[Any]) -> None:
    session_id = uuid4()
    chat_of_another_user = insert_chat(conn, "another-user", session_id)
    made = client.post(SESSIONS, json={"id": str(session_id), "title": "Mine"})
    assert made.status_code == 201
    assert client.get(chat_of_another_user.session).get_json()["title"] == "Mine"
    assert client.get(chat_of_another_user.messages).get_json() == []
    assert client.get(chat_of_another_user.message).status_code == 404
    assert client.delete(chat_of_another_user.session).status_code == 204
    assert conn.execute("SELECT user_id, title, message_count FROM sessions").fetchall() == [
        ("another-user", "Secret", 1)
    ]
    assert conn.execute("SELECT content FROM messages").fetchall() == [("secret",)]


# Text


def round_trip(client: FlaskClient, session: str, text: str) -> None:
    added = client.post(f"{session}/messages", json={"role": "user", "content": text})
    assert added.status_code == 201
    assert added.get_json()["content"] == text
    assert client.get(added.headers["Location"]).get_json()["content"] == text
    assert client.get(f"{session}/messages?limit=1&before_seq=2147483647").get_json()[0]["content"] == text
    detail = client.get(f"{session}?messages_limit=1").get_json()
    assert detail["messages"][0]["content"] == text
    assert detail["last_message_preview"] == text[:100]
    assert (
        client.patch(added.headers["Location"], json={"content": text[::-1]}).get_json()["content"]
        == text[::-1]
    )
    assert client.get(f"{session}?messages_limit=0").get_json()["last_message_preview"] == text[::-1][:100]


@pytest.mark.parametrize("text", [*TEXTS, "", " ", "x" * 1_000_000, "é😀" * 250_000, "\n" * 1_000_000])
def test_content_is_stored_byte_exact(client: FlaskClient, session: str, text: str) -> None:
    round_trip(client, session, text)


# U+0000 apart, whatever UTF-8 can say.
_storable = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(text=_storable)
def test_any_text_is_stored_byte_exact(client: FlaskClient, session: str, text: str) -> None:
    round_trip(client, session, text)


@pytest.mark.parametrize("text", TEXTS)
def test_short_text_is_stored_byte_exact(client: FlaskClient, text: str) -> None:
    names = {"title": text, "agent_name": text, "model_id": text}
    blank = not text.strip()
    expected = {"title": "New Chat", "agent_name": "chat", "model_id": text} if blank else names
    made = client.post(SESSIONS, json=names)
    assert expected.items() <= made.get_json().items()
    session = made.headers["Location"]
    assert expected.items() <= client.get(session).get_json().items()
    assert expected.items() <= client.patch(session, json=names).get_json().items()
    assert (
        expected.items()
        <= client.get(SESSIONS, query_string={"search": "" if blank else text})
        .get_json()["sessions"][0]
        .items()
    )
    message = {"role": "tool", "content": "", "agent_name": text, "model_id": text, "documents": [text, text]}
    assert message.items() <= client.post(f"{session}/messages", json=message).get_json().items()


@pytest.mark.parametrize("character", ["x", "é", "😀"])
def test_lengths_count_characters(client: FlaskClient, character: str) -> None:
    body = {"title": character * 255, "agent_name": character * 100, "model_id": character * 255}
    made = client.post(SESSIONS, json=body)
    assert made.status_code == 201
    assert body.items() <= made.get_json().items()
    message = {
        "role": "user",
        "content": character * 101,
        "agent_name": character * 100,
        "documents": [character * 255] * 20,
    }
    assert client.post(f"{made.headers['Location']}/messages", json=message).status_code == 201
    assert client.get(made.headers["Location"]).get_json()["last_message_preview"] == character * 100


# The database is away


def test_unreachable_database_is_a_503(make_app: Callable[..., Flask]) -> None:
    client = make_app(
        database_url="host=127.0.0.1 port=1 dbname=none", migrate="off", pool_timeout=0.2
    ).test_client()
    response = client.get(SESSIONS)
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "127.0.0.1" not in response.text


@pytest.mark.parametrize("table", ["messages", "session_titles"])
def test_results_of_a_clock_that_was_ahead_are_on_all_pages(
    client: FlaskClient, conn: psycopg.Connection[Any], table: str
) -> None:
    title, content = ("hay", "needle") if table == "messages" else ("needle", "hay")
    for _ in range(5):
        client.post(SESSIONS, json={"title": title, "messages": [{"role": "user", "content": content}]})
    conn.execute(f"UPDATE {table} SET created_at = now() + interval '1 day'".encode())
    query = {"q": "needle", "limit": "2"}
    found = []
    for _ in range(3):
        page = client.get("/api/v1/search", query_string=query).get_json()
        found += [(result["session"]["id"], result["seq"]) for result in page["results"]]
        query["cursor"] = page["next_cursor"] or ""
    assert len(found) == len(set(found)) == 5
