"""The mode `proxy`: trusted peers and valid names."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from support.tokens import PROXY


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
def test_only_trusted_proxies_name_the_user(
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
def test_header_without_a_user_is_refused(make_client: Callable[..., FlaskClient], value: str) -> None:
    client = make_client(**PROXY)
    assert client.get("/api/v1/sessions", environ_base={"HTTP_X_FORWARDED_USER": value}).status_code == 401


def test_user_in_another_header_is_utf8(
    make_client: Callable[..., FlaskClient], conn: psycopg.Connection[Any]
) -> None:
    client = make_client(**PROXY, user_header="X-Auth-Request-Email")
    client.post(
        "/api/v1/sessions",
        environ_base={"HTTP_X_AUTH_REQUEST_EMAIL": "ann@例え.jp".encode().decode("latin-1")},
    )
    assert conn.execute("SELECT user_id FROM users").fetchall() == [("ann@例え.jp",)]
    assert client.get("/api/v1/sessions", headers={"X-Forwarded-User": "ann"}).status_code == 401


@pytest.mark.parametrize(
    "name",
    [
        *("ann ", " ann", "ann\u00a0", "\u2003ann", "ann\t", "an\u200bn", "ann\u202e", "a\x07nn", "\u3000"),
        *("ann,bob", "", " ", "x" * 256, "ann\u2028", "\ufeffann"),
    ],
)
def test_name_that_is_not_clean_is_refused(make_client: Callable[..., FlaskClient], name: str) -> None:
    environ = {"HTTP_X_FORWARDED_USER": name.encode().decode("latin-1"), "REMOTE_ADDR": "127.0.0.1"}
    assert make_client(**PROXY).get("/api/v1/sessions", environ_base=environ).status_code == 401


@pytest.mark.parametrize(
    "name", ["ann", "Ann Lee", "ann@例え.jp", "José", "Jose\u0301", "Ω", "\u2126", "ﬁ", "Straße"]
)
def test_names_are_compared_as_given(make_client: Callable[..., FlaskClient], conn: Any, name: str) -> None:
    environ = {"HTTP_X_FORWARDED_USER": name.encode().decode("latin-1"), "REMOTE_ADDR": "127.0.0.1"}
    assert make_client(**PROXY).post("/api/v1/sessions", environ_base=environ).status_code == 201
    assert conn.execute("SELECT user_id FROM sessions").fetchall() == [(name,)]
