"""The keys that an identity provider publishes."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.service import wait_until
from support.tokens import (
    OTHER_RSA,
    RSA,
    bearer,
)

from mai_sessions.auth import jwks


class Provider(ThreadingHTTPServer):
    """An identity provider that publishes `keys`, and fails on request."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _ProviderHandler)
        self.keys: dict[str | None, Any] = {}
        self.asked = 0
        self.responds = threading.Event()
        self.responds.set()
        self.body: bytes | None = None
        self.drip = b""
        self.user_agents: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_port}/jwks"


class _ProviderHandler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        self.server.asked += 1
        self.server.user_agents.add(self.headers["User-Agent"])
        self.server.responds.wait()
        if self.server.drip:
            with suppress(OSError):
                for byte in self.server.drip * 1000:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.05)
            return
        keys = []
        for kid, key in self.server.keys.items():
            published = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            keys.append({**published, "use": "sig", "alg": "RS256", **({"kid": kid} if kid else {})})
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
        server.responds.set()
        server.shutdown()
        thread.join()


def signed_by(key: Any, kid: str | None) -> dict[str, str]:
    return bearer(key, "RS256", {"kid": kid} if kid else None)


def test_published_key_verifies_tokens_until_it_is_rotated(
    make_client: Callable[..., FlaskClient], provider: Provider
) -> None:
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)

    def status(key: Any, kid: str | None) -> int:
        return client.get("/api/v1/sessions", headers=signed_by(key, kid)).status_code

    assert [status(RSA, "one") for _ in range(3)] == [200, 200, 200]
    assert provider.asked == 1
    assert status(OTHER_RSA, "one") == 401
    # A token need not name the only key.
    assert status(RSA, None) == 200
    assert status(OTHER_RSA, "two") == 401
    # A rotated key is found, the old one goes, a kid does not stand for another's key.
    provider.keys = {"two": OTHER_RSA}
    assert status(OTHER_RSA, "two") == 200
    assert status(RSA, "two") == 401
    assert status(RSA, "one") == 401
    # Tokens with unknown keys cannot keep the provider busy.
    for number in range(30):
        assert status(RSA, f"none {number}") == 401
    assert provider.asked <= 10
    assert status(OTHER_RSA, "two") == 200


def test_withdrawn_key_is_refused(
    make_client: Callable[..., FlaskClient], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 200
    provider.keys = {"two": OTHER_RSA}
    monkeypatch.setattr(jwks, "REFRESH_AFTER", 0.0)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 401


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"keys":[]}', b'{"keys":[{"kty":"oct"}]}', b"\xff", b"[" * 100_000],
)
def test_malformed_key_set_is_a_503(
    make_client: Callable[..., FlaskClient], provider: Provider, body: bytes
) -> None:
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    provider.body = body
    response = client.get("/api/v1/sessions", headers=signed_by(RSA, "one"))
    assert response.status_code == 503
    assert response.headers["Retry-After"]


def test_cached_keys_serve_while_the_provider_is_away(
    make_client: Callable[..., FlaskClient], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.body = b""
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 503
    assert client.get("/health").status_code == 200
    assert client.get("/api/v1/sessions", headers={"Authorization": "Bearer x"}).status_code == 401
    # The provider returns, and fails again: the cached keys still serve.
    provider.body = None
    monkeypatch.setattr(jwks, "RETRY_AFTER_FAILURE", 0.0)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 200
    provider.body = b""
    monkeypatch.setattr(jwks, "REFRESH_AFTER", 0.0)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 200
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "two")).status_code == 503
    monkeypatch.setattr(jwks, "EXPIRE_AFTER", 0.0)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 503


def test_keys_are_fetched_again_when_no_thread_could_be_started(
    make_client: Callable[..., FlaskClient], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    monkeypatch.setattr(jwks, "RETRY_AFTER_FAILURE", 0.0)

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 503
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 200


def test_hanging_provider_does_not_block_known_keys(
    make_app: Callable[..., Flask], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT", 0.2)
    app = make_app(auth="jwt", jwt_jwks_url=provider.url)
    known = signed_by(RSA, "one")
    assert app.test_client().get("/api/v1/sessions", headers=known).status_code == 200
    provider.responds.clear()
    statuses: list[int] = []

    def ask(kid: str) -> None:
        statuses.append(app.test_client().get("/api/v1/sessions", headers=signed_by(RSA, kid)).status_code)

    threads = [threading.Thread(target=ask, args=[f"none {number}"]) for number in range(8)]
    for thread in threads:
        thread.start()
    # Tokens with a known key are accepted meanwhile.
    assert app.test_client().get("/api/v1/sessions", headers=known).status_code == 200
    for thread in threads:
        thread.join()
    assert statuses == [503] * 8
    assert provider.asked == 2


@pytest.mark.parametrize("drip", [b"x", b"HTTP/1.1 200 OK\r\nX: y", b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 9])
def test_slow_provider_does_not_delay_requests(
    make_app: Callable[..., Flask], provider: Provider, monkeypatch: pytest.MonkeyPatch, drip: bytes
) -> None:
    monkeypatch.setattr(jwks, "FETCH_TIMEOUT", 0.3)
    client = make_app(auth="jwt", jwt_jwks_url=provider.url).test_client()
    provider.drip = drip
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 503
    # The connection to the provider is aborted, so the thread that reads from it ends.
    wait_until(lambda: not any(thread.name == "jwks" for thread in threading.enumerate()))


def test_unknown_keys_over_the_quota_wait_for_nothing(
    make_app: Callable[..., Flask], provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = make_app(auth="jwt", jwt_jwks_url=provider.url).test_client()
    for number in range(jwks.MAX_FETCHES_PER_MINUTE + 1):
        assert client.get("/api/v1/sessions", headers=signed_by(RSA, f"none {number}")).status_code == 401
    asked = provider.asked
    provider.responds.clear()
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "another")).status_code == 401
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, "one")).status_code == 200
    assert provider.asked == asked


def test_provider_sees_a_user_agent_of_the_service(
    make_client: Callable[..., FlaskClient], provider: Provider
) -> None:
    make_client(auth="jwt", jwt_jwks_url=provider.url).get("/api/v1/sessions", headers=signed_by(RSA, "one"))
    [user_agent] = provider.user_agents
    assert user_agent.startswith("mai-sessions/")


@pytest.mark.parametrize("kid", [None, "one", "other"])
def test_single_key_without_a_kid_serves_every_token(
    make_client: Callable[..., FlaskClient], provider: Provider, kid: str | None
) -> None:
    provider.keys = {None: RSA}
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, kid)).status_code == 200
    assert client.get("/api/v1/sessions", headers=signed_by(OTHER_RSA, kid)).status_code == 401


def test_token_without_a_kid_is_refused_where_there_are_two_keys(
    make_client: Callable[..., FlaskClient], provider: Provider
) -> None:
    provider.keys = {"one": RSA, "two": OTHER_RSA}
    client = make_client(auth="jwt", jwt_jwks_url=provider.url)
    assert client.get("/api/v1/sessions", headers=signed_by(RSA, None)).status_code == 401
