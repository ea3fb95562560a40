"""The worker: slow clients occupy no thread, and invalid HTTP is refused with a problem."""

import json
import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from support.raw_http import GET, POST, connect, is_live, read_response
from support.service import Service, most_memory, running, workers_of

from mai_sessions.web import problems
from mai_sessions.web.security_headers import HEADERS


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker") / "log"


@pytest.fixture(scope="module")
def service(make_migrated_database: Callable[[], str], log: Path) -> Iterator[Service]:
    """A service with one thread and a client timeout of a second."""
    one = {"MAI_SESSIONS_WORKERS": "1", "MAI_SESSIONS_THREADS": "1", "MAI_SESSIONS_CLIENT_TIMEOUT": "1"}
    with running(make_migrated_database(), log, **one) as service:
        yield service


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
    """Each 16 KiB extend the timeout by a second."""
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


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("begun", [b"", b"8\r\n{}"])
def test_incomplete_body_is_refused(service: Service, framing: bytes, begun: bytes) -> None:
    with closing(connect(service)) as connection:
        connection.sendall(POST + framing + b"\r\n\r\n" + begun)
        connection.shutdown(socket.SHUT_WR)
        status, _, body = read_response(connection)
        assert (status, json.loads(body)["detail"]) == (400, "The body is incomplete")


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
