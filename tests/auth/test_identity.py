"""Every mode of MAI_SESSIONS_AUTH against every route, and the settings that are refused."""

import re
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from flask import Flask
from flask.testing import FlaskClient
from support.tokens import JWT, PNG, PROXY, PUBLIC, RSA, SECRET, WITH_KEY, WITH_SECRET, bearer, pem
from werkzeug.routing import Rule

from mai_sessions import create_app
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError


@dataclass
class Case:
    settings: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    peer: str = "127.0.0.1"
    passes: bool = False


MATRIX = {
    "none": Case({}, passes=True),
    "none, with the header of another mode": Case(
        {}, {"X-Forwarded-User": "bob", "Authorization": "Bearer x"}, passes=True
    ),
    "proxy, no credentials": Case(PROXY),
    "proxy, wrong": Case(PROXY, {"X-Forwarded-User": " "}),
    "proxy, foreign": Case(PROXY, {"X-Forwarded-User": "ann"}, peer="10.2.0.1"),
    "proxy, foreign, forwarded": Case(
        PROXY, {"X-Forwarded-User": "ann", "X-Forwarded-For": "127.0.0.1"}, peer="10.2.0.1"
    ),
    "proxy, right": Case(PROXY, {"X-Forwarded-User": "ann"}, passes=True),
    "proxy, right, from a network": Case(PROXY, {"X-Forwarded-User": "ann"}, peer="10.1.2.3", passes=True),
    "jwt, no credentials": Case(JWT),
    "jwt, wrong": Case(JWT, {"Authorization": "Bearer wrong"}),
    "jwt, expired": Case(JWT, bearer(aud="mai", iss="idp", exp=time.time() - 1)),
    "jwt, foreign": Case(JWT, bearer("another secret of thirty-two bytes", aud="mai", iss="idp")),
    "jwt, right": Case(JWT, bearer(aud="mai", iss="idp"), passes=True),
}


def path_of(rule: Rule) -> str:
    return re.sub(
        r"<(?:\w+:)?(\w+)>", lambda name: "0" * 64 if name[1] == "sha256" else str(uuid4()), rule.rule
    )


@pytest.mark.parametrize("name", MATRIX)
def test_each_mode_accepts_and_refuses_each_credential(make_app: Callable[..., Flask], name: str) -> None:
    case = MATRIX[name]
    app = make_app(**case.settings)
    client = app.test_client()
    # Also paths without a route: an unknown path, and a malformed identifier.
    asked = [(method, path_of(rule)) for rule in app.url_map.iter_rules() for method in rule.methods or ()]
    for method, path in [
        *asked,
        ("GET", "/api/v1/none"),
        ("GET", "/api/v1/sessions/none"),
        ("PUT", "/api/v1/sessions"),
    ]:
        for slash in ("", "/"):
            response = client.open(
                path + slash, method=method, headers=case.headers, environ_base={"REMOTE_ADDR": case.peer}
            )
            refused = not (case.passes or PUBLIC.fullmatch(path) or method == "OPTIONS")
            assert (response.status_code == 401) == refused, (method, path, response.status_code)
            if refused:
                assert "mai-sessions" in response.headers["WWW-Authenticate"]
            elif method == "OPTIONS":
                assert response.data == b"" or response.status_code == 404


def test_new_route_requires_an_identity(make_app: Callable[..., Flask]) -> None:
    app = make_app(**JWT)
    app.add_url_rule("/new", view_func=lambda: "secret")
    assert app.test_client().get("/new").status_code == 401


def as_proxy(user: str) -> dict[str, str]:
    return {"X-Forwarded-User": user.encode().decode("latin-1")}


def as_jwt(user: str) -> dict[str, str]:
    return bearer(aud="mai", iss="idp", sub=user)


