"""The worker: sending responses, and its own error responses."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import IncompleteRead

import pytest
from support.raw_http import GET, POST, connect, is_live, read_response
from support.service import Service, call, most_memory, running, workers_of

# Wraps the application of the service, whose responses have one piece.
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
    """A service of one process with the routes of RESPONSES."""
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
