"""Every mode of MAI_SESSIONS_AUTH against every route, and what attackers try."""

import json
import re
import threading
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import uuid4

import jwt
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.routing import Rule

from mai_sessions import create_app
from mai_sessions.auth import jwks
from mai_sessions.auth.identity import refuse_public_address
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError

SECRET = "correct horse battery staple, and as many more as HS512 wants, 64 bytes"
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
PUBLIC = re.compile(r"/|/health(/.*)?|/docs(/.*)?|/openapi\.json|/metrics")
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def token(
    key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any
) -> str:
    claims = {"sub": "ann", "exp": time.time() + 600, **claims}
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None}, key, algorithm, headers
    )


def bearer(*args: Any, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(*args, **claims)}"}


@pytest.fixture
def make_client(make_app: Callable[..., Flask]) -> Callable[..., FlaskClient]:
    return lambda **settings: make_app(**settings).test_client()


# --- The matrix ---

PROXY = {"auth": "proxy", "trusted_proxies": ("127.0.0.1", "10.1.0.0/16")}
JWT = {"auth": "jwt", "jwt_secret": SECRET, "jwt_audience": "mai", "jwt_issuer": "idp"}


@dataclass
class Case:
    settings: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    peer: str = "127.0.0.1"
    passes: bool = False


