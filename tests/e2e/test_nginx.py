"""The shipped nginx site with gunicorn and PostgreSQL: the tour, errors, logs and metrics."""

import gzip
import json
import re
import shutil
import socket
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from support.chats import SESSIONS
from support.nginx import SITE, UNLIMITED, Site, behind_nginx, configuration, get, problem
from support.service import TREE, call, wait_until

# The same tests, with the `service` of this module.
from test_store import test_service_holds_the_data_of_the_store as test_store  # noqa: F401 - a test
from test_tour import (  # noqa: F401 - tests
    test_chunked_body_is_read,
    test_no_path_is_redirected,
    test_odd_request_lines_are_refused,
    test_session_is_created_used_and_deleted_over_one_connection,
    test_tour_with_curl_gets_the_documented_responses,
)

from mai_sessions.config import Settings

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


CANARY = "Kanarienvogel"
TOKEN = "Bearer Kanarientoken"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def service(make_migrated_database: Callable[[], str], directory: Path) -> Iterator[Site]:
    """The service behind nginx, on free ports."""
    with behind_nginx(make_migrated_database(), directory, UNLIMITED) as site:
        yield site


# --- The site ---


def test_nginx_takes_the_shipped_file(tmp_path: Path) -> None:
    config = tmp_path / "nginx.conf"
    # Only the paths that belong to root are replaced.
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
    # Larger than the limit of the service, for cookies, which nginx does not pass on.
    assert int(re.search(r"large_client_header_buffers \d+ (\d+)k;", site)[1]) * 1024 > Settings().max_header  # type: ignore[index]
    read_timeout = int(re.search(r"proxy_read_timeout (\d+)s", site)[1])  # type: ignore[index]
    assert read_timeout > Settings().pool_timeout + Settings().statement_timeout


def test_every_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    kinds = {".service", ".socket", ".timer"}
    units = sorted(path.name for path in (TREE / "deploy").iterdir() if path.suffix in kinds)
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
            # The log is written after the response.
            log = service.directory / name
            wait_until(
                lambda log=log, line=f'"request_id":"{request_id}"': line in log.read_text(errors="replace")
            )


def test_response_names_no_internal_address(service: Site) -> None:
    status, headers, _ = get(
        service, SESSIONS, "POST", b'{"title":"x"}', Host="localhost:8080", Content_Type="application/json"
    )
    assert status == 201
    assert headers["location"].startswith(f"{SESSIONS}/")
    assert headers["server"] == "nginx"


def test_compressed_list_is_revalidated_by_its_weak_tag(service: Site) -> None:
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
    """A site that treats this host as another one."""
    from_other_hosts = {"allow 127.0.0.1;": "", **UNLIMITED}
    with behind_nginx(make_migrated_database(), tmp_path_factory.mktemp("other"), from_other_hosts) as site:
        yield site


def test_errors_of_nginx_are_problems(service: Site) -> None:
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


def test_nginx_responds_502_while_the_service_is_away(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    with behind_nginx(make_migrated_database(), tmp_path) as site:
        site.stop()
        site.listener.close()
        response = get(site, SESSIONS)
        assert problem(response) == (502, "Bad Gateway")
        assert response[1]["retry-after"] == "1"
        site.listener = socket.socket(socket.AF_UNIX)
        (tmp_path / "http.sock").unlink()
        site.listener.bind(str(tmp_path / "http.sock"))
        site.listener.listen(64)
        site.start()
        site.wait_until_ready()


def test_cookies_of_a_login_proxy_are_not_passed_on(service: Site) -> None:
    cookies = "; ".join(f"login_{number}={'x' * 4000}" for number in range(3))
    assert get(service, SESSIONS, Cookie=cookies)[0] == 200


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
    # Invalid HTTP, sent directly to the service.
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
    # nginx logs the path of a request, so also that of the unknown page.
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
    # The gauge, too, is set after a response.
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

    def exposed() -> set[str]:
        lines = get(service, "/metrics")[2].decode().splitlines()
        return {line.split("{")[0].split(" ")[0] for line in lines if line[0] != "#"}

    dashboard = json.loads((TREE / "deploy" / "grafana.json").read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert queries
    named = {name for query in queries for name in re.findall(r"\bmai_sessions_\w+", query)}
    # A request is counted after its response.
    wait_until(lambda: named <= exposed())
    families = {re.sub("_(bucket|count|sum)$", "", name) for name in exposed()}
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in named} == families, (
        "each metric has its place"
    )
