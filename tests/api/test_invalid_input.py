"""Ignored, refused and malformed input: contract §1."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from support.calls import WITH_BODY, path_of
from support.chats import SESSIONS, Chat

# Ignored input


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


def test_last_of_repeated_keys_counts_and_parts_keep_all(client: FlaskClient) -> None:
    made = client.post(SESSIONS, data=b'{"title": "a", "title": "b"}', content_type="application/json")
    assert made.get_json()["title"] == "b"
    parts = b'[{"type":"text","text":"a","text":"b"},{"x":{"y":[],"y":{"z":0,"z":1}}}]'
    for place, status in ((b"parts", 201), (b"metadata", 422)):
        body = b'{"role":"user","content":"c","%b":%b}' % (place, parts if status == 201 else parts[1:38])
        added = client.post(
            f"{SESSIONS}/{made.get_json()['id']}/messages", data=body, content_type="application/json"
        )
        assert added.status_code == status
        if status == 201:
            assert parts in added.data
            assert parts in client.get(added.headers["Location"]).data
        else:
            assert added.get_json()["errors"][0]["loc"] == ["body", "metadata", "text"]


def test_message_with_messages_is_a_batch(client: FlaskClient, chat: Chat) -> None:
    """The document allows a body that is both: see `anyOf` in docs/openapi.json."""
    messages = [{"role": "user", "content": "of the batch"}]
    reply = client.post(chat.messages, json={"role": "user", "content": "x", "messages": messages}).get_json()
    assert [message["content"] for message in reply["messages"]] == ["of the batch"]


# Refused input

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


def test_missing_required_fields_are_named(client: FlaskClient, chat: Chat) -> None:
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


@pytest.mark.parametrize("query", ["search=\xff", "\xff=\xff"])
def test_query_that_is_not_utf8_is_refused(client: FlaskClient, query: str) -> None:
    # The environment of WSGI has a byte in each character.
    assert client.get(SESSIONS, environ_overrides={"QUERY_STRING": query}).status_code == 422


@pytest.mark.parametrize(
    "query", ["search=%FF", "search=%ED%A0%80", "search=%C0%80", "search=%", "search=%zz"]
)
def test_percent_sign_that_encodes_no_character_stands_for_itself(client: FlaskClient, query: str) -> None:
    client.post(SESSIONS, json={"title": query.removeprefix("search=")})
    response = client.get(SESSIONS, environ_overrides={"QUERY_STRING": query})
    assert (response.status_code, response.get_json()["total"]) == (200, 1)


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