MATRIX = {
    "none": Case({}, passes=True),
    "none, with a stranger's header": Case(
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
def test_matrix(make_app: Callable[..., Flask], name: str) -> None:
    case = MATRIX[name]
    app = make_app(**case.settings)
    client = app.test_client()
    # Also what no route has: an unknown path, and an identifier that is malformed.
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


def test_a_new_route_is_closed(make_app: Callable[..., Flask]) -> None:
    app = make_app(**JWT)
    app.add_url_rule("/new", view_func=lambda: "secret")
    assert app.test_client().get("/new").status_code == 401


# --- Two users ---


def as_proxy(user: str) -> dict[str, str]:
    return {"X-Forwarded-User": user.encode().decode("latin-1")}


def as_jwt(user: str) -> dict[str, str]:
    return bearer(aud="mai", iss="idp", sub=user)


@pytest.mark.parametrize(("settings", "as_user"), [(PROXY, as_proxy), (JWT, as_jwt)], ids=["proxy", "jwt"])
def test_two_users(
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


# --- proxy ---


@pytest.mark.parametrize(
    ("peer", "proxies", "status"),
    [
        ("", ("unix",), 200),
        ("", ("127.0.0.1",), 401),
        ("127.0.0.1", ("unix",), 401),
        ("::1", ("::1",), 200),
        ("::ffff:10.1.2.3", ("10.0.0.0/8",), 200),
        ("::ffff:11.1.2.3", ("10.0.0.0/8",), 401),
    ],
)
def test_trusted_proxies(
    make_client: Callable[..., FlaskClient], peer: str, proxies: tuple[str, ...], status: int
) -> None:
    client = make_client(auth="proxy", trusted_proxies=proxies)
    response = client.get(
        "/api/v1/sessions", headers={"X-Forwarded-User": "ann"}, environ_base={"REMOTE_ADDR": peer}
    )
    assert response.status_code == status


@pytest.mark.parametrize(
    "value",
    ["ann,bob", "ann, ann", b"\xff".decode("latin-1"), "x" * 256],
    ids=["duplicated", "duplicated, the same", "not UTF-8", "too long"],
)
def test_header_that_names_no_user(make_client: Callable[..., FlaskClient], value: str) -> None:
    client = make_client(**PROXY)
    assert client.get("/api/v1/sessions", environ_base={"HTTP_X_FORWARDED_USER": value}).status_code == 401


def test_users_are_utf8_in_another_header_too(
    make_client: Callable[..., FlaskClient], conn: psycopg.Connection[Any]
) -> None:
    client = make_client(**PROXY, user_header="X-Auth-Request-Email")
    client.post(
        "/api/v1/sessions",
        environ_base={"HTTP_X_AUTH_REQUEST_EMAIL": "ann@例え.jp".encode().decode("latin-1")},
    )
    assert conn.execute("SELECT user_id FROM users").fetchall() == [("ann@例え.jp",)]
    assert client.get("/api/v1/sessions", headers={"X-Forwarded-User": "ann"}).status_code == 401


# --- jwt ---


def b64(part: object) -> str:
    return (
        urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode())
        .rstrip(b"=")
        .decode()
    )


def unsigned(header: object, **claims: Any) -> str:
    return f"{b64(header)}.{b64({'sub': 'ann', 'exp': time.time() + 600, **claims})}."


def hmac_with_the_public_key() -> str:
    # PyJWT itself refuses to make it.
    from hmac import digest  # noqa: PLC0415

    signed = unsigned({"alg": "HS256", "typ": "JWT"}).removesuffix(".")
    return f"{signed}.{b64(digest(pem(RSA).encode(), signed.encode(), 'sha256'))}"


DEEP = f"{b64(b'[' * 5000)}.e30.x"
WITH_SECRET = {"auth": "jwt", "jwt_secret": SECRET}
WITH_KEY = {"auth": "jwt", "jwt_key": pem(RSA)}


@pytest.mark.parametrize(
    ("settings", "forged"),
    [
        pytest.param(WITH_SECRET, unsigned({"alg": "none"}), id="alg none"),
        pytest.param(WITH_SECRET, unsigned({"alg": "NoNe"}), id="alg NoNe"),
        pytest.param(WITH_SECRET, unsigned({}), id="no alg"),
        pytest.param(WITH_SECRET, unsigned([]), id="header is an array"),
        pytest.param(WITH_SECRET, unsigned({"alg": "HS256", "kid": 5}), id="kid is a number"),
        pytest.param(WITH_SECRET, unsigned({"alg": {}}), id="alg is an object"),
        pytest.param(WITH_SECRET, DEEP, id="header of 5000 arrays"),
        pytest.param(WITH_SECRET, token(SECRET, "HS512"), id="an algorithm that is not on the list"),
        pytest.param(WITH_SECRET, token(exp=None), id="no exp"),
        pytest.param(WITH_SECRET, token(exp="soon"), id="exp is text"),
        pytest.param(WITH_SECRET, token(exp=float("inf")), id="exp is infinite"),
        pytest.param(WITH_SECRET, token(nbf=time.time() + 3600), id="not yet"),
        pytest.param(WITH_SECRET, token(sub=None), id="no sub"),
        pytest.param(WITH_SECRET, token(sub=""), id="empty sub"),
        pytest.param(WITH_SECRET, token(sub="x" * 256), id="long sub"),
        pytest.param(WITH_SECRET, token(sub="a\0b"), id="U+0000 in sub"),
        pytest.param(WITH_SECRET, token(sub="\ud800"), id="lone surrogate in sub"),
        pytest.param(WITH_SECRET, token()[:-4] + "AAAA", id="changed signature"),
        pytest.param(JWT, token(iss="idp"), id="no audience"),
        pytest.param(JWT, token(iss="idp", aud="other"), id="wrong audience"),
        pytest.param(JWT, token(aud="mai"), id="no issuer"),
        pytest.param(JWT, token(aud="mai", iss="other"), id="wrong issuer"),
        pytest.param(WITH_KEY, hmac_with_the_public_key(), id="HMAC with the public key"),
        pytest.param(WITH_KEY, token(OTHER_RSA, "RS256"), id="another key"),
        pytest.param(WITH_KEY, token(EC, "ES256"), id="another kind of key"),
        pytest.param(WITH_KEY, token(RSA, "PS256"), id="the right key, an algorithm that is not on the list"),
    ],
)
def test_forged(make_client: Callable[..., FlaskClient], settings: dict[str, Any], forged: str) -> None:
    response = make_client(**settings).get("/api/v1/sessions", headers={"Authorization": f"Bearer {forged}"})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer realm="mai-sessions", error="invalid_token"'


def test_token_has_its_place(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(**WITH_SECRET)
    good = token()
    for query, headers in [
        (f"?token={good}&access_token={good}", {}),
        ("", {"Authorization": f"Basic {good}"}),
        ("", {"Authorization": good}),
        ("", {"Authorization": f"Bearer {good},Bearer {good}"}),
        ("", {"Authorization": "Bearer é"}),
        ("", {"Cookie": f"token={good}; Authorization={good}"}),
    ]:
        response = client.get(f"/api/v1/sessions{query}", headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == 'Bearer realm="mai-sessions"'
    assert client.get("/api/v1/sessions", headers={"Authorization": f"bearer  {good}"}).status_code == 200


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=60))
def test_no_header_breaks_it(fuzzed_client: FlaskClient, header: str) -> None:
    for value in (header, f"Bearer {header}", f"Bearer {b64(header.encode())}.{b64(header.encode())}.x"):
        assert (
            fuzzed_client.get("/api/v1/none", environ_base={"HTTP_AUTHORIZATION": value}).status_code == 401
        )


@pytest.fixture(scope="module")
def fuzzed_client(database_url: str) -> FlaskClient:
    return create_app(Settings(database_url=database_url, **WITH_SECRET)).test_client()


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
def test_public_keys(make_client: Callable[..., FlaskClient], key: Any, algorithm: str) -> None:
    client = make_client(auth="jwt", jwt_key=pem(key))
    assert client.get("/api/v1/sessions", headers=bearer(key, algorithm)).status_code == 200
    # What is not asked for does not matter, and a clock may be a moment ahead.
    headers = bearer(key, algorithm, aud="anyone", iss="anyone", iat=time.time() + 30)
    assert client.get("/api/v1/sessions", headers=headers).status_code == 200


# --- JWKS ---


class Provider(ThreadingHTTPServer):
    """An identity provider that publishes `keys`, and fails on request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ProviderHandler)
        self.keys: dict[str, Any] = {}
        self.asked = 0
        self.answers = threading.Event()
        self.answers.set()
        self.body: bytes | None = None
        self.url = f"http://127.0.0.1:{self.server_port}/jwks"


class _ProviderHandler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.answers.wait()
        keys = []
        for kid, key in self.server.keys.items():
            published = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            keys.append({**published, "kid": kid, "use": "sig", "alg": "RS256"})
        self.send_response(200)
        self.end_headers()
        self.wfile.write(
            json.dumps({"keys": keys}).encode() if self.server.body is None else self.server.body
        )

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as server:
        server.keys = {"one": RSA}
        thread = threading.Thread(target=server.serve_forever, args=[0.05])
        thread.start()
        yield server
        server.answers.set()
        server.shutdown()
        thread.join()


def signed_by(key: Any, kid: str | None) -> dict[str, str]:
    return bearer(key, "RS256", {"kid": kid} if kid else None)


def test_published_keys(make_client: Callable[..., FlaskClient], provider: Provider) -> None:
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)

    def status(key: Any, kid: str | None) -> int:
        return client.get("/api/v1/sessions", headers=signed_by(key, kid)).status_code

    assert [status(RSA, "one") for _ in range(3)] == [200, 200, 200]
    assert provider.asked == 1
    assert status(OTHER_RSA, "one") == 401
    assert status(RSA, None) == 401
    assert status(OTHER_RSA, "two") == 401
    # A rotated key is found, the old one goes, a kid does not stand for another's key.
    provider.keys = {"two": OTHER_RSA}
    assert status(OTHER_RSA, "two") == 200
    assert status(RSA, "two") == 401
    assert status(RSA, "one") == 401
    # Who names keys that are none cannot keep the provider busy.
    for number in range(30):
        assert status(RSA, f"none {number}") == 401
    assert provider.asked <= 10
    assert status(OTHER_RSA, "two") == 200


def test_withdrawn_key(
    make_client: Callable[..., FlaskClient], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 200
    provider.keys = {"two": OTHER_RSA}
    monkeypatch.setattr(jwks, "_FRESH", 0.0)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 401


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"keys":[]}', b'{"keys":[{"kty":"oct"}]}', b"\xff", b"[" * 100_000],
)
def test_provider_that_publishes_nonsense(
    make_client: Callable[..., FlaskClient], provider: Provider, body: bytes
) -> None:
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    provider.body = body
    response = client.get("/api/v1/sessions", headers=signed_by(RSA, "one"))
    assert response.status_code == 503
    assert response.headers["Retry-After"]


def test_provider_away(
    make_client: Callable[..., FlaskClient], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.body = b""
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 503
    assert client.get("/health").status_code == 200
    assert client.get("/api/v1/sessions", headers={"Authorization": "Bearer x"}).status_code == 401
    # It is back; and then away again, when what was learned serves on.
    provider.body = None
    monkeypatch.setattr(jwks, "_RETRY", 0.0)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 200
    provider.body = b""
    monkeypatch.setattr(jwks, "_FRESH", 0.0)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 200
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "two")).status_code == 503
    monkeypatch.setattr(jwks, "_USABLE", 0.0)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 503


def test_provider_that_hangs(
    make_app: Callable[..., Flask], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT", 0.2)
    app = make_app(auth="jwt", jwt_jwks_url=provider.url)
    known = signed_by(RSA, "one")
    assert app.test_client().get("/api/v1/sessions", headers=known).status_code == 200
    provider.answers.clear()
    statuses: list[int] = []

    def ask(kid: str) -> None:
        statuses.append(app.test_client().get("/api/v1/sessions", headers=signed_by(RSA, kid)).status_code)

    threads = [threading.Thread(target=ask, args=[f"none {number}"]) for number in range(8)]
    for thread in threads:
        thread.start()
    # Whoever has a known key passes meanwhile.
    assert app.test_client().get("/api/v1/sessions", headers=known).status_code == 200
    for thread in threads:
        thread.join()
    assert statuses == [503] * 8
    assert provider.asked == 2


# --- Signed URLs ---


def test_an_img_can_read_what_a_reply_names(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(**WITH_SECRET)
    ann = bearer()
    session = client.post("/api/v1/sessions", headers=ann).headers["Location"]
    body = {"role": "user", "content": "see", "images": [b64encode(PNG).decode()]}
    replies = [client.post(f"{session}/messages", json=body, headers=ann)]
    replies += [client.get(session, headers=ann), client.get(f"{session}/messages", headers=ann)]
    for reply in replies:
        found = re.findall(r'"images"\s*:\s*\["([^"]*)"', reply.text)
        assert len(found) == 1
        response = client.get(found[0])
        assert response.data == PNG
        assert "private" in response.headers["Cache-Control"]
    url: str = found[0]
    bare = url.partition("?")[0]
    for forged in [
        bare,
        bare.replace(sha256(PNG).hexdigest(), "0" * 64) + "?" + url.partition("?")[2],
        url.replace("user=ann", "user=bob"),
        re.sub(r"expires=\d+", "expires=99999999999", url),
        re.sub(r"signature=.", "signature=x", url),
        url + "x",
    ]:
        assert client.get(forged).status_code == 401, forged
    query = url.partition("?")[2]
    assert client.get(f"{session}?{query}").status_code == 401
    assert client.get(url, headers={"Authorization": "Bearer x"}).status_code == 401


def test_tags_follow_the_signatures(
    make_client: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = bearer(exp=10**11)
    client = make_client(**WITH_SECRET)
    now = float(3600 * 500_000)
    monkeypatch.setattr("time.time", lambda: now)
    session = client.post("/api/v1/sessions", headers=ann).headers["Location"]
    tag = client.get(session, headers=ann).headers["ETag"]
    assert client.get(session, headers={**ann, "If-None-Match": tag}).status_code == 304
    # The client would keep URLs that no longer work, …
    now += 3600
    response = client.get(session, headers={**ann, "If-None-Match": tag})
    assert response.status_code == 200
    assert response.get_json()["messages"] == []
    # … but the session has not changed.
    patched = client.patch(session, json={"title": "x"}, headers={**ann, "If-Match": tag})
    assert patched.status_code == 200
    assert client.delete(session, headers={**ann, "If-Match": tag}).status_code == 412
    assert (
        client.delete(session, headers={**ann, "If-Match": f"W/{patched.headers['ETag']}"}).status_code == 204
    )


def test_other_modes_sign_nothing(client: FlaskClient) -> None:
    session = client.post("/api/v1/sessions").headers["Location"]
    body = {"role": "user", "content": "see", "images": [b64encode(PNG).decode()]}
    message = client.post(f"{session}/messages", json=body).get_json()
    assert message["images"] == [f"/api/v1/attachments/{sha256(PNG).hexdigest()}"]
    assert client.get(message["images"][0]).data == PNG


# --- Start ---

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
    ],
)
def test_settings_that_believe_nobody(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(StartupError, match=word) as caught:
        create_app(Settings(database_url="host=127.0.0.1 port=1", **settings))
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "203.0.113.1"])
def test_nobody_is_asked_on_public_addresses(host: str) -> None:
    with pytest.raises(StartupError, match="MAI_SESSIONS_ALLOW_ANONYMOUS=1"):
        refuse_public_address(Settings(), host)
    refuse_public_address(Settings(allow_anonymous=True), host)
    refuse_public_address(Settings(auth="jwt"), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_nobody_is_asked_on_loopback(host: str) -> None:
    refuse_public_address(Settings(), host)
