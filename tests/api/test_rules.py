"""The rules that hold everywhere: contract §1."""

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from support.chats import SESSIONS, Chat, insert_chat
from werkzeug.test import TestResponse

ROOT = ["/", "/health", "/health/live", "/health/ready"]
# What is asked of a session and a message: with a body, where the method takes one.
CALLS = [
    ("GET", "session", None),
    ("PATCH", "session", {"title": "x"}),
    ("DELETE", "session", None),
    ("GET", "messages", None),
    ("POST", "messages", {"role": "user", "content": "x"}),
    ("DELETE", "messages", None),
    ("GET", "message", None),
    ("PATCH", "message", {"content": "x"}),
    ("DELETE", "message", None),
]
# The routes that read a body, as (method, which path).
WITH_BODY = [("POST", "sessions"), *((method, path) for method, path, body in CALLS if body)]
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


def path_of(chat: Chat, name: str) -> str:
    return SESSIONS if name == "sessions" else getattr(chat, name)


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


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/*", "text/html, */*;q=0.8", ""])
def test_accept_with_json_is_served(client: FlaskClient, accept: str) -> None:
    assert client.get(SESSIONS, headers={"Accept": accept}).status_code == 200


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_content_types(client: FlaskClient, chat: Chat, method: str, path: str) -> None:
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
        # Chunked: no length that tells it beforehand.
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


# What is not there


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


# What is ignored


def test_unknown_keys_and_parameters_are_ignored(client: FlaskClient) -> None:
    unknown = {
        "agentName": 1,
        "createdAt": None,
        "": [],
        "user_id": "another-user",
        "__class__": {},
        "message_count": 9,
        "seq": 7,
    }
    made = client.post(f"{SESSIONS}?x=1&x=%00&=&limit=-1", json={**unknown, "title": "x"})
    assert made.status_code == 201
    assert made.get_json()["message_count"] == 0
    session = made.headers["Location"]
    added = client.post(
        f"{session}/messages?a=b",
        json={**unknown, "role": "user", "content": "x"},
    )
    assert added.status_code == 201
    assert added.get_json()["seq"] == 1
    assert client.patch(session, json=unknown).get_json()["title"] == "x"
    assert (
        client.patch(added.headers["Location"], json={**unknown, "role": "tool"}).get_json()["role"] == "user"
    )
    for path in ("/health", SESSIONS, session, f"{session}/messages", added.headers["Location"]):
        assert client.get(f"{path}?").status_code == 200
        assert client.get(f"{path}?unknown=%00&limit[]=x&_=1").status_code == 200


def test_last_of_duplicate_json_keys_counts(client: FlaskClient) -> None:
    made = client.post(SESSIONS, data=b'{"title": "a", "title": "b"}', content_type="application/json")
    assert made.get_json()["title"] == "b"


# What is refused

NOT_JSON = [
    b"{",
    b"nonsense",
    b"{'title': 'x'}",
    b'{"title": "x",}',
    b'{"title": "x"} x',
    b'{"title": NaN}',
    b'{"title": Infinity}',
    b'{"title": -Infinity}',
    b'{"title": "\xff"}',
    b'{"title": "\xed\xa0\x80"}',
    b'{"title": "\xc0\x80"}',
    b"\xff\xfe{\x00}\x00",
    b'\xef\xbb\xbf{"title": "x"}',
    b'{"title": "\n"}',
    b'{"title": "\x00"}',
    b'{"title": "\\x00"}',
    b'{"title": "\\ud800"}',
    b'{"title": "\\udc00\\ud800"}',
    b'{"\\ud800": "x"}',
    b"[" * 100_000,
    b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
    b'{"token_count": 1' + b"0" * 400 + b"}",
    b"\0",
    b" ",
]
NOT_OBJECTS = [b"null", b"[]", b"[{}]", b'"x"', b"1", b"true", b'""', b"1e400"]


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_body_that_is_not_an_object_is_refused(
    client: FlaskClient, chat: Chat, method: str, path: str
) -> None:
    for body in NOT_JSON + NOT_OBJECTS:
        response = client.open(path_of(chat, path), method=method, data=body, content_type="application/json")
        assert response.status_code == 422, body[:100]
        # A lone surrogate is named by its path.
        assert response.get_json()["errors"][0]["loc"][0] == "body", body[:100]


