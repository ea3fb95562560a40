"""A response that is sent at the pace of its client."""

import logging
import socket
from collections.abc import Callable, Collection, Iterable, Iterator
from contextvars import copy_context
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from time import time
from typing import Any

from gunicorn import SERVER

# The types belong to an earlier gunicorn, without the first of these.
from gunicorn.http.errors import (  # type: ignore[attr-defined]
    InvalidResponseHeader,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from werkzeug.exceptions import RequestTimeout, ServiceUnavailable

from mai_sessions.telemetry.request_record import request_id
from mai_sessions.web import cors, problems
from mai_sessions.web.security_headers import HEADERS

log = logging.getLogger(__name__)

_WITHOUT_BODY = ("1", "204", "304")
_LAST_CHUNK = b"0\r\n\r\n"

_OTHER_ERROR = HTTPStatus.INTERNAL_SERVER_ERROR
# The first that fits counts.
_STATUS: dict[type[Exception], HTTPStatus] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    ServiceUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    # An error of the application, not of the client.
    InvalidResponseHeader: _OTHER_ERROR,
    ParseException: HTTPStatus.BAD_REQUEST,
}

Headers = list[tuple[str, str]]


class Response:
    """Bytes that were not sent yet. `size` counts the bytes of the response that were made so far."""

    def __init__(self, *buffers: bytes) -> None:
        self._unsent: list[bytes | memoryview] = []
        self.size = 0
        self.keep_alive = False
        self._add(*buffers)

    @property
    def unsent(self) -> int:
        """The number of bytes that wait for the client."""
        return sum(map(len, self._unsent))

    def send(self, connection: socket.socket) -> bool:
        """Send what a socket takes without waiting, and return whether it has taken everything.

        Raises OSError when the client is gone, and whatever the application raises while it makes a piece. At
        most one piece is sent, so that a long response waits its turn among others.
        """
        while self._unsent:
            try:
                sent = connection.sendmsg(self._unsent)
            except BlockingIOError:
                return False
            while self._unsent and sent >= len(self._unsent[0]):
                sent -= len(self._unsent.pop(0))
            if sent:
                self._unsent[0] = memoryview(self._unsent[0])[sent:]
        return not self._make_piece()

    def close(self) -> None:
        """Tell the application that the response has ended. May be called again."""

    def _make_piece(self) -> bool:
        """Make the next piece, and return whether there is one."""
        return False

    def _add(self, *buffers: bytes) -> None:
        # sendmsg() takes no progress from an empty buffer.
        self._unsent += filter(None, buffers)
        self.size += sum(map(len, buffers))


class ApplicationResponse(Response):
    """The response of a WSGI application, piece by piece.

    The application runs in a context of its own (contextvars), so any thread can make the next piece. Each
    piece is made when the one before has been taken: a client that stops reading costs one piece of memory.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]], environ: Any) -> None:
        """Run the application up to its first piece. Raises what the application raises."""
        super().__init__()
        self._run = copy_context().run
        self._started: list[Any] = []
        pieces = self._run(app, environ, self._start_response)
        self._close: Callable[[], object] | None = getattr(pieces, "close", None)
        try:
            self._pieces: Iterator[bytes] = iter(pieces)
            self._first = self._run(next, self._pieces, b"")
            self._status, self._headers = self._started
        except BaseException:
            self.close()
            raise

    def _start_response(self, *status_and_headers: Any) -> Callable[[bytes], object]:
        self._started[:] = status_and_headers[:2]
        return self._refuse_write

    @staticmethod
    def _refuse_write(data: bytes) -> object:
        raise NotImplementedError("write() of PEP 3333: give an iterable")

    def begin(self, method: str, version: tuple[int, int], keep_alive: bool) -> None:
        """Frame the response for the request's method and version, and add its head and first piece.

        Raises InvalidResponseHeader.
        """
        headers: Headers = self._headers
        length = next((int(value) for name, value in headers if name.lower() == "content-length"), None)
        # The bytes of the body that are left to send. None: no limit.
        self._left = length
        self._is_chunked = False
        if method == "HEAD" or self._status.startswith(_WITHOUT_BODY):
            self._left = 0
        elif length is None and version > (1, 0):
            self._is_chunked = True
            headers = [*headers, ("Transfer-Encoding", "chunked")]
        elif length is None:
            keep_alive = False
        self.keep_alive = keep_alive
        self._add(make_head(version, self._status, headers, keep_alive))
        self._add_piece(self._first)
        del self._first

    def _make_piece(self) -> bool:
        piece = None if self._left == 0 else self._run(next, self._pieces, None)
        if piece is not None:
            self._add_piece(piece)
            return True
        self.close()
        if self._left:
            # The Content-Length is larger than the body.
            self.keep_alive = False
        if self._is_chunked:
            self._is_chunked = False
            self._add(_LAST_CHUNK)
            return True
        return False

    def _add_piece(self, piece: bytes) -> None:
        if self._is_chunked:
            if piece:
                self._add(b"%x\r\n" % len(piece), piece, b"\r\n")
            return
        if self._left is not None:
            piece = piece[: self._left]
            self._left -= len(piece)
        self._add(piece)

    def close(self) -> None:
        """Close the application's iterable, once."""
        close, self._close = self._close, None
        if close:
            self._run(close)


def error_response(error: Exception, origins: Collection[str], origin: str) -> Response:
    """Make the problem for data that are not a request, or for a failed application. The connection ends.

    `origins` are those of the pages that may read it, `origin` is the request's.
    """
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), _OTHER_ERROR)
    name = request_id("")
    text = "Request refused: %s" if status is HTTPStatus.SERVICE_UNAVAILABLE else "Invalid request: %s"
    # By its type: the text of the error may quote a token in a header.
    log.log(
        logging.ERROR if status is _OTHER_ERROR else logging.WARNING,
        text,
        type(error).__name__,
        extra={"request_id": name},
        exc_info=error if status is _OTHER_ERROR else None,
    )
    body = problems.document(status, "", name)
    headers = [
        *HEADERS,
        ("Content-Type", problems.TYPE),
        ("X-Request-ID", name),
        ("Content-Length", str(len(body))),
        *cors.cors_headers(origins, origin),
    ]
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers.append(("Retry-After", str(problems.RETRY_AFTER)))
    title = problems.PROBLEM_TYPES[status].title
    return Response(make_head((1, 1), f"{status.value} {title}", headers, False), body)


def make_head(version: tuple[int, int], status: str, headers: Headers, keep_alive: bool) -> bytes:
    """Write the head of a response.

    Raises InvalidResponseHeader for a header that would be taken for several, or for the body.
    """
    lines = [
        f"HTTP/{version[0]}.{version[1]} {status}",
        f"Server: {SERVER}",
        f"Date: {_date(int(time()))}",
        f"Connection: {'keep-alive' if keep_alive else 'close'}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
        raise InvalidResponseHeader
    return f"{head}\r\n\r\n".encode("latin-1")


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
