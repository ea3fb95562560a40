"""Calls from pages of other origins."""

from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.samples import base64_of, png
from werkzeug.test import TestResponse

from mai_sessions.errors import StartupError

LISTED = "http://localhost:5173"
ORIGINS = (LISTED, "http://[::1]:5173", "https://chat.example", "tauri://localhost", "capacitor://localhost")


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app(cors_origins=ORIGINS).test_client()


def preflight(client: FlaskClient, origin: str, method: str, path: str = SESSIONS) -> TestResponse:
    asked = {
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "content-type, if-match",
    }
    return client.options(path, headers={"Origin": origin, **asked})


def cors_headers(response: TestResponse) -> list[str]:
    return [name for name, _ in response.headers if name.startswith("Access-Control-")]


@pytest.mark.parametrize("origin", ORIGINS)
def test_preflight_of_a_listed_origin_allows_methods_and_headers(client: FlaskClient, origin: str) -> None:
    headers = preflight(client, origin, "PATCH").headers
    assert headers["Access-Control-Allow-Origin"] == origin
    assert set(headers["Access-Control-Allow-Methods"].split(", ")) == {"GET", "POST", "PATCH", "DELETE"}
    allowed = headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"content-type", "if-match", "idempotency-key", "x-request-id", "traceparent"} <= set(allowed)
    assert headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in headers


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE"])
def test_preflight_needs_no_identity(make_app: Callable[..., Flask], method: str) -> None:
    app = make_app(cors_origins=(LISTED,), auth="proxy", trusted_proxies=("10.0.0.1",))
    response = preflight(app.test_client(), LISTED, method)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == LISTED


@pytest.mark.parametrize("path", ["/nowhere", f"{SESSIONS}/none", "/", "/health"])
def test_preflight_of_any_path_succeeds(client: FlaskClient, path: str) -> None:
    response = preflight(client, LISTED, "GET", path)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == LISTED


@pytest.mark.parametrize("headers", [{}, {"Origin": "https://other.example"}, {"Origin": LISTED}])
def test_every_response_varies_by_origin(client: FlaskClient, headers: dict[str, str]) -> None:
    session = client.post(SESSIONS, headers=headers)
    body = {"role": "user", "content": "", "images": [base64_of(png())]}
    message = client.post(f"{session.headers['Location']}/messages", json=body, headers=headers)
    image = client.get(message.get_json()["images"][0], headers=headers)
    missing = client.get("/nowhere", headers=headers)
    for response in (session, message, image, missing, client.options(SESSIONS, headers=headers)):
        assert response.headers.getlist("Vary") == ["Origin"]
        assert ("Access-Control-Allow-Origin" in response.headers) == (headers.get("Origin") == LISTED)


def test_responses_and_problems_list_the_headers_that_a_page_may_read(client: FlaskClient) -> None:
    for path, status in [
        (SESSIONS, 200),
        (f"{SESSIONS}/unknown", 404),
        (f"{SESSIONS}?limit=0", 422),
        ("/nowhere", 404),
    ]:
        response = client.get(path, headers={"Origin": LISTED})
        assert response.status_code == status
        assert response.headers["Access-Control-Allow-Origin"] == LISTED
        assert response.headers["Vary"] == "Origin"
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"ETag", "Location", "Link", "Idempotency-Replayed", "X-Request-ID", "Retry-After"} <= set(
            exposed
        )


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:3001",
        "https://localhost:5173",
        "http://localhost:51730",
        "http://localhost",
        "http://localhost:5173.evil",
        "null",
    ],
)
def test_unlisted_origin_gets_no_cors_headers(client: FlaskClient, origin: str) -> None:
    assert cors_headers(client.get(SESSIONS, headers={"Origin": origin})) == []
    assert cors_headers(preflight(client, origin, "GET")) == []


def test_cors_is_off_by_default(make_app: Callable[..., Flask]) -> None:
    client = make_app().test_client()
    assert cors_headers(client.get(SESSIONS, headers={"Origin": LISTED})) == []
    assert cors_headers(preflight(client, LISTED, "GET")) == []


@pytest.mark.parametrize(
    "origin",
    ["*", "http://*", "localhost:3000", "http://localhost:3000/", "http://a b", "null", ".*", "http://"],
)
def test_wrong_origin_stops_the_start(make_app: Callable[..., Flask], origin: str) -> None:
    with pytest.raises(StartupError, match="MAI_SESSIONS_CORS_ORIGINS"):
        make_app(cors_origins=(LISTED, origin))
