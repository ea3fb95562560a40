"""The headers of every response."""

import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.chats import SESSIONS, Chat
from support.samples import base64_of, png

from mai_sessions.web.security_headers import HEADERS

EXPECTED = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def test_every_route_has_the_security_headers(app: Flask, client: FlaskClient, chat: Chat) -> None:
    session_id, message_id = chat.session.rpartition("/")[2], chat.message.rpartition("/")[2]
    values = {"session_id": session_id, "message_id": message_id, "sha256": "0" * 64}
    adapter = app.url_map.bind("localhost")
    seen = set()
    # Deletions come last.
    for rule in sorted(app.url_map.iter_rules(), key=lambda rule: "DELETE" in (rule.methods or ())):
        path = adapter.build(rule.endpoint, {name: values[name] for name in rule.arguments})
        for method in sorted(rule.methods or (), key=lambda method: method == "DELETE"):
            response = client.open(path, method=method)
            for name in EXPECTED:
                assert len(response.headers.getlist(name)) == 1, (method, path, name)
            if rule.endpoint != "mai_sessions_docs.get_docs" or method == "OPTIONS":
                assert EXPECTED.items() <= dict(response.headers).items(), (method, path)
            seen.add(response.status_code)
    assert {200, 204, 404, 422} <= seen
    assert dict(HEADERS) == EXPECTED


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/unknown"), ("PUT", SESSIONS), ("GET", f"{SESSIONS}?limit=x")]
)
def test_errors_have_the_security_headers(client: FlaskClient, method: str, path: str) -> None:
    response = client.open(path, method=method)
    assert response.status_code >= 400
    assert EXPECTED.items() <= dict(response.headers).items()


def test_304_has_the_security_headers(client: FlaskClient, session: str) -> None:
    tag = client.get(session).headers["ETag"]
    response = client.get(session, headers={"If-None-Match": tag})
    assert response.status_code == 304
    assert EXPECTED.items() <= dict(response.headers).items()


def test_images_load_in_pages_of_other_origins(client: FlaskClient, session: str) -> None:
    message = {"role": "user", "content": "x", "images": [base64_of(png())]}
    [image] = client.post(f"{session}/messages", json=message).get_json()["images"]
    headers = client.get(image).headers
    own = {
        "Cache-Control": "private, max-age=31536000, immutable",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    assert (EXPECTED | own).items() <= dict(headers).items()


def test_response_without_body_has_no_type(client: FlaskClient, session: str) -> None:
    reply = client.delete(session)
    assert reply.status_code == 204
    assert "Content-Type" not in reply.headers


def test_documentation_page_loads_only_its_own_files(client: FlaskClient) -> None:
    policy = client.get("/docs", headers={"Accept": "text/html"}).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "frame-ancestors 'none'" in policy