WRONG_TEXT = [1, 0, True, False, 1.5, [], ["x"], {}, "\0", "a\0b"]
WRONG_NUMBER = [True, False, "1", "", -1, -0.1, [], {}]
WRONG: dict[str, dict[str, list[Any]]] = {
    "session": {
        "title": [*WRONG_TEXT, "x" * 256, "😀" * 256],
        "agent_name": [*WRONG_TEXT, "x" * 101],
        "model_id": [*WRONG_TEXT, "x" * 256],
    },
    "message": {
        "content": WRONG_TEXT,
        "model_id": [*WRONG_TEXT, "x" * 256],
        "agent_name": [*WRONG_TEXT, "x" * 101],
        "response_time_ms": WRONG_NUMBER,
        "is_error": [0, 1, "true", "", [], {}],
        "token_count": [*WRONG_NUMBER, 1.5, 2**31, 2**63, 2**64, 1e300],
    },
}
WRONG["sessions"] = {
    **WRONG["session"],
    "id": [*WRONG_TEXT, "", "x", "0199f000000070008000000000000000", "0199f000-0000-7000-8000"],
}
WRONG["messages"] = {
    **WRONG["message"],
    "content": [*WRONG_TEXT, None],
    "role": [*WRONG_TEXT, None, "", "User", "user ", "function", "x" * 10_000],
    "documents": ["x", 1, {}, True, [1], [None], [["x"]], ["\0"], ["x" * 256], ["x"] * 21],
}


@pytest.mark.parametrize(("method", "path"), WITH_BODY)
def test_invalid_field_is_refused(client: FlaskClient, chat: Chat, method: str, path: str) -> None:
    for field, values in WRONG[path].items():
        for value in values:
            body = {"role": "user", "content": "x", field: value}
            response = client.open(path_of(chat, path), method=method, json=body)
            assert response.status_code == 422, (field, value)
            error = response.get_json()["errors"][0]
            assert error["loc"][:2] == ["body", field]
            assert field in response.get_json()["detail"]
            assert error["msg"]
            assert error["type"]
    assert client.get(chat.session).get_json()["message_count"] == 1
    assert client.get(SESSIONS).get_json()["total"] == 1


def test_required_fields(client: FlaskClient, chat: Chat) -> None:
    response = client.post(chat.messages)
    assert response.status_code == 422
    assert [error["loc"] for error in response.get_json()["errors"]] == [
        ["body", "role"],
        ["body", "content"],
    ]


NOT_INTEGERS = [
    "",
    " ",
    "x",
    "1.0",
    "1e1",
    "+1",
    " 1",
    "1 ",
    "0x1",
    "1_0",
    "٣",
    "²",
    "\0",
    "NaN",
    "Infinity",
    "9" * 5000,
    "null",
]
QUERIES = {
    "sessions": {
        "limit": [*NOT_INTEGERS, "0", "101", "-1", str(2**63)],
        "offset": [*NOT_INTEGERS, "-1", str(2**63), str(2**64)],
        "search": ["\0", "a\0b"],
        "cursor": ["x", "\0", "1.2.3", "💥", "x" * 4000],
    },
    "session": {"messages_limit": [*NOT_INTEGERS, "-1", "501"]},
    "messages": {
        "limit": [*NOT_INTEGERS, "0", "501", "-1"],
        "offset": [*NOT_INTEGERS, "-1", str(2**63)],
        "after_seq": [*NOT_INTEGERS, "-1", str(2**31)],
        "before_seq": [*NOT_INTEGERS, "-1", str(2**31)],
    },
}


