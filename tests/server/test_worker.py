"""The worker: slow clients occupy no thread, and what is not HTTP is refused with a problem."""

import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, closing, suppress
from http.client import HTTPResponse, IncompleteRead
from pathlib import Path

import pytest
from support.service import Service, call, free_port, most_memory, running, wait_until, workers_of

from mai_sessions.web import problems
from mai_sessions.web.security_headers import HEADERS

POST = b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker") / "log"


@pytest.fixture(scope="module")
def service(make_migrated_database: Callable[[], str], log: Path) -> Iterator[Service]:
    """A service of one thread, which waits a second for its clients."""
    one = {"MAI_SESSIONS_WORKERS": "1", "MAI_SESSIONS_THREADS": "1", "MAI_SESSIONS_CLIENT_TIMEOUT": "1"}
    with running(make_migrated_database(), log, **one) as service:
        yield service


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=60)


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    with closing(HTTPResponse(connection)) as response:
        response.begin()
        return response.status, dict(response.getheaders()), response.read()


def is_live(service: Service) -> bool:
    with closing(service.connect()) as http:
        return call(http, "GET", "/health/live")[0] == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nExpect: the unexpected\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 30_000, 431),
        (POST + b"Transfer-Encoding: unheard-of\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\nno number\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabcde, and more than 5\r\n", 400),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nno trailer\r\n\r\n", 400),
        (POST + b"Content-Length: 10\r\n", 408),
        (POST + b"Content-Length: 10\r\n\r\n{", 408),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", 408),
    ],
)
def test_invalid_http_is_refused_with_a_problem(
    service: Service, log: Path, request_: bytes, status: int
) -> None:
    with closing(connect(service)) as connection:
        connection.sendall(request_)
        got, headers, body = read_response(connection)
        # The start of the next request is unknown.
        assert connection.recv(1) == b""
    problem = json.loads(body)
    assert got == problem["status"] == status
    assert problem["title"] == problems.PROBLEM_TYPES[status].title
    assert headers["Content-Type"] == "application/problem+json"
    assert headers["X-Request-ID"] == problem["request_id"]
    assert problem["request_id"] in log.read_text()
    assert dict(HEADERS).items() <= headers.items()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"GET / HTTP/1.1\r\n",
        POST + b"Content-Length: 10\r\n\r\n{",
        POST + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{",
        GET + b"GET",
        POST + b"Content-Length: 0\r\n",
    ],
    ids=["nothing", "head", "body", "chunk", "second request", "head of a request without a body"],
)
def test_slow_sender_does_not_block_others(service: Service, sent: bytes) -> None:
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(closing(connect(service))).sendall(sent)
        assert is_live(service)


def test_slow_reader_does_not_block_others(service: Service) -> None:
    with closing(connect(service)) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        assert is_live(service)


def test_client_that_does_not_close_does_not_block_others(service: Service) -> None:
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(service))) for _ in range(20)]
        for connection in connections:
            connection.sendall(b"nonsense\r\n\r\n")
        assert is_live(service)
        # A client that keeps sending receives its response too.
        for connection in connections:
            connection.sendall(b"more of it")
            assert read_response(connection)[0] == 400


def test_client_above_the_lowest_rate_has_time(service: Service) -> None:
    """Each 16 KiB bring another second."""
    body = b'{"title":"' + b" " * 200_000 + b'"}'
    with closing(connect(service)) as connection:
        connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % (len(body) + 2))
        connection.sendall(body)
        for _ in range(2):
            # Each wait is shorter than a second, both together are not.
            time.sleep(0.7)
            connection.sendall(b" ")
        assert read_response(connection)[0] == 422


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 2\r\n\r\n{}", b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
)
def test_request_sent_byte_by_byte_is_served(service: Service, framing: bytes) -> None:
    with closing(connect(service)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(2):
            for byte in POST + b"Content-Type: application/json\r\n" + framing:
                connection.sendall(bytes([byte]))
            assert read_response(connection)[0] == 201


def test_expected_continue_is_sent(service: Service) -> None:
    with closing(connect(service)) as connection:
        connection.sendall(
            POST + b"Content-Type: application/json\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
        )
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"{}")
        assert read_response(connection)[0] == 201