@pytest.mark.parametrize(("settings", "as_user"), [(PROXY, as_proxy), (JWT, as_jwt)], ids=["proxy", "jwt"])
def test_users_do_not_see_each_others_rows(
    make_client: Callable[..., FlaskClient], settings: Any, as_user: Callable[[str], dict[str, str]]
) -> None:
    client = make_client(**settings)
    ann, bob = as_user("ann@例え.jp"), as_user("bob")
    session_id = str(uuid4())
    path = f"/api/v1/sessions/{session_id}"
    assert (
        client.post(
            "/api/v1/sessions", json={"id": session_id, "title": "Ann's secret"}, headers=ann
        ).status_code
        == 201
    )
    image = b64encode(PNG).decode()
    message = client.post(
        f"{path}/messages", json={"role": "user", "content": "hidden", "images": [image]}, headers=ann
    ).get_json()
    tag = client.get(path, headers=ann).headers["ETag"]

    assert client.get("/api/v1/sessions", headers=ann).get_json()["total"] == 1
    listed = client.get("/api/v1/sessions", headers=bob).get_json()
    assert (listed["sessions"], listed["total"]) == ([], 0)
    assert client.get("/api/v1/sessions?search=secret", headers=bob).get_json()["total"] == 0
    unknown = client.get(f"/api/v1/sessions/{uuid4()}", headers=bob).get_json()["detail"]
    for method, url, body in [
        ("GET", path, None),
        ("PATCH", path, {"title": "Bob's"}),
        ("DELETE", path, None),
        ("GET", f"{path}/messages", None),
        ("POST", f"{path}/messages", {"role": "user", "content": "mine"}),
        ("DELETE", f"{path}/messages", None),
        ("GET", f"{path}/messages/{message['id']}", None),
        ("PATCH", f"{path}/messages/{message['id']}", {"content": "mine"}),
        ("DELETE", f"{path}/messages/{message['id']}", None),
    ]:
        response = client.open(url, method=method, json=body, headers=bob)
        assert response.status_code == 404, (method, url)
        assert response.get_json()["detail"] in (unknown, "Message not found")
    attachment = f"/api/v1/attachments/{sha256(PNG).hexdigest()}"
    assert client.get(attachment, headers=ann).data == PNG
    assert client.get(attachment, headers=bob).status_code == 404
    for analysis in ("usage", "agents", "models", "summary"):
        response = client.get(f"/api/v1/analytics/{analysis}", headers=bob)
        totals = {value for name, value in response.get_json().items() if name.startswith("total_")}
        assert response.status_code == 404 or totals == {0}
    response = client.get("/api/v1/search?q=hidden", headers=bob)
    assert response.status_code == 404 or response.get_json()["results"] == []
    # Bob has a session of the same id; each has their own.
    assert client.post("/api/v1/sessions", json={"id": session_id}, headers=bob).status_code == 201
    assert client.delete(path, headers=bob).status_code == 204
    assert client.get(path, headers=ann).headers["ETag"] == tag


PRIVATE_PEM = RSA.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"auth": "proxy"}, "TRUSTED_PROXIES"),
        ({**PROXY, "trusted_proxies": ("10.0.0.1/8",)}, "TRUSTED_PROXIES"),
        ({**PROXY, "trusted_proxies": ("nginx",)}, "TRUSTED_PROXIES"),
        ({**PROXY, "user_header": "X_User"}, "USER_HEADER"),
        ({"auth": "jwt"}, "exactly one"),
        ({**WITH_SECRET, "jwt_key": pem(RSA)}, "exactly one"),
        ({**WITH_SECRET, "jwt_jwks_url": "https://idp.example/jwks"}, "exactly one"),
        ({"auth": "jwt", "jwt_secret": "short"}, "too short"),
        ({**WITH_SECRET, "jwt_algorithms": ("none",)}, "none"),
        ({**WITH_SECRET, "jwt_algorithms": ("HS256", "RS256")}, "RS256"),
        ({**WITH_KEY, "jwt_algorithms": ("HS256",)}, "HS256"),
        ({**WITH_KEY, "jwt_algorithms": ("RS255",)}, "RS255"),
        ({**WITH_KEY, "jwt_algorithms": ("ES256",)}, "ES256"),
        ({"auth": "jwt", "jwt_key": PRIVATE_PEM}, "public key"),
        ({"auth": "jwt", "jwt_jwks_url": "file:///etc/passwd"}, "JWKS_URL"),
        ({"jwt_secret": SECRET}, "MAI_SESSIONS_JWT_SECRET is set, but MAI_SESSIONS_AUTH is none"),
        ({"jwt_audience": "mai"}, "JWT_AUDIENCE"),
        ({"url_lifetime": 60}, "URL_LIFETIME"),
        ({"trusted_proxies": ("127.0.0.1",)}, "TRUSTED_PROXIES"),
        ({"user_header": "X-User"}, "USER_HEADER"),
        ({**PROXY, "jwt_issuer": "idp"}, "JWT_ISSUER"),
        ({**WITH_SECRET, "user_header": "X-User"}, "USER_HEADER"),
    ],
)
def test_unclear_settings_stop_the_start(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(StartupError, match=word) as caught:
        create_app(Settings(database_url="host=127.0.0.1 port=1", **settings))
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)
