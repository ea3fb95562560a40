"""Clients with many or slow requests: the requests of others are served in turn, without nginx too."""

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import psutil
import pytest
from attackers import HEAD, MAX_BODY, Fault, outcome
from support.chats import SESSIONS
from support.raw_http import connect
from support.service import Service, call, running, workers_of

SEARCH = b"GET /api/v1/search?q=lighthouse HTTP/1.1\r\nHost: localhost\r\n\r\n"
RESPONSE = b"HTTP/1.1 200 OK"
IDLE = 60
ONE_THREAD = {"MAI_SESSIONS_WORKERS": "1", "MAI_SESSIONS_THREADS": "1"}


def received(connection: socket.socket) -> bytes:
    """What has arrived so far."""
    connection.setblocking(False)
    data = b""
    try:
        while piece := connection.recv(65536):
            data += piece
    except BlockingIOError:
        pass
    return data


def test_pipelined_requests_do_not_block_others(service: Service, fault: Fault) -> None:
    """Eight connections send 60 kB of searches at once, each."""
    requests = 60_000 // len(SEARCH)
    with ExitStack() as stack, fault("8 connections that pipeline 60 kB of searches") as figures:
        connections = [stack.enter_context(closing(connect(service))) for _ in range(8)]
        for connection in connections:
            connection.sendall(SEARCH * requests)
        time.sleep(2)
        for connection in connections:
            figures.statuses["200"] += received(connection).count(RESPONSE)
    assert figures.statuses["200"] > 0


def test_request_waits_behind_others_after_each(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    requests = 60_000 // len(SEARCH)
    with (
        running(make_migrated_database(), tmp_path / "log", **ONE_THREAD) as service,
        closing(connect(service)) as greedy,
        closing(service.connect()) as other,
    ):
        greedy.sendall(SEARCH * requests)
        assert greedy.recv(1)
        for _ in range(5):
            assert call(other, "GET", "/health/live")[0] == 200
        assert received(greedy).count(RESPONSE) < requests / 2


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_slow_bodies_do_not_block_others(service: Service, fault: Fault, chunked: bool) -> None:
    """More clients than threads send a body of the maximum size at 20 kB/s."""
    framing = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % MAX_BODY
    if not chunked:
        framing = b"Content-Length: %d\r\n\r\n" % MAX_BODY
    with ExitStack() as stack, fault(f"16 bodies at 20 kB/s{', chunked' * chunked}") as figures:
        connections = [stack.enter_context(closing(connect(service))) for _ in range(16)]
        for connection in connections:
            connection.sendall(HEAD + framing + b" " * 100_000)
        for _ in range(15):
            time.sleep(0.2)
            for connection in connections:
                connection.sendall(b" " * 4_000)
        # None has ended, nor has any been refused.
        assert not any(received(connection) for connection in connections)
        figures.statuses["waiting"] = len(connections)


def test_slow_readers_do_not_block_others(service: Service, fault: Fault) -> None:
    """More clients than threads read a response of megabytes at 20 kB/s."""
    with closing(service.connect()) as http:
        session = call(http, "POST", SESSIONS, {})[1]["id"]
        for _ in range(4):
            message = {"role": "user", "content": "x" * 1_000_000}
            assert call(http, "POST", f"{SESSIONS}/{session}/messages", message)[0] == 201
    # Four threads make a response of 4 MB at once.
    with ExitStack() as stack, fault("16 clients that read at 20 kB/s", 160 * 1024**2) as figures:
        for _ in range(16):
            connection = socket.socket()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(60)
            connection.connect(("127.0.0.1", service.port))
            stack.enter_context(closing(connection)).sendall(
                f"GET {SESSIONS}/{session} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
            )
        time.sleep(3)
        figures.statuses["waiting"] = 16


def test_more_clients_than_open_files_block_no_other(service: Service, fault: Fault) -> None:
    """EMFILE pauses accepting, and makes room."""
    workers = workers_of(service.process.pid)
    limits = {worker: worker.rlimit(psutil.RLIMIT_NOFILE) for worker in workers}
    with ExitStack() as stack, fault(f"{IDLE} idle connections, with files for 10") as figures:
        for worker in workers:
            worker.rlimit(psutil.RLIMIT_NOFILE, (worker.num_fds() + 10, limits[worker][1]))
            stack.callback(worker.rlimit, psutil.RLIMIT_NOFILE, limits[worker])
        for _ in range(IDLE):
            stack.enter_context(closing(connect(service)))
        time.sleep(2)
        figures.statuses["idle"] = IDLE


@pytest.mark.parametrize(
    "sent", [b"", b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"], ids=["silent", "kept"]
)
def test_idle_clients_make_room_for_a_new_one(
    make_migrated_database: Callable[[], str], tmp_path: Path, sent: bytes
) -> None:
    few = {**ONE_THREAD, "GUNICORN_CMD_ARGS": "--worker-connections=10"}
    with running(make_migrated_database(), tmp_path / "log", **few) as service, ExitStack() as stack:
        for _ in range(IDLE):
            connection = stack.enter_context(closing(connect(service)))
            connection.sendall(sent)
        with closing(connect(service)) as newcomer:
            newcomer.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert outcome(newcomer) == "200"


def test_too_few_open_files_are_reported_at_start(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    with running(make_migrated_database(), tmp_path / "log", open_files=300) as service:
        for worker in workers_of(service.process.pid):
            assert worker.rlimit(psutil.RLIMIT_NOFILE) == (300, 300)
        with closing(service.connect()) as http:
            assert call(http, "GET", "/health/live")[0] == 200
    assert "ulimit -n is 300: each worker keeps only" in (tmp_path / "log").read_text()
