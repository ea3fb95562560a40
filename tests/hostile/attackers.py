"""Clients that mean no good, over raw sockets, and one that means well beside them."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from threading import Event, Thread
from typing import Any

from support.chats import SESSIONS
from support.figures import FULL, Figures
from support.service import Service, call

MAX_BODY = (64 if FULL else 4) * 1024 * 1024

# What becomes of a connection without a response.
CLOSED = "closed"

# Gives a fault's figures to a `with`, for the length of which others do not suffer; the second argument is the
# memory, in bytes, that a worker may need beside the bodies that it holds.
Suffer = Callable[..., Any]


@contextmanager
def beside_another(service: Service, fault: str) -> Iterator[Figures]:
    """Let one client append and read for the length of a `with`, and see that it does not suffer.

    The figures are of that one, which may be told 503; `statuses` are for what was answered to those who mean
    no good."""
    figures, done = Figures(fault, doubled=0), Event()
    lost = 0
    failures: list[object] = []
    deadline = time.monotonic() + 60
    http = service.connect()
    session = call(http, "POST", SESSIONS, {})[1]["id"]

    def append_and_read() -> None:
        nonlocal lost
        with closing(http):
            # It may have waited for all of the time, and is not left at that.
            while not done.is_set() or (figures.acknowledged == 0 and time.monotonic() < deadline):
                for method, path, body in (
                    ("POST", f"{SESSIONS}/{session}/messages", {"role": "user", "content": "x"}),
                    ("GET", f"{SESSIONS}/{session}?messages_limit=1", None),
                ):
                    started = time.monotonic()
                    try:
                        status, answer = call(http, method, path, body)
                    except (OSError, HTTPException) as error:
                        failures.append(error)
                        return
                    figures.sent += 1
                    figures.longest = max(figures.longest, time.monotonic() - started)
                    if status == 503:
                        figures.retried += 1
                    elif status not in (200, 201):
                        failures.append(status)
                    elif method == "POST":
                        figures.acknowledged += 1
                    else:
                        lost += figures.acknowledged - answer["message_count"]
                done.wait(0.005)

    other = Thread(target=append_and_read)
    other.start()
    try:
        yield figures
    finally:
        done.set()
        other.join()
        figures.lost = lost
    assert failures == [], failures
    assert figures.lost == 0
    assert figures.acknowledged > 0


def connect(service: Service) -> socket.socket:
    """A connection on which no wait is without end."""
    return socket.create_connection(("127.0.0.1", service.port), timeout=60)


def outcome(connection: socket.socket) -> str:
    """The status of the answer; `closed` when there is none. A client's wait without either fails the test."""
    response = HTTPResponse(connection)
    with closing(response):
        try:
            response.begin()
        except (ConnectionError, HTTPException):
            return CLOSED
        return str(response.status)


def ask(service: Service, *pieces: bytes) -> str:
    """Send what there is, as far as the service takes it, and give the outcome."""
    with closing(connect(service)) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        return outcome(connection)
