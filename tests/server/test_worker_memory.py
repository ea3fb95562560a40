"""The memory that a worker holds for its clients: a response that does not fit is refused, not cut off."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPResponse
from pathlib import Path

import psycopg
import pytest
from support.chats import SESSIONS
from support.raw_http import is_live
from support.service import Service, call, most_memory, running, wait_until, workers_of

CONTENT = 40_000_000
# Six responses fit; more only as far as the buffers of the sockets hold some of them.
READERS = 10
ONE = {"MAI_SESSIONS_WORKERS": "1", "MAI_SESSIONS_THREADS": "4"}


@pytest.fixture
def serve(make_migrated_database: Callable[[], str], tmp_path: Path) -> Iterator[Callable[[str], Service]]:
    """A function that starts a service of one worker, with a client timeout."""
    with ExitStack() as stack:
        yield lambda timeout: stack.enter_context(
            running(make_migrated_database(), tmp_path / "log", **ONE, MAI_SESSIONS_CLIENT_TIMEOUT=timeout)
        )


def add_session(service: Service) -> str:
    """Add a session with a message of CONTENT bytes, and return its path."""
    with closing(service.connect()) as http:
        session = call(http, "POST", SESSIONS, {"messages": [{"role": "user", "content": "x"}]})[1]
    with psycopg.connect(service.database_url) as conn:
        conn.execute(
            "UPDATE messages SET content = repeat('x', %s) WHERE session_id = %s", [CONTENT, session["id"]]
        )
    return f"{SESSIONS}/{session['id']}"


def request(service: Service, path: str) -> HTTPResponse:
    """Send a request, and return the response with its head read, but nothing of its body."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", service.port))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    response = HTTPResponse(connection)
    # The response has a file of its own over the socket.
    connection.close()
    response.begin()
    return response


def test_response_without_room_is_503_and_none_is_cut_off(
    serve: Callable[[str], Service], tmp_path: Path
) -> None:
    service = serve("60")
    path = add_session(service)
    with ExitStack() as stack:
        responses = [stack.enter_context(closing(request(service, path))) for _ in range(READERS)]
        refused = [response for response in responses if response.status != 200]
        assert {response.status for response in refused} == {503}
        assert READERS - len(refused) >= 6
        for response in refused:
            assert response.getheader("Retry-After")
            assert json.loads(response.read())["status"] == 503
        # A small response is sent.
        assert is_live(service)
        assert call(stack.enter_context(closing(service.connect())), "GET", SESSIONS)[0] == 200
        for response in responses:
            if response.status == 200:
                assert len(response.read()) > CONTENT
        # Their memory is free.
        response = stack.enter_context(closing(request(service, path)))
        assert response.status == 200
    wait_until(lambda: (tmp_path / "log").read_text().count('"status":503') == len(refused))


def test_slow_readers_make_room_for_a_new_one(serve: Callable[[str], Service]) -> None:
    service = serve("1")
    path = add_session(service)
    with ExitStack() as stack:
        for _ in range(READERS):
            stack.enter_context(closing(request(service, path)))

        def is_served() -> bool:
            with closing(service.connect()) as newcomer:
                newcomer.request("GET", path)
                response = newcomer.getresponse()
                return response.status == 200 and len(response.read()) > CONTENT

        wait_until(is_served)
    assert most_memory(workers_of(service.process.pid)) < 800 * 1024**2
