"""The shipped nginx site, gunicorn and PostgreSQL together: the tour of the contract, limits, and no request
lost.
"""

import gzip
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.nginx import SITE, UNLIMITED, Site, behind_nginx, configuration, get
from support.service import TREE, call, wait_until, workers_of

# The same tests, with the `service` of this module.
from test_store import test_the_service_holds_what_the_store_holds as test_store  # noqa: F401
from test_tour import test_chain, test_chunked_body, test_curl, test_no_path_is_redirected, test_odd_requests  # noqa: F401

from mai_sessions.config import Settings
from mai_sessions.web.security_headers import HEADERS

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

SESSIONS = "/api/v1/sessions"
CANARY = "Kanarienvogel"
TOKEN = "Bearer Kanarientoken"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def service(make_migrated_database: Callable[[], str], directory: Path) -> Iterator[Site]:
    """The whole house, on free ports."""
    with behind_nginx(make_migrated_database(), directory, UNLIMITED) as site:
        yield site


def problem(answer: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """Check that a response is a problem document, and return its status and title."""
    status, headers, body = answer
    assert headers["content-type"] == "application/problem+json"
    assert {name.lower(): value for name, value in HEADERS}.items() <= headers.items()
    document = json.loads(body)
    assert document["status"] == status
    assert document["request_id"] == headers["x-request-id"]
    assert {"type", "title", "status", "detail", "request_id"} <= set(document)
    return status, document["title"]


# --- The site ---


def test_nginx_takes_the_shipped_file(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    # Only the places that belong to root are others here.
    config.write_text(configuration(tmp_path, 8080))
    done = subprocess.run(
        ["nginx", "-t", "-c", config, "-e", tmp_path / "error.log"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


def test_limits_are_the_services_own() -> None:
    site = SITE.read_text()
    assert f"client_max_body_size {Settings().max_body // 1024**2}m;" in site
    # Larger than the service's, for cookies that are not passed on.
    assert int(re.search(r"large_client_header_buffers \d+ (\d+)k;", site)[1]) * 1024 > Settings().max_header  # type: ignore[index]
    read_timeout = int(re.search(r"proxy_read_timeout (\d+)s", site)[1])  # type: ignore[index]
    assert read_timeout > Settings().pool_timeout + Settings().statement_timeout


def test_every_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    units = sorted(path.name for path in (TREE / "deploy").glob("mai-sessions*.*"))
    assert len(units) == 4
    for name in units:
        unit = (TREE / "deploy" / name).read_text()
        (tmp_path / name).write_text(
            re.sub(r"/opt/mai-sessions/bin/(gunicorn|mai-sessions)", shutil.which("true") or "", unit)
        )
    command = ["systemd-analyze", "verify", "--man=no", *(tmp_path / name for name in units)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert str(tmp_path) not in done.stderr, done.stderr


# --- Responses ---


def test_request_id_is_one_everywhere(service: Site) -> None:
    status, headers, _ = get(service, "/", X_Request_ID="from-the-caller")
    assert (status, headers["x-request-id"]) == (200, "from-the-caller")
    made = get(service, "/", X_Request_ID="not well formed")[1]["x-request-id"]
    assert re.fullmatch("[0-9a-f]{32}", made)
    for request_id in ("from-the-caller", made):
        for name in ("gunicorn.log", "mai-sessions.log"):
            # The lines are written after the response.
            log = service.directory / name
            wait_until(
                lambda log=log, line=f'"request_id":"{request_id}"': line in log.read_text(errors="replace")
            )


def test_nothing_names_the_inside(service: Site) -> None:
    status, headers, _ = get(
        service, SESSIONS, "POST", b'{"title":"x"}', Host="localhost:8080", Content_Type="application/json"
    )
    assert status == 201
    assert headers["location"].startswith(f"{SESSIONS}/")
    assert headers["server"] == "nginx"


def test_gzip(service: Site) -> None:
    with closing(service.connect()) as http:
        for _ in range(10):
            call(http, "POST", SESSIONS, {"title": "long " * 40})
    status, headers, body = get(service, f"{SESSIONS}?limit=10", Accept_Encoding="gzip")
    assert (status, headers["content-encoding"]) == (200, "gzip")
    assert len(json.loads(gzip.decompress(body))["sessions"]) == 10
    # The tag that nginx weakened still gets a 304.
    assert headers["etag"].startswith("W/")
    assert (
        get(service, f"{SESSIONS}?limit=10", Accept_Encoding="gzip", If_None_Match=headers["etag"])[0] == 304
    )


INSIDE = [
    "/metrics",
    "/metrics/",
    "//metrics",
    "/metrics//",
    "/%6detrics",
    "/x/../metrics",
    "/metrics?a=b",
    "/./metrics",
]


@pytest.mark.parametrize("path", [*INSIDE, *[path.replace("metrics", "health/detailed") for path in INSIDE]])
def test_internal_paths_are_for_this_host(service: Site, to_other_hosts: Site, path: str) -> None:
    assert get(service, path)[0] in (200, 404)
    assert problem(get(to_other_hosts, path, X_Forwarded_For="127.0.0.1"))[0] == 404


@pytest.fixture(scope="module")
def to_other_hosts(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site that takes this host for another."""
    from_other_hosts = {"allow 127.0.0.1;": "", **UNLIMITED}
    with behind_nginx(make_migrated_database(), tmp_path_factory.mktemp("other"), from_other_hosts) as site:
        yield site


def test_own_errors_are_problems(service: Site) -> None:
    with socket.create_connection(("127.0.0.1", service.port)) as connection:
        connection.sendall(
            b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n"
        )
        response = HTTPResponse(connection)
        response.begin()
        headers = {name.lower(): value for name, value in response.getheaders()}
        assert problem((response.status, headers, response.read())) == (413, "Content Too Large")
    assert problem(get(service, f"{SESSIONS}?q={'x' * 9000}")) == (414, "URI Too Long")
    assert problem(get(service, "/x.html", X_Long="x" * 9000)) == (431, "Request Header Fields Too Large")
    assert problem(get(service, "/.problem"))[0] == 404


def test_service_away(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    with behind_nginx(make_migrated_database(), tmp_path) as site:
        site.stop()
        site.listener.close()
        answer = get(site, SESSIONS)
        assert problem(answer) == (502, "Bad Gateway")
        assert answer[1]["retry-after"] == "1"
        site.listener = socket.socket(socket.AF_UNIX)
        (tmp_path / "http.sock").unlink()
        site.listener.bind(str(tmp_path / "http.sock"))
        site.listener.listen(64)
        site.start()
        site.wait_until_ready()


def test_rate_limit_is_a_429(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    with behind_nginx(
        make_migrated_database(), tmp_path, {"rate=50r/s": "rate=1r/m", "burst=200": "burst=2"}
    ) as site:
        answers = [get(site, "/health", Authorization="Bearer a") for _ in range(5)]
        assert [status for status, _, _ in answers] == [200, 200, 200, 429, 429]
        assert problem(answers[-1]) == (429, "Too Many Requests")
        assert answers[-1][1]["retry-after"] == "1"
        # The limit is each caller's own.
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
        answer = get(site, SESSIONS, **headers)
        assert problem(answer) == (401, "Unauthorized")
        assert answer[1]["www-authenticate"] == 'Basic realm="mai-sessions"'
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
    """A full zone forgets the oldest tokens; a token with more blanks is the same caller."""
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


def test_cookies_of_a_login_proxy_are_not_passed_on(service: Site) -> None:
    cookies = "; ".join(f"login_{number}={'x' * 4000}" for number in range(3))
    assert get(service, SESSIONS, Cookie=cookies)[0] == 200


def test_errors_of_nginx_carry_cors_headers(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    origin = "https://chat.example"
    listed = {'# "https://chat.example" $http_origin;': '"https://chat.example" $http_origin;', **UNLIMITED}
    with behind_nginx(make_migrated_database(), tmp_path, listed, MAI_SESSIONS_CORS_ORIGINS=origin) as site:
        for headers, expected in (({"Origin": origin}, origin), ({"Origin": "https://evil.example"}, None)):
            answer = get(site, SESSIONS, "POST", b"x" * (64 * 1024**2 + 1), **headers)
            assert problem(answer) == (413, "Content Too Large")
            assert answer[1].get("access-control-allow-origin") == expected
            assert answer[1]["vary"] == "Origin"


# --- The log ---


def test_nothing_that_users_write_is_logged(service: Site) -> None:
    json_type = {"Content-Type": "application/json", "Authorization": TOKEN}
    with closing(service.connect()) as http:

        def ask(method: str, path: str, body: Any = None, **headers: str) -> int:
            http.request(
                method, path, json.dumps(body) if body is not None else None, {**json_type, **headers}
            )
            response = http.getresponse()
            response.read()
            return response.status

        image = b64encode(b"\x89PNG\r\n\x1a\n" + CANARY.encode()).decode()
        message = {"role": "user", "content": CANARY, "images": [image], "documents": [CANARY]}
        session_id = "01a2044b-8f5b-75ef-b6c9-5def5b9b2ec1"
        path = f"{SESSIONS}/{session_id}"
        assert ask("POST", SESSIONS, {"id": session_id, "title": CANARY, "agent_name": CANARY}) == 201
        assert ask("POST", f"{path}/messages", message) == 201
        assert ask("PATCH", path, {"title": CANARY * 2}) == 200
        assert ask("GET", f"{SESSIONS}?search={CANARY}") == 200
        assert ask("GET", f"/api/v1/search?q={CANARY}") == 200
        assert ask("GET", f"/{CANARY}?token={CANARY}") == 404
        assert ask("POST", f"{path}/messages", {"role": CANARY, "content": [CANARY]}) == 422
        assert ask("POST", SESSIONS, {"title": CANARY + "\0"}) == 422
        assert ask("GET", SESSIONS, **{"If-None-Match": CANARY, "Idempotency-Key": CANARY}) == 200
        assert ask("GET", f"{SESSIONS}?q={CANARY * 1000}") == 414
    # Data that are not HTTP, directly to the service.
    for text in (
        f"GET /{CANARY} HTTP/9.9",
        f"GET / HTTP/1.1\r\nAuthorization {TOKEN}",
        f"GET / HTTP/1.1\r\nX: {TOKEN}\x01",
        CANARY,
    ):
        with closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.connect(str(service.directory / "http.sock"))
            connection.sendall(text.encode() + b"\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 4")
    logs = {path.name: path.read_text(errors="replace") for path in service.directory.glob("*.log")}
    assert len(logs) == 4
    assert '"message":"Invalid request: ' in logs["gunicorn.log"]
    # nginx logs the path that it was asked for, here the one that does not exist.
    logs["mai-sessions.log"] = logs["mai-sessions.log"].replace(f'"path":"/{CANARY}"', '"path":"/"')
    for name, log in logs.items():
        assert "Kanarien" not in log, name
    for line in logs["gunicorn.log"].splitlines():
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))
    for line in logs["mai-sessions.log"].splitlines():
        json.loads(line)


# --- Metrics ---


def test_metrics_are_of_all_workers(service: Site) -> None:
    def asked() -> int:
        text = get(service, "/metrics")[2].decode()
        labels = 'method="GET",route="/health/live",status="2xx"'
        line = f"mai_sessions_http_request_duration_seconds_count{{{labels}}} "
        return int(float(text.partition(line)[2].partition("\n")[0] or 0))

    before = asked()
    for _ in range(40):
        get(service, "/health/live")
    # The last request is counted after its response.
    wait_until(lambda: asked() == before + 40)
    # So does the one before this.
    wait_until(lambda: b"mai_sessions_http_requests_in_flight 1.0" in get(service, "/metrics")[2])
    # The first worker may respond before the last one has started.
    connections = Settings().threads * Settings().workers
    largest = f'mai_sessions_db_pool_connections_max{{database="primary"}} {connections}.0'
    wait_until(lambda: largest in get(service, "/metrics")[2].decode())
    text = get(service, "/metrics")[2].decode()
    assert 'mai_sessions_build_info{version="' in text
    assert "pid=" not in text


def test_dashboard_uses_existing_metrics(service: Site) -> None:
    with closing(service.connect()) as http:
        call(http, "POST", SESSIONS, {})
        call(http, "POST", SESSIONS, {"title": 1})
    exposed = {
        line.split("{")[0].split(" ")[0]
        for line in get(service, "/metrics")[2].decode().splitlines()
        if line[0] != "#"
    }
    dashboard = json.loads((TREE / "deploy" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert queries
    named = {name for query in queries for name in re.findall(r"\bmai_sessions_\w+", query)}
    assert named <= exposed
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in exposed}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in named} == families, (
        "each metric has its place"
    )


# --- No request lost ---


@pytest.fixture
def loaded(make_migrated_database: Callable[[], str], tmp_path: Path) -> Iterator[Site]:
    with behind_nginx(make_migrated_database(), tmp_path, UNLIMITED) as site:
        yield site


def under_load(site: Site, event: Callable[[], None]) -> Counter[int | str]:
    """Let 16 clients read and write over persistent connections during an event; count their responses."""
    answers: Counter[int | str] = Counter()
    stop = threading.Event()

    def client() -> None:
        mine: Counter[int | str] = Counter()
        with closing(site.connect()) as http:
            while not stop.is_set():
                try:
                    status, session = call(http, "POST", SESSIONS, {})
                    mine[status] += 1
                    for method, path, body in [
                        ("POST", f"{SESSIONS}/{session['id']}/messages", {"role": "user", "content": "x"}),
                        ("GET", f"{SESSIONS}/{session['id']}", None),
                        ("DELETE", f"{SESSIONS}/{session['id']}", None),
                    ]:
                        mine[call(http, method, path, body)[0]] += 1
                except (OSError, KeyError, TypeError, ValueError) as error:
                    mine[repr(error)] += 1
                    http.close()
        answers.update(mine)

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        event()
        time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return answers


def check_that_all_were_answered(answers: Counter[int | str]) -> None:
    assert set(answers) == {201, 200, 204}, answers
    assert answers[201] == 2 * answers[200] == 2 * answers[204]


def test_reload(loaded: Site) -> None:
    master = psutil.Process(loaded.process.pid)

    def reload() -> None:
        for _ in range(2):
            before = workers_of(master.pid)
            master.send_signal(signal.SIGHUP)
            wait_until(
                lambda before=before: (
                    len(workers_of(master.pid) - before) == len(workers_of(master.pid)) == Settings().workers
                )
            )

    check_that_all_were_answered(under_load(loaded, reload))


def test_restart_with_the_socket_held(loaded: Site) -> None:
    def restart() -> None:
        loaded.stop()
        loaded.start()
        loaded.wait_until_ready()

    check_that_all_were_answered(under_load(loaded, restart))


def test_rolling_restart(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    """Without systemd: USR2 starts a master with the new code beside the old one, and TERM ends that."""
    bind = {"MAI_SESSIONS_BIND": f"unix:{tmp_path}/http.sock"}
    with behind_nginx(make_migrated_database(), tmp_path, UNLIMITED, **bind) as site:
        old = psutil.Process(site.process.pid)
        wait_until(lambda: len(workers_of(old.pid)) == Settings().workers)
        workers = workers_of(old.pid)
        new: list[psutil.Process] = []

        def upgrade() -> None:
            old.send_signal(signal.SIGUSR2)
            wait_until(lambda: workers_of(old.pid) - workers)
            new.extend(workers_of(old.pid) - workers)
            wait_until(lambda: len(workers_of(new[0].pid)) == Settings().workers)
            site.stop()

        try:
            check_that_all_were_answered(under_load(site, upgrade))
        finally:
            for master in new:
                master.terminate()
                # Its parent was the old master, so this process cannot wait for it.
                wait_until(
                    lambda master=master: not master.is_running() or master.status() == psutil.STATUS_ZOMBIE
                )
            # For behind_nginx() to stop.
            site.start()
            site.wait_until_ready()


def test_workers_that_are_replaced(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    with behind_nginx(make_migrated_database(), tmp_path, UNLIMITED, MAI_SESSIONS_MAX_REQUESTS="50") as site:
        check_that_all_were_answered(under_load(site, lambda: time.sleep(1)))
        assert "another worker takes the place of this one" in site.log
        assert not [
            path for path in Path("/dev/shm").glob("mai-sessions-prometheus-*") if not os.listdir(path)
        ]
