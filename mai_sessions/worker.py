"""gunicorn's threaded worker, whose threads no client can keep, and which says with a problem what is no HTTP.

A client that sends nothing, or has been answered, holds no thread; one that sends or takes slowly holds one for a limited time.
Only a front that takes the whole request first, as nginx does, keeps many slow clients from holding all threads for that time.
"""

import errno
import socket
import struct
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from http import HTTPStatus
from selectors import EVENT_READ
from ssl import SSLError
from time import monotonic
from typing import Any

# The types are those of the release before, which did not have the first two.
from gunicorn.http.errors import (  # type: ignore[attr-defined]
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.exceptions import RequestTimeout

from mai_sessions import problems
from mai_sessions.headers import HEADERS
from mai_sessions.request_record import request_id, waited

# Bytes a second, below which a client's time runs out.
LOWEST_RATE = 16 * 1024
# Seconds that a client has to hear an answer after which the connection ends, before what it still sends is cut off.
LINGER = 2.0
_DRAIN = 64 * 1024
_TOO_LATE = problems.KINDS[HTTPStatus.REQUEST_TIMEOUT].meaning

_STATUS: dict[type[Exception], HTTPStatus] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    # The application's own fault, and not the client's.
    InvalidResponseHeader: HTTPStatus.INTERNAL_SERVER_ERROR,
    InvalidResponseHeaderName: HTTPStatus.INTERNAL_SERVER_ERROR,
}


class ClientSocket(socket.socket):
    """A client's connection. Times are in seconds; each piece of LOWEST_RATE bytes brings the client one more."""

    def limit(self, seconds: float) -> None:
        """Let no single wait for the client be longer."""
        # By the kernel: a timeout of Python's would be a poll() more for each call.
        timeval = struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))
        self.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
        self._seconds = seconds

    def begin(self) -> None:
        """Begin the time for a request."""
        self._deadline = monotonic() + self._seconds

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive. Raises RequestTimeout, also for a client that keeps sending, but too little."""
        try:
            data = super().recv(bufsize, flags)
        except BlockingIOError:
            raise RequestTimeout(_TOO_LATE) from None
        self._deadline += len(data) / LOWEST_RATE
        if monotonic() > self._deadline:
            raise RequestTimeout(_TOO_LATE)
        return data

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Send everything. Raises ConnectionResetError for a client that takes too little."""
        deadline = monotonic() + self._seconds + len(data) / LOWEST_RATE
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.send(rest, flags) :]
                if rest and monotonic() > deadline:
                    raise BlockingIOError
        except BlockingIOError:
            raise ConnectionResetError(errno.ECONNRESET, "The client does not take the answer") from None


class ClientWorker(ThreadWorker):
    """What it overrides is gunicorn's own, with its names."""

    # Seconds that a client may take, beside what LOWEST_RATE brings.
    client_timeout: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._queued_at: dict[TConn, float] = {}
        self._lingering: deque[TConn] = deque()

    def enqueue_req(self, conn: TConn) -> None:
        """Give a connection to a thread, a new one when its first bytes are there: gunicorn's threads would wait for them."""
        if conn.initialized or conn.data_ready:
            self._queued_at[conn] = monotonic()
            super().enqueue_req(conn)
            return
        plain = conn.sock
        conn.sock = ClientSocket(plain.family, plain.type, plain.proto, plain.detach())
        conn.sock.limit(self.client_timeout)
        self._watch(conn, self.pending_conns, self.client_timeout, self.on_pending_socket_readable)

    def handle(self, conn: TConn) -> bool:
        """Serve a request, and tell how long it waited: nobody waits behind those who wait for the database already."""
        waited.set(monotonic() - self._queued_at.pop(conn))
        # With TLS it is another socket, which only the kernel limits.
        if isinstance(conn.sock, ClientSocket):
            conn.sock.begin()
        return super().handle(conn)

    def finish_request(self, conn: TConn, fs: "Future[bool]") -> None:
        """Keep or close a connection, without waiting for the client to close its end: gunicorn's whole worker would wait."""
        if fs.cancelled() or fs.exception() or fs.result():
            super().finish_request(conn, fs)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(conn)
        else:
            self._watch(conn, self._lingering, LINGER, self._drain)

    def murder_pending(self) -> None:
        """Close the connections whose time is over."""
        if not self.alive:
            # Who has not begun by now is too late.
            for conn in self.pending_conns:
                conn.timeout = min(conn.timeout or 0.0, monotonic() + LINGER)
        super().murder_pending()
        while self._lingering and (self._lingering[0].timeout or 0.0) < monotonic():
            self._close_lingering(self._lingering[0])

    def handle_error(self, req: object, client: socket.socket, addr: object, exc: BaseException) -> None:
        """Say with a problem what is no HTTP."""
        status = next((status for kind, status in _STATUS.items() if isinstance(exc, kind)), HTTPStatus.BAD_REQUEST)
        if not isinstance(exc, ParseException | RequestTimeout | SSLError):
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        name = request_id("")
        log = self.log.exception if status is HTTPStatus.INTERNAL_SERVER_ERROR else self.log.warning
        # By its kind: the text of the error quotes what it met, a token in a header included.
        log("Invalid request: %s", type(exc).__name__, extra={"request_id": name})
        body = problems.document(status, "", name)
        headers = [*HEADERS, ("Content-Type", problems.TYPE), ("X-Request-ID", name), ("Content-Length", str(len(body)))]
        head = "".join(f"{name}: {value}\r\n" for name, value in [*headers, ("Connection", "close")])
        try:
            write_nonblock(client, f"HTTP/1.1 {status.value} {problems.KINDS[status].title}\r\n{head}\r\n".encode() + body)
        except OSError:
            self.log.debug("Nobody takes the answer to an invalid request")

    def _watch(self, conn: TConn, group: deque[TConn], seconds: float, when_readable: Callable[..., None]) -> None:
        conn.sock.setblocking(False)
        conn.timeout = monotonic() + seconds
        group.append(conn)
        self.poller.register(conn.sock, EVENT_READ, partial(when_readable, conn))

    def _drain(self, conn: TConn, client: socket.socket) -> None:
        """Take what a client still sends: were it left unread, the client would hear that the connection broke, and no answer."""
        try:
            if client.recv(_DRAIN):
                return
        except (OSError, RequestTimeout):
            pass
        self._close_lingering(conn)

    def _close_lingering(self, conn: TConn) -> None:
        self.poller.unregister(conn.sock)
        self._lingering.remove(conn)
        self._drop(conn)

    def _drop(self, conn: TConn) -> None:
        self.nr_conns -= 1
        conn.close()