@pytest.mark.parametrize("path", QUERIES)
def test_invalid_query_parameter_is_refused(client: FlaskClient, chat: Chat, path: str) -> None:
    for name, values in QUERIES[path].items():
        # An empty parameter is not given: see tests/web/test_body.py.
        for value in filter(None, values):
            response = client.get(path_of(chat, path), query_string={name: value})
            assert response.status_code == 422, (name, value)
            assert response.get_json()["errors"][0]["loc"] == ["query", name]
    if path == "session":
        assert client.patch(chat.session, query_string={"messages_limit": "x"}, json={}).status_code == 422


def test_query_parameter_at_its_limit_is_accepted(client: FlaskClient, chat: Chat) -> None:
    largest = str(2**63 - 1)
    for path, query in (
        (SESSIONS, {"limit": "1", "offset": largest}),
        (SESSIONS, {"limit": "100", "offset": largest, "search": "x"}),
        (chat.session, {"messages_limit": "0"}),
        (chat.session, {"messages_limit": "500"}),
        (chat.messages, {"limit": "500", "offset": largest}),
        (chat.messages, {"after_seq": str(2**31 - 1)}),
        (chat.messages, {"before_seq": "0"}),
        (chat.messages, {"after_seq": "5", "before_seq": "2"}),
    ):
        assert client.get(path, query_string=query).status_code == 200


@pytest.mark.parametrize(
    "query",
    ["search=%FF", "search=%ED%A0%80", "search=%C0%80", "search=%", "search=%zz", "search=\xff", "\xff=\xff"],
)
def test_query_that_is_not_utf8_is_refused(client: FlaskClient, query: str) -> None:
    # The environment of WSGI has a byte in each character.
    assert client.get(SESSIONS, environ_overrides={"QUERY_STRING": query}).status_code in (200, 422)


@pytest.mark.parametrize(
    "header",
    ["Accept", "Content-Type", "If-Match", "If-None-Match", "X-Request-ID", "Host", "Idempotency-Key"],
)
@pytest.mark.parametrize(
    "value",
    ["", " ", '"', ",", "W/", '"x', "é", "\x7f", "a" * 10_000, ";q=x", "a/b;c", "*;q=-1", "%00", "[::"],
)
def test_odd_headers_cause_no_5xx(client: FlaskClient, chat: Chat, header: str, value: str) -> None:
    for method in ("GET", "PATCH"):
        assert client.open(chat.session, method=method, headers={header: value}, data=b"{}").status_code < 500


# No bad input makes a 5xx

_any_text = st.text(st.characters(), max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_any_text, inner, max_size=3),
    max_leaves=5,
)
_fields = sorted({name for fields in WRONG.values() for name in fields} | {"images"})
_bodies = _json | st.dictionaries(st.sampled_from(_fields), _json | st.sampled_from(["user", ["x"], 1]))
_parameters = sorted({name for parameters in QUERIES.values() for name in parameters})
_queries = st.dictionaries(
    st.sampled_from(_parameters) | st.text(max_size=5),
    st.text(max_size=20) | st.integers().map(str) | st.integers(0, 99).map(str),
)


@given(body=_bodies)
def test_no_json_causes_a_5xx(client: FlaskClient, chat: Chat, body: Any) -> None:
    data = json.dumps(body).encode()
    for method, path in WITH_BODY:
        assert client.open(path_of(chat, path), method=method, data=data).status_code < 500


@given(data=st.binary(max_size=50))
def test_no_bytes_cause_a_5xx(client: FlaskClient, chat: Chat, data: bytes) -> None:
    for method, path in WITH_BODY:
        assert client.open(path_of(chat, path), method=method, data=data).status_code < 500
    environ = {"QUERY_STRING": data.decode("latin-1")}
    assert client.get(SESSIONS, environ_overrides=environ).status_code < 500


@given(query=_queries)
def test_no_query_causes_a_5xx(client: FlaskClient, chat: Chat, query: dict[str, str]) -> None:
    for path in QUERIES:
        assert client.get(path_of(chat, path), query_string=query).status_code < 500


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
