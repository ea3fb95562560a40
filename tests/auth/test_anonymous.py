"""The mode `none`: loopback addresses and loopback hosts only."""

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient
from support.tokens import WITH_SECRET, bearer

from mai_sessions.auth.identity import refuse_public_address
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8000",
        "LOCALHOST.",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]",
        "[::1]:8000",
        "ui.localhost:1",
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/sessions", "/health", "/docs"])
def test_loopback_host_is_served_without_authentication(client: FlaskClient, host: str, path: str) -> None:
    assert client.get(path, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "10.0.0.1",
        ),
        *("[::2]", "0.0.0.0", "[::]", "localhost:80:80", "2130706433", "[localhost]"),
    ],
)
@pytest.mark.parametrize("path", ["/api/v1/sessions", "/api/v1/none", "/health", "/docs", "/metrics"])
def test_foreign_host_is_refused_without_authentication(client: FlaskClient, host: str, path: str) -> None:
    assert client.get(path, headers={"Host": host}).status_code == 403


def test_any_host_is_served_where_callers_are_authenticated_or_anonymous_on_purpose(
    make_client: Callable[..., FlaskClient],
) -> None:
    host = {"Host": "chat.example"}
    assert make_client(allow_anonymous=True).get("/api/v1/sessions", headers=host).status_code == 200
    jwt_client = make_client(**WITH_SECRET)
    assert jwt_client.get("/api/v1/sessions", headers={**bearer(), **host}).status_code == 200
    assert jwt_client.get("/health", headers=host).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "203.0.113.1"])
def test_public_address_is_refused_without_authentication(host: str) -> None:
    with pytest.raises(StartupError, match="MAI_SESSIONS_ALLOW_ANONYMOUS=1"):
        refuse_public_address(Settings(), host)
    refuse_public_address(Settings(allow_anonymous=True), host)
    refuse_public_address(Settings(auth="jwt"), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_address_is_accepted_without_authentication(host: str) -> None:
    refuse_public_address(Settings(), host)