@pytest.mark.parametrize("pause", [0, 0.1])
def test_pipelined_requests_are_served_in_order(service: Service, pause: float) -> None:
    with closing(connect(service)) as connection:
        connection.sendall(GET * 5 + GET[:10])
        time.sleep(pause)
        connection.sendall(GET[10:])
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while more := connection.recv(65536):
            received += more
        assert received.count(b"HTTP/1.1 200 OK") == 6


def test_longest_idle_connection_makes_room(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    few = {
        "MAI_SESSIONS_WORKERS": "1",
        "MAI_SESSIONS_THREADS": "1",
        "GUNICORN_CMD_ARGS": "--worker-connections=5",
    }
    with running(make_migrated_database(), tmp_path / "log", **few) as service, ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(service))) for _ in range(10)]
        for connection in connections:
            connection.sendall(GET)
            assert read_response(connection)[0] == 200
        assert connections[0].recv(1) == b""
        connections[-1].sendall(GET)
        assert read_response(connections[-1])[0] == 200


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("begun", [b"", b"8\r\n{}"])
def test_incomplete_body_is_refused(service: Service, framing: bytes, begun: bytes) -> None:
    with closing(connect(service)) as connection:
        connection.sendall(POST + framing + b"\r\n\r\n" + begun)
        connection.shutdown(socket.SHUT_WR)
        status, _, body = read_response(connection)
        assert (status, json.loads(body)["detail"]) == (400, "The body is incomplete")


