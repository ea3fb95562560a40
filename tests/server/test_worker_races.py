"""The main thread expires a client only if no thread has served it since it was found idle or late."""

import math
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from threading import Lock
from time import monotonic
from types import TracebackType

import pytest
from gunicorn.config import Config
from gunicorn.glogging import Logger

from mai_sessions.config import Settings
from mai_sessions.server.client_socket import Client, ClientSocket
from mai_sessions.server.worker import EVICTION_AGE, ClientWorker

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"


class ServedMeanwhile:
    """A lock that first lets another thread serve the client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = Lock()

    def __enter__(self) -> None:
        client = self._client
        client.since, client.queued_since, client.timed_out = monotonic(), math.inf, False
        client.sock.take_body(client.sock.buffered)
        client.sock.keep_alive(60)
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClientWorker]:
    """A worker without a process, with one client that has long been idle."""
    monkeypatch.setattr(ClientWorker, "settings", Settings(), raising=False)
    cfg = Config()
    worker = ClientWorker(0, 0, [], None, 30, cfg, Logger(cfg))
    with ExitStack() as stack:
        far_end, near_end = (stack.enter_context(closing(sock)) for sock in socket.socketpair())
        far_end.sendall(REQUEST)
        stack.callback(worker.tmp.close)
        client = Client(stack.enter_context(closing(ClientSocket(near_end, 1000, 10))), "", "")
        client.since = monotonic() - 2 * EVICTION_AGE
        worker._idle[client.sock.fileno()] = client
        yield worker


def overdue(client: Client) -> None:
    client.sock.deadline = monotonic() - 1


def late_with_a_response(client: Client) -> None:
    client.timed_out = True
    overdue(client)


def late_with_a_request(client: Client) -> None:
    client.sock.fill_buffer()
    overdue(client)


def waiting_too_long(client: Client) -> None:
    client.sock.fill_buffer()
    client.queued_since = monotonic() - 60


@pytest.mark.parametrize("become", [overdue, late_with_a_response, late_with_a_request, waiting_too_long])
def test_client_served_before_its_deadline_is_kept(
    worker: ClientWorker, become: Callable[[Client], None]
) -> None:
    [client] = worker._idle.values()
    become(client)
    worker._lock = ServedMeanwhile(client)  # type: ignore[assignment] - a lock, for what the worker does
    worker.expire(monotonic())
    assert list(worker._idle.values()) == [client]
    assert not client.timed_out
    assert client.sock.fileno() >= 0


def test_client_served_before_its_eviction_is_kept(worker: ClientWorker) -> None:
    [client] = worker._idle.values()
    seen = []

    class ServedAfterTheChoice(ServedMeanwhile):
        def __enter__(self) -> None:
            seen.append(1)
            if len(seen) == 2:
                super().__enter__()
            else:
                self._lock.acquire()

    worker._lock = ServedAfterTheChoice(client)  # type: ignore[assignment] - as above
    worker.evict_idle()
    assert len(seen) == 2
    assert list(worker._idle.values()) == [client]


def test_client_whose_time_is_over_is_dropped(worker: ClientWorker) -> None:
    [client] = worker._idle.values()
    overdue(client)
    worker.nr_conns = 1
    worker.expire(monotonic())
    assert not worker._idle
    assert worker.nr_conns == 0
    assert client.sock.fileno() == -1
