"""A request that is refused without reading its body does not cost another user's request on the same
connection.
"""

import shutil
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from http.client import HTTPResponse
from typing import Any

import jwt
import pytest
from support.chats import SESSIONS
from support.figures import FULL, Figures
from support.nginx import UNLIMITED, behind_nginx
from support.service import free_port

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

SECRET = "a secret of more than thirty-two bytes"
LARGEST = 70_000_000
OTHERS = 5

TYPED = "Content-Type: application/json\r\n"
# By status: the method, path and headers of a request that is refused with it.
REFUSED = {
    401: ("POST", SESSIONS, TYPED),
    404: ("POST", "/api/v1/nothing", TYPED),
    405: ("PUT", SESSIONS, TYPED),
    406: ("POST", SESSIONS, TYPED + "Accept: text/html\r\n"),
    415: ("POST", SESSIONS, "Content-Type: text/plain\r\n"),
}


def token(user: str) -> str:
    return jwt.encode({"sub": user, "exp": int(time.time()) + 3600}, SECRET, "HS256")


@dataclass
class Front:
    """A way to reach the service, directly or through nginx."""

    name: str
    address: Any

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX if isinstance(self.address, str) else socket.AF_INET)
        connection.settimeout(60)
        connection.connect(self.address)
        return connection


@pytest.fixture(scope="module", params=["unix", "tcp"])
def fronts(
    request: pytest.FixtureRequest,
    make_migrated_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[list[Front]]:
    """One service, asked directly and through nginx, which reaches it over a Unix socket or over TCP."""
    directory = tmp_path_factory.mktemp(request.param)
    # nginx itself would refuse a body of more than the service takes.
    replaced = {**UNLIMITED, "client_max_body_size 64m;": "client_max_body_size 100m;"}
    environ = {"MAI_SESSIONS_AUTH": "jwt", "MAI_SESSIONS_JWT_SECRET": SECRET}
    address: Any = str(directory / "http.sock")
    if request.param == "tcp":
        address = ("127.0.0.1", free_port())
        environ["MAI_SESSIONS_BIND"] = f"127.0.0.1:{address[1]}"
        replaced[f"server unix:{directory}/http.sock"] = f"server {environ['MAI_SESSIONS_BIND']}"
    with behind_nginx(make_migrated_database(), directory, replaced, **environ) as site:
        yield [
            Front(f"directly over {request.param}", address),
            Front(f"through nginx over {request.param}", ("127.0.0.1", site.port)),
        ]


def respond(connection: socket.socket) -> tuple[int, str]:
    with closing(HTTPResponse(connection)) as response:
        response.begin()
        response.read()
        return response.status, response.headers["Connection"]


def create_session(connection: socket.socket, user: str) -> int:
    connection.sendall(
        f"POST {SESSIONS} HTTP/1.1\r\nHost: localhost\r\n{TYPED}Authorization: Bearer {token(user)}\r\n"
        "Content-Length: 2\r\n\r\n{}".encode()
    )
    return respond(connection)[0]


def send(connection: socket.socket, status: int, size: int, chunked: bool) -> None:
    """Send a request that is refused, as far as the service takes it."""
    method, path, headers = REFUSED[status]
    if status != 401:
        headers += f"Authorization: Bearer {token('alice')}\r\n"
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}{framing}\r\n\r\n".encode()
    with suppress(ConnectionError):
        connection.sendall(head)
        for start in range(0, size, 65536):
            piece = b" " * min(65536, size - start)
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.sendall(b"0\r\n\r\n")


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
@pytest.mark.parametrize(
    ("status", "size"),
    [
        *((status, size) for status in REFUSED for size in (60_000, 70_000, 1_000_000)),
        *((status, LARGEST) for status in (REFUSED if FULL else [401])),
    ],
)
def test_refused_body_costs_no_other_request(
    fronts: list[Front],
    status: int,
    size: int,
    chunked: bool,
    record_property: Callable[[str, Any], None],
) -> None:
    for front in fronts:
        framing = "chunked" if chunked else "of a known length"
        figures = Figures(f"{size:,} bytes {framing} refused with {status}, {front.name}", doubled=0, lost=0)
        with ExitStack() as stack:
            refused = stack.enter_context(closing(front.connect()))
            send(refused, status, size, chunked)
            got, keep_alive = respond(refused)
            assert got == status
            # The promise of the response is kept.
            if keep_alive == "keep-alive":
                assert create_session(refused, "alice") == 201
            statuses: Counter[str] = Counter()
            for _ in range(OTHERS):
                other = stack.enter_context(closing(front.connect()))
                started = time.monotonic()
                statuses[str(create_session(other, "bob"))] += 1
                figures.longest = max(figures.longest, time.monotonic() - started)
        figures.sent, figures.acknowledged = OTHERS, statuses["201"]
        assert statuses == {"201": OTHERS}, front.name
        if size == LARGEST:
            figures.statuses[str(status)] += 1
            record_property("figures", {**asdict(figures), "statuses": dict(figures.statuses)})
