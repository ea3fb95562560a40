"""Hostile clients over raw sockets, and a normal client beside them."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from threading import Event, Thread

from support.chats import SESSIONS
from support.figures import FULL, Figures
from support.raw_http import connect
from support.service import Service, call

MAX_BODY = (64 if FULL else 4) * 1024 * 1024

# The begin of a request that creates a session; its framing and its body follow.
HEAD = f"POST {SESSIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()

# The outcome of a connection that ends without a response.
CLOSED = "closed"

# Called with the name of a fault; see the fixture `fault`.
Fault = Callable[..., AbstractContextManager[Figures]]


@contextmanager
def beside_another(service: Service, name: str) -> Iterator[Figures]:
    """Let another client append and read for the length of a `with`, and check that nothing of it is lost.

    The figures are those of this client, which may receive 503; `statuses` counts what the hostile clients
    receive.
    """
    figures, done = Figures(name, doubled=0), Event()
    lost = 0
    failures: list[object] = []
    deadline = time.monotonic() + 60
    http = service.connect()
    session = call(http, "POST", SESSIONS, {})[1]["id"]

    def append_and_read() -> None:
        nonlocal lost
        with closing(http):
            # A client that has waited gets a response before the end.
            while not done.is_set() or (figures.acknowledged == 0 and time.monotonic() < deadline):
                for method, path, body in (
                    ("POST", f"{SESSIONS}/{session}/messages", {"role": "user", "content": "x"}),
                    ("GET", f"{SESSIONS}/{session}?messages_limit=1", None),
                ):
                    started = time.monotonic()
                    try:
                        status, document = call(http, method, path, body)
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
                        lost += figures.acknowledged - document["message_count"]
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


def outcome(connection: socket.socket) -> str:
    """Return the status of the response, or CLOSED. A wait without either fails the test."""
    response = HTTPResponse(connection)
    with closing(response):
        try:
            response.begin()
        except (ConnectionError, HTTPException):
            return CLOSED
        return str(response.status)


def ask(service: Service, *pieces: bytes) -> str:
    """Send the pieces until the service stops reading, and return the outcome."""
    with closing(connect(service)) as connection:
        with suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        return outcome(connection)
