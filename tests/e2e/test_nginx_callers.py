"""The users that nginx passes on to the service, and its limits for each caller."""

import json
import shutil
import socket
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.chats import SESSIONS
from support.nginx import UNLIMITED, Site, behind_nginx, get, problem
from support.service import TREE

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


def test_rate_limit_is_a_429(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    with behind_nginx(
        make_migrated_database(), tmp_path, {"rate=50r/s": "rate=1r/m", "burst=200": "burst=2"}
    ) as site:
        responses = [get(site, "/health", Authorization="Bearer a") for _ in range(5)]
        assert [status for status, _, _ in responses] == [200, 200, 200, 429, 429]
        assert problem(responses[-1]) == (429, "Too Many Requests")
        assert responses[-1][1]["retry-after"] == "1"
        # Each caller has a limit of their own.
        assert get(site, "/health", Authorization="Bearer b")[0] == 200
        assert get(site, "/health")[0] == 200


def test_user_is_the_name_from_nginx(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    named = {'set $mai_sessions_user "";': "set $mai_sessions_user $http_x_test_user;"}
    proxy = {"MAI_SESSIONS_AUTH": "proxy", "MAI_SESSIONS_TRUSTED_PROXIES": "unix"}
    with behind_nginx(make_migrated_database(), tmp_path, named, **proxy) as site:
        body = b'{"title":"x"}'
        assert get(site, SESSIONS, "POST", body, X_Test_User="ann", Content_Type="application/json")[0] == 201
        assert json.loads(get(site, SESSIONS, X_Test_User="ann")[2])["total"] == 1
        assert json.loads(get(site, SESSIONS, X_Test_User="bob", X_Forwarded_User="ann")[2])["total"] == 0
        assert problem(get(site, SESSIONS, X_Forwarded_User="ann"))[0] == 401
        with socket.create_connection(("127.0.0.1", site.port)) as connection:
            connection.sendall(
                f"GET {SESSIONS} HTTP/1.1\r\nHost: localhost\r\nX_Forwarded_User: ann\r\n\r\n".encode()
            )
            assert b" 401 " in connection.recv(100)


@pytest.fixture
def with_passwords(make_migrated_database: Callable[[], str], tmp_path: Path) -> Iterator[Site]:
    """A site with the shipped nginx-auth.conf, and the passwords of two users."""
    passwords = tmp_path / "passwords"
    passwords.write_text("ann:{PLAIN}right\nbob:{PLAIN}other\n")
    auth = tmp_path / "auth.conf"
    shipped = (TREE / "deploy" / "nginx-auth.conf").read_text()
    assert "/etc/nginx/mai-sessions.htpasswd" in shipped
    auth.write_text(shipped.replace("/etc/nginx/mai-sessions.htpasswd", str(passwords)))
    replaced = {"# include /etc/nginx/mai-sessions-auth.conf;": f"include {auth};", **UNLIMITED}
    proxy = {"MAI_SESSIONS_AUTH": "proxy", "MAI_SESSIONS_TRUSTED_PROXIES": "unix"}
    with behind_nginx(make_migrated_database(), tmp_path, replaced, **proxy) as site:
        yield site


def basic(user: str, password: str) -> str:
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def test_wrong_password_is_401_and_the_right_one_names_the_user(with_passwords: Site) -> None:
    site = with_passwords
    ann = basic("ann", "right")
    assert get(site, SESSIONS, "POST", b"{}", Authorization=ann, Content_Type="application/json")[0] == 201
    assert json.loads(get(site, SESSIONS, Authorization=ann)[2])["total"] == 1
    assert (
        json.loads(get(site, SESSIONS, Authorization=basic("bob", "other"), X_Forwarded_User="ann")[2])[
            "total"
        ]
        == 0
    )
    for headers in (
        {},
        {"Authorization": basic("ann", "wrong")},
        {"Authorization": basic("ann", "")},
        {"Authorization": basic("eve", "right")},
        {"X_Forwarded_User": "ann"},
    ):
        response = get(site, SESSIONS, **headers)
        assert problem(response) == (401, "Unauthorized")
        assert response[1]["www-authenticate"] == 'Basic realm="mai-sessions"'
    assert get(site, "/metrics")[0] == 200


def test_name_without_a_checked_password_does_not_reach_the_service(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    proxy = {"MAI_SESSIONS_AUTH": "proxy", "MAI_SESSIONS_TRUSTED_PROXIES": "unix"}
    with behind_nginx(make_migrated_database(), tmp_path, UNLIMITED, **proxy) as site:
        assert problem(get(site, SESSIONS, Authorization=basic("ann", "any")))[0] == 401
        assert problem(get(site, SESSIONS, X_Forwarded_User="ann"))[0] == 401


def test_random_tokens_do_not_limit_other_users(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    """A full zone drops the oldest tokens; a token after several blanks is the same caller."""
    small = {
        "mai_sessions_caller:10m rate=50r/s": "mai_sessions_caller:32k rate=1r/m",
        "burst=200": "burst=2",
        "rate=500r/s": "rate=100000r/s",
    }
    with behind_nginx(make_migrated_database(), tmp_path, small) as site, closing(site.connect()) as http:
        for number in range(1000):
            http.request(
                "GET", "/health/live", headers={"Authorization": f"Bearer {number:0{100 + number % 900}}"}
            )
            response = http.getresponse()
            response.read()
            assert response.status == 200, number
        statuses = [get(site, "/health/live", Authorization="Bearer fresh")[0] for _ in range(4)]
        assert statuses == [200, 200, 200, 429]


def test_errors_of_nginx_carry_cors_headers(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    origin = "https://chat.example"
    listed = {'# "https://chat.example" $http_origin;': '"https://chat.example" $http_origin;', **UNLIMITED}
    with behind_nginx(make_migrated_database(), tmp_path, listed, MAI_SESSIONS_CORS_ORIGINS=origin) as site:
        for headers, expected in (({"Origin": origin}, origin), ({"Origin": "https://evil.example"}, None)):
            response = get(site, SESSIONS, "POST", b"x" * (64 * 1024**2 + 1), **headers)
            assert problem(response) == (413, "Content Too Large")
            assert response[1].get("access-control-allow-origin") == expected
            assert response[1]["vary"] == "Origin"