def test_stops_while_clients_are_connected(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    with ExitStack() as stack:
        with running(
            make_migrated_database(), tmp_path / "log", MAI_SESSIONS_CLIENT_TIMEOUT="3600"
        ) as service:
            stack.enter_context(closing(connect(service)))
        assert service.process.returncode == 0
    assert "code" not in (tmp_path / "log").read_text()


def test_serves_without_epoll(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import select\ndel select.epoll\n")
    with running(make_migrated_database(), tmp_path / "log", PYTHONPATH=str(tmp_path)) as service:
        assert is_live(service)
        assert (tmp_path / "log").read_text().count("Using worker: GthreadWorker") == 1


# Around the service's application, whose responses are of one piece.
RESPONSES = """
import threading

from mai_sessions import create_app

app = create_app()
service = app.wsgi_app
released = threading.Event()


def one_two():
    yield b"one, "
    yield b"two"


def waits():
    yield b"one,"
    released.wait(600)
    yield b" two"


def release():
    released.set()
    yield b'"released"'


def endless():
    while True:
        yield bytes(65536)


def breaks():
    yield b"one, "
    raise ValueError


RESPONSES = {
    "/split": ([("X-Note", "a\\r\\nX-Other: b")], one_two),
    "/pieces": ([], one_two),
    "/waits": ([], waits),
    "/release": ([], release),
    "/endless": ([], endless),
    "/breaks": ([], breaks),
    "/short": ([("Content-Length", "9")], one_two),
    "/long": ([("Content-Length", "3")], one_two),
}


def wsgi_app(environ, start_response):
    if environ["PATH_INFO"] not in RESPONSES:
        return service(environ, start_response)
    headers, pieces = RESPONSES[environ["PATH_INFO"]]
    start_response("200 OK", headers)
    return pieces()


app.wsgi_app = wsgi_app
"""


@pytest.fixture(scope="module")
def other(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service of one process whose application responds in other ways, too."""
    directory = tmp_path_factory.mktemp("other")
    (directory / "responses.py").write_text(RESPONSES)
    with running(
        make_migrated_database(),
        directory / "log",
        MAI_SESSIONS_WORKERS="1",
        application="responses:app",
        GUNICORN_CMD_ARGS=f"--chdir={directory}",
    ) as service:
        yield service


def test_response_in_pieces_is_sent_whole(other: Service) -> None:
    with closing(other.connect()) as http:
        for method, body in [("GET", b"one, two"), ("HEAD", b""), ("GET", b"one, two")]:
            http.request(method, "/pieces")
            response = http.getresponse()
            assert (response.status, response.read()) == (200, body)


def test_piece_is_sent_before_the_next_is_made(other: Service) -> None:
    with closing(other.connect()) as http, closing(other.connect()) as releasing:
        http.request("GET", "/waits")
        response = http.getresponse()
        assert response.read(4) == b"one,"
        assert call(releasing, "GET", "/release") == (200, "released")
        assert response.read() == b" two"


def test_slow_reader_of_a_long_response_costs_one_piece_of_memory(other: Service) -> None:
    before = most_memory(workers_of(other.process.pid))
    with ExitStack() as stack:
        for _ in range(4):
            connection = stack.enter_context(closing(connect(other)))
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert connection.recv(1)
        assert is_live(other)
        with closing(connect(other)) as reader:
            reader.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = 0
            while received < 100 * 1024**2:
                received += len(reader.recv(1024**2))
    assert most_memory(workers_of(other.process.pid)) - before < 32 * 1024**2


@pytest.mark.parametrize("path", ["/breaks", "/short"])
def test_incomplete_response_is_visible_to_the_client(other: Service, path: str) -> None:
    with closing(other.connect()) as http:
        http.request("GET", path)
        response = http.getresponse()
        with pytest.raises(IncompleteRead):
            response.read()
    assert is_live(other)


def test_body_beyond_the_content_length_is_not_sent(other: Service) -> None:
    with closing(other.connect()) as http:
        for _ in range(2):
            http.request("GET", "/long")
            assert http.getresponse().read() == b"one"


ORIGIN = "https://chat.example"


@pytest.fixture(scope="module")
def busy(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """A service whose only thread is busy until the fixture ends."""
    directory = tmp_path_factory.mktemp("busy")
    (directory / "responses.py").write_text(RESPONSES)
    with (
        running(
            make_migrated_database(),
            directory / "log",
            MAI_SESSIONS_WORKERS="1",
            MAI_SESSIONS_THREADS="1",
            MAI_SESSIONS_POOL_TIMEOUT="0.5",
            MAI_SESSIONS_CORS_ORIGINS=ORIGIN,
            application="responses:app",
            GUNICORN_CMD_ARGS=f"--chdir={directory}",
        ) as service,
        closing(connect(service)) as connection,
    ):
        connection.sendall(b"GET /waits HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert b"one," in connection.recv(65536)
        yield service
        # The thread waits no longer than the worker's graceful timeout.
        for worker in workers_of(service.process.pid):
            worker.kill()


@pytest.mark.parametrize(
    "request_",
    [
        GET.replace(b"\r\n\r\n", b"\r\nOrigin: %b\r\n\r\n" % ORIGIN.encode()),
        POST + b"Origin: %b\r\nContent-Length: 1000000\r\n\r\n" % ORIGIN.encode() + b" " * 1_000_000,
        POST + b"Origin: %b\r\nContent-Length: 1000000\r\n\r\n" % ORIGIN.encode() + b" " * 100_000,
    ],
    ids=["short", "long", "incomplete"],
)
def test_request_that_waits_too_long_for_a_thread_is_503(busy: Service, request_: bytes) -> None:
    with closing(connect(busy)) as connection:
        connection.sendall(request_)
        status, headers, body = read_response(connection)
        assert status == json.loads(body)["status"] == 503
        assert headers["Retry-After"] == "1"
        assert headers["Connection"] == "close"
        assert headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "Retry-After" in headers["Access-Control-Expose-Headers"]
        assert headers["Vary"] == "Origin"


@pytest.mark.parametrize(
    ("origin", "allowed"), [(ORIGIN, ORIGIN), ("https://other.example", None), ("", None)]
)
def test_problem_of_the_worker_is_for_the_listed_origins(
    busy: Service, origin: str, allowed: str | None
) -> None:
    with closing(connect(busy)) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nOrigin: {origin}\r\nno colon\r\n\r\n".encode())
        status, headers, _ = read_response(connection)
        assert (status, headers.get("Access-Control-Allow-Origin")) == (503, allowed)
        assert headers["Vary"] == "Origin"


def test_header_with_a_line_break_is_not_sent(other: Service) -> None:
    with closing(connect(other)) as connection:
        connection.sendall(b"GET /split HTTP/1.1\r\nHost: localhost\r\n\r\n")
        status, headers, body = read_response(connection)
        assert connection.recv(1) == b""
    assert status == json.loads(body)["status"] == 500
    assert "X-Other" not in headers


def test_http_1_0_connection_ends_after_the_response(other: Service) -> None:
    with closing(connect(other)) as connection:
        connection.sendall(b"GET /pieces HTTP/1.0\r\n\r\n")
        received = b""
        while more := connection.recv(65536):
            received += more
    assert received.startswith(b"HTTP/1.0 200 OK\r\n")
    assert received.endswith(b"\r\n\r\none, two")


def test_socket_does_not_replace_another_file(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    path, log = tmp_path / "file", tmp_path / "log"
    path.write_text("precious")
    with (
        pytest.raises(AssertionError),
        running(make_migrated_database(), log, MAI_SESSIONS_BIND=f"unix:{path}"),
    ):
        pass
    assert log.read_text().startswith(f"Error: MAI_SESSIONS_BIND: {path} exists and is not a socket: ")
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ("--access-logfile=-", "access log"),
        ("--http2-cleartext=both", "setting http2_cleartext"),
        ("--proxy-protocol=auto", "setting proxy_protocol"),
        ("--certfile=/etc/hostname --keyfile=/etc/hostname", "setting certfile"),
    ],
)
def test_setting_of_gthread_stops_the_start(
    make_migrated_database: Callable[[], str], tmp_path: Path, arguments: str, setting: str
) -> None:
    log = tmp_path / "log"
    with (
        pytest.raises(AssertionError),
        running(make_migrated_database(), log, GUNICORN_CMD_ARGS=arguments),
    ):
        pass
    assert f"Error: gunicorn's {setting} needs MAI_SESSIONS_WORKER=gthread" in log.read_text().splitlines()


@pytest.fixture(scope="module")
def gthread(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Path]]:
    """A service with gunicorn's own worker and its access log."""
    directory = tmp_path_factory.mktemp("gthread")
    arguments = f"--access-logfile={directory / 'access'}"
    with running(
        make_migrated_database(),
        directory / "log",
        MAI_SESSIONS_WORKER="gthread",
        GUNICORN_CMD_ARGS=arguments,
    ) as service:
        yield service, directory


def test_gthread_writes_an_access_log(gthread: tuple[Service, Path]) -> None:
    service, directory = gthread
    assert is_live(service)
    assert "Using worker: GthreadWorker" in (directory / "log").read_text()
    # The line is written when the response is out.
    wait_until(lambda: '"GET /health/live HTTP/1.1" 200' in (directory / "access").read_text())


def test_gthread_ends_the_connection_after_a_response(gthread: tuple[Service, Path]) -> None:
    service, _ = gthread
    with closing(connect(service)) as connection:
        connection.sendall(
            POST + b"Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        )
        status, headers, _ = read_response(connection)
        assert (status, headers["Connection"]) == (415, "close")


def test_gthread_decodes_chunked_alone(gthread: tuple[Service, Path]) -> None:
    service, _ = gthread
    with closing(connect(service)) as connection:
        connection.sendall(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        assert b" 501 " in connection.recv(65536)


# A path that looks like a trusted address, another one, one that is not UTF-8, and no path.
@pytest.mark.parametrize("bound", [b"10.0.0.1", b"unix", b"\0\xff\xfe", b""])
@pytest.mark.parametrize("worker", ["epoll", "gthread"])
def test_unix_peer_has_no_address(unix_services: dict[str, Path], worker: str, bound: bytes) -> None:
    path = unix_services[worker]
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        if bound and not bound.startswith(b"\0"):
            (path.parent / bound.decode()).unlink(missing_ok=True)
        with chdir(path.parent):
            if bound:
                connection.bind(bound)
        connection.connect(str(path))
        connection.sendall(
            b"GET /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-User: ann\r\n\r\n"
        )
        assert b" 401 " in connection.recv(65536)


@pytest.fixture(scope="module")
def unix_services(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """The sockets of services that trust a proxy at an address, and not at a Unix socket, by worker."""
    with ExitStack() as stack:
        paths = {}
        for worker in ("epoll", "gthread"):
            directory = tmp_path_factory.mktemp(worker)
            paths[worker] = directory / "http.sock"
            port = free_port()
            stack.enter_context(
                running(
                    make_migrated_database(),
                    directory / "log",
                    MAI_SESSIONS_WORKER=worker,
                    MAI_SESSIONS_AUTH="proxy",
                    MAI_SESSIONS_TRUSTED_PROXIES="10.0.0.0/8",
                    port=port,
                    GUNICORN_CMD_ARGS=f"--bind=unix:{paths[worker]} --bind=127.0.0.1:{port}",
                )
            )
        yield paths


def test_clients_that_hold_too_much_memory_are_refused(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    """Six bodies of 60 MiB that lack their last byte: four fit, and some of the others are refused."""
    one = {"MAI_SESSIONS_WORKERS": "1", "MAI_SESSIONS_CLIENT_TIMEOUT": "60"}
    length = 60 * 1024**2
    with running(make_migrated_database(), tmp_path / "log", **one) as service, ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(service))) for _ in range(6)]
        for connection in connections:
            connection.sendall(POST + b"Content-Length: %d\r\n\r\n" % length)
            # A refused client may be cut off while it sends.
            with suppress(ConnectionError):
                connection.sendall(bytes(length - 1))
        assert is_live(service)
        ready, _, _ = select.select(connections, [], [], 60)
        assert [read_response(connection)[0] for connection in ready] == [503] * len(ready)
        assert 1 <= len(ready) <= 3
        assert most_memory(workers_of(service.process.pid)) < 600 * 1024**2


def test_replaced_workers_leave_counts_but_no_files(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    def files() -> list[Path]:
        [worker] = workers_of(service.process.pid)
        opened = [Path(file.path) for file in worker.open_files() if "prometheus" in file.path]
        return [path for path in opened[0].parent.iterdir() if path.suffix == ".db"] if opened else []

    few = {"MAI_SESSIONS_WORKERS": "1", "MAI_SESSIONS_MAX_REQUESTS": "10"}
    asked = 60
    with running(make_migrated_database(), tmp_path / "log", **few) as service:
        for _ in range(asked):
            assert is_live(service)
        wait_until(lambda: len(workers_of(service.process.pid)) == 1)
        wait_until(files)
        kinds = {path.name.rpartition("_")[0] for path in files()}
        # Of the worker, its master and those that have ended.
        wait_until(lambda: len(files()) <= 3 * len(kinds))
        with closing(service.connect()) as http:
            http.request("GET", "/metrics")
            metrics = http.getresponse().read().decode()
    assert (tmp_path / "log").read_text().count("another worker takes the place of this one") >= 4
    name = "mai_sessions_http_request_duration_seconds_count"
    assert f'{name}{{method="GET",route="/health/live",status="2xx"}} {asked}.0' in metrics
