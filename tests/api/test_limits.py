import gc
import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from marshmallow import ValidationError
from support.chats import SESSIONS


@pytest.mark.parametrize(("depth", "status"), [(40, 201), (41, 422), (900, 422), (100_000, 422)])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_deeply_nested_json_is_refused(
    client: FlaskClient, depth: int, status: int, opening: str, closing: str
) -> None:
    # The body is the first level.
    inner = opening * (depth - 1) + "1" + closing * (depth - 1)
    response = client.post("/api/v1/sessions", data=f'{{"unknown":{inner}}}')
    assert response.status_code == status


def test_error_names_the_member_that_is_nested_too_deep(client: FlaskClient) -> None:
    response = client.post(
        "/api/v1/sessions", data='{"title":"t","metadata":' + '{"a":' * 50 + "1" + "}" * 51
    )
    assert response.status_code == 422
    assert response.get_json()["errors"][0]["loc"] == ["body", "metadata"]


def test_wide_json_is_not_deep(client: FlaskClient) -> None:
    assert client.post("/api/v1/sessions", data=json.dumps({"unknown": [[]] * 10_000})).status_code == 201


@pytest.mark.parametrize("value", ["[]", "{}", "1", '""', '"\\\\"', '"\\""'])
@pytest.mark.parametrize(("number", "status"), [(90_000, 201), (110_000, 422), (5_000_000, 422)])
def test_json_with_too_many_values_is_refused(
    client: FlaskClient, value: str, number: int, status: int
) -> None:
    if value in ("[]", "{}"):
        # Each counts with the comma before it.
        number //= 2
    response = client.post("/api/v1/sessions", data=f'{{"unknown":[{",".join([value] * number)}]}}')
    assert response.status_code == status
    if status == 422:
        assert response.get_json()["errors"] == [
            {"loc": ["body"], "msg": "More than 100000 values.", "type": "too_many"}
        ]


@pytest.mark.parametrize("mark", ["[", "{", ",", '"', "\\", '\\"', '[{"a":1,"b":"\\\\"},'])
def test_delimiters_in_texts_are_not_counted_as_values(client: FlaskClient, session: str, mark: str) -> None:
    message = {"role": "user", "content": mark * 200_000}
    assert client.post(f"{session}/messages", json=message).get_json()["content"] == message["content"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("", {"title": "x" * 300}),
        ("", {"messages": [{"role": "user", "content": 1}]}),
        ("/batch", {"ids": ["x"], "action": "archive"}),
        ("/{session}/messages", {"role": "nobody", "content": "x"}),
        ("/{session}/messages", {"messages": [{"role": "nobody", "content": "x"}, {}]}),
        ("/{session}/messages", {"role": "user", "parts": [{"text": "\0"}]}),
        ("/{session}/messages", {"role": "user", "content": "x", "images": ["x"]}),
    ],
)
def test_refused_body_leaves_no_garbage(client: FlaskClient, path: str, body: dict[str, Any]) -> None:
    """An error that refers to itself would keep the body in memory until a full garbage collection."""
    session_id = client.post(SESSIONS, json={}).get_json()["id"]
    path = SESSIONS + path.replace("{session}", session_id)
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        assert client.post(path, json=body).status_code == 422
        gc.collect()
        assert [garbage for garbage in gc.garbage if isinstance(garbage, ValidationError)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
