"""Reading a request: encodings, and empty parameters."""

import gzip

import pytest
from flask.testing import FlaskClient
from support.chats import SESSIONS


@pytest.mark.parametrize("encoding", ["gzip", "br", "deflate", "GZIP", "gzip, identity", "x"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_content_encoding_is_refused(client: FlaskClient, encoding: str, method: str) -> None:
    path = SESSIONS if method == "POST" else client.post(SESSIONS).headers["Location"]
    response = client.open(
        path,
        method=method,
        data=gzip.compress(b"{}"),
        content_type="application/json",
        headers={"Content-Encoding": encoding},
    )
    assert response.status_code == 415
    assert response.headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["identity", "Identity", ""])
def test_identity_encoding_is_accepted(client: FlaskClient, encoding: str) -> None:
    assert client.post(SESSIONS, json={}, headers={"Content-Encoding": encoding}).status_code == 201


@pytest.mark.parametrize(
    "url",
    [
        f"{SESSIONS}?search=&limit=&offset=&cursor=",
        f"{SESSIONS}?",
        f"{SESSIONS}?limit=&limit=5",
        "/api/v1/search?q=x&limit=&cursor=&role=&agent_name=&model_id=&session_id=&since=&until=",
        "/api/v1/analytics/usage?start_date=&end_date=",
        "/api/v1/analytics/agents?",
    ],
)
def test_empty_parameter_is_not_given(client: FlaskClient, url: str) -> None:
    assert client.get(url).status_code == 200


@pytest.mark.parametrize("query", ["messages_limit=", "messages_limit=&x="])
def test_empty_parameter_of_a_session_is_not_given(client: FlaskClient, query: str) -> None:
    session = client.post(SESSIONS).headers["Location"]
    assert client.get(f"{session}?{query}").status_code == 200
    assert client.get(f"{session}/messages?limit=&offset=&after_seq=&before_seq=").status_code == 200


def test_empty_search_term_is_not_given(client: FlaskClient) -> None:
    response = client.get("/api/v1/search?q=")
    assert response.status_code == 422
    assert response.get_json()["errors"][0]["type"] == "required"
