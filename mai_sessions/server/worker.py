"""gunicorn's threaded worker, whose threads wait for requests themselves, and no client can keep.

gunicorn's main thread hands each request to a thread, and is told when it is done, which is a sixth of the
work of a short request. Here it accepts connections, closes them and looks after their time; the threads take
from an epoll whoever has sent something.

A client that sends nothing, or slowly, holds no thread: one begins when the request is there, or the first 64
KiB of it. Who sends the rest of it slowly, or takes the answer slowly, holds a thread for a limited time.
What is no HTTP is told so with a problem.

gunicorn reads the requests. The answers are sent from here, each in one piece.
"""

import errno
import math
import re
import select
import socket
import struct
from collections import deque
from email.utils import formatdate
from functools import lru_cache, partial
from http import HTTPStatus
from selectors import EVENT_READ
from ssl import SSLError
from threading import Lock, Thread
from time import monotonic, time
from typing import Any, cast

from gunicorn import SERVER
from gunicorn.config import Config
from gunicorn.http import wsgi

# The types are those of the release before, which did not have the first two.
from gunicorn.http.errors import (  # type: ignore[attr-defined]
    InvalidResponseHeader,
    InvalidResponseHeaderName,
    LimitRequestHeaders,
    LimitRequestLine,
    ParseException,
)
from gunicorn.http.parser import RequestParser
from gunicorn.util import write_nonblock
from gunicorn.workers.gthread import TConn, ThreadWorker
from werkzeug.exceptions import RequestTimeout

from mai_sessions.telemetry.request_record import QUEUE_SECONDS, request_id
from mai_sessions.web import problems
from mai_sessions.web.security_headers import HEADERS

# Bytes a second, below which a client's time runs out.
LOWEST_RATE = 16 * 1024
# Seconds that a client has to hear an answer after which the connection ends, before what it still sends is
# cut off; and to ask a worker that stops once more.
LINGER = 2.0
_DRAIN = 64 * 1024
# Bytes of a request that are there before a thread takes it, if it has so many.
_BEGINNING = 64 * 1024
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n")
_CHUNKED = re.compile(rb"(?i)\r\ntransfer-encoding:")
_EXPECTS = re.compile(rb"(?i)\r\nexpect:")
_LAST_CHUNK = re.compile(rb"(?:^|\r\n)0+[ \t]*(?:;[^\r\n]*)?\r\n")
# Seconds between two looks at who waits for a thread, and at whose time is over.
_LOOK = 0.25
# Seconds that a thread waits for what has not come in its time; none at all would be without end.
_NO_TIME = 0.001
_WITHOUT_BODY = ("204", "304")
_FRAMING = {"CONTENT_LENGTH", "HTTP_TRANSFER_ENCODING"}
_TOO_LATE = problems.PROBLEM_TYPES[HTTPStatus.REQUEST_TIMEOUT].meaning

_STATUS: dict[type[Exception], HTTPStatus] = {
    LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    # The application's own fault, and not the client's.
    InvalidResponseHeader: HTTPStatus.INTERNAL_SERVER_ERROR,
    InvalidResponseHeaderName: HTTPStatus.INTERNAL_SERVER_ERROR,
}


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)


def _head(version: tuple[int, int], status: str, headers: list[tuple[str, str]]) -> bytes:
    """Write the head of an answer. Raises InvalidResponseHeader for one that would be taken for several, or
    for the body.
    """
    lines = [f"HTTP/{version[0]}.{version[1]} {status}", *(f"{name}: {value}" for name, value in headers)]
    head = "\r\n".join(lines)
    if head.count("\r") != len(lines) - 1 or head.count("\n") != len(lines) - 1:
        raise InvalidResponseHeader
    return f"{head}\r\n\r\n".encode("latin-1")


class ClientSocket(socket.socket):
    """A client's connection. Times are in seconds; each piece of LOWEST_RATE bytes brings the client one
    more.

    Each call that waits lets go of the interpreter's lock, and may wait long to get it back; so it makes few.
    """

    def __init__(self, plain: socket.socket, seconds: float) -> None:
        """Take over an accepted connection, on which no single wait is longer than so many seconds."""
        super().__init__(plain.family, plain.type, plain.proto, plain.detach())
        super().setblocking(True)
        # What no thread has read yet.
        self.received = b""
        self.limit(seconds)

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

    def settimeout(self, value: float | None) -> None:
        """Leave the time to `limit`."""

    def setblocking(self, flag: bool) -> None:
        """Leave the time to `limit`."""

    def receive(self) -> bool:
        """Receive what is there, without waiting, and tell whether a thread has something to do: a request,
        or the end.
        """
        try:
            data = super().recv(_BEGINNING, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            # For a thread to meet it.
            return True
        self.received += data
        return not data or self.has_request()

    def has_request(self) -> bool:
        """Whether a request has been received, or as much of one as is waited for."""
        head, end, body = self.received.partition(b"\r\n\r\n")
        # Who expects it sends the body only when a thread has said "Continue".
        if len(self.received) >= _BEGINNING or (end and _EXPECTS.search(head)):
            return True
        if not end:
            return False
        if length := _LENGTH.search(head + b"\r\n"):
            return len(body) >= int(length[1])
        if _CHUNKED.search(head):
            return _LAST_CHUNK.search(body) is not None
        return True

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive. Raises RequestTimeout, also for a client that keeps sending, but too little."""
        if self.received:
            data, self.received = self.received[:bufsize], self.received[bufsize:]
            return data
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
        rest = memoryview(data)
        deadline = monotonic() + self._seconds + len(rest) / LOWEST_RATE
        try:
            while rest:
                rest = rest[self.send(rest, flags) :]
                if rest and monotonic() > deadline:
                    raise BlockingIOError
        except BlockingIOError:
            raise ConnectionResetError(errno.ECONNRESET, "The client does not take the answer") from None


class Client(TConn):
    """A connection, and the times of its state."""

    def __init__(self, cfg: Config, plain: socket.socket, address: Any, server: Any, seconds: float) -> None:
        """Take over an accepted connection. `seconds` are what a wait for the client may take."""
        super().__init__(cfg, ClientSocket(plain, seconds), address, server)
        # When its time is over, since when it has been seen to wait for a thread, and whether it was late
        # with a request.
        self.until = monotonic() + seconds
        self.waits_since = math.inf
        self.is_late = False
        # How long its request queued for a thread.
        self.queue_seconds = 0.0

    @property
    def events(self) -> int:
        """What a thread is to be woken by, once."""
        # Who is late need not send anything to be told so.
        return select.EPOLLONESHOT | select.EPOLLIN | (select.EPOLLOUT if self.is_late else 0)


class ClientWorker(ThreadWorker):
    """What it overrides is gunicorn's own, with its names. Only the main thread closes connections."""

    # Seconds that a client may take, beside what LOWEST_RATE brings.
    client_timeout: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The clients that no thread serves, by descriptor. Who takes one out has it.
        self._idle: dict[int, Client] = {}
        # So that none is closed before it is watched, too.
        self._lock = Lock()
        self._lingering: deque[Client] = deque()
        self._looked = 0.0

    def init_process(self) -> None:
        """Make what is each process's own, and run."""
        self._events = select.epoll()
        hooks = [self.cfg.settings[name] for name in ("pre_request", "post_request")]
        has_hooks = any(hook.get() is not hook.default for hook in hooks)
        # TLS, a log of its own, hooks around each request: who wants one has gunicorn's own way of answering.
        self._gunicorn_answers = self.cfg.is_ssl or self.log.access_log_enabled or has_hooks
        # As attributes: gunicorn looks a setting up in three calls, and thirty settings for a request.
        vars(self.cfg).update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def run(self) -> None:
        """Accept connections until it is time to stop, while the threads serve."""
        for number in range(self.cfg.threads):
            Thread(target=self._serve, name=f"serve-{number}", daemon=True).start()
        super().run()

    # --- The main thread ---

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, if another worker has not."""
        try:
            plain, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        client = Client(self.cfg, plain, address, listener.getsockname(), self.client_timeout)
        with self._lock:
            self._idle[client.sock.fileno()] = client
            self._events.register(client.sock, client.events)

    def wait_for_and_dispatch_events(self, timeout: float | None) -> None:
        """Accept and close, and look at who waits."""
        super().wait_for_and_dispatch_events(_LOOK if timeout is None else min(timeout, _LOOK))
        now = monotonic()
        if now > self._looked + _LOOK:
            self._looked = now
            self._look_who_waits(now)
            self._end_overdue(now)
            self._make_room()

    def _cap_keepalive(self, deadline: float) -> None:
        for client in list(self._idle.values()):
            client.until = min(client.until, deadline)

    def _look_who_waits(self, now: float) -> None:
        # Who is there to be taken has found every thread busy, or will find one in a moment.
        for descriptor, _ in self._events.poll(0):
            if client := self._idle.get(descriptor):
                client.waits_since = min(client.waits_since, now)
                self._events.modify(descriptor, client.events)

    def _end_overdue(self, now: float) -> None:
        for descriptor, client in list(self._idle.items()):
            # Who waits for a thread is not late.
            if client.until > now or client.waits_since <= now:
                continue
            if not client.data_ready or client.is_late:
                self._drop_idle(descriptor)
                continue
            with self._lock:
                if self._idle.get(descriptor) is client:
                    # For a thread to say what is wrong with what there is.
                    client.is_late, client.until = True, now + LINGER
                    self._events.modify(descriptor, client.events)
        while self._lingering and self._lingering[0].until < now:
            self._close_lingering(self._lingering[0])

    def _make_room(self) -> None:
        """Close the connections that have been idle for longest: more clients than there is room for do not
        shut others out.
        """
        for descriptor, client in list(self._idle.items()):
            if self.nr_conns <= self.max_keepalived:
                break
            if client.initialized and not client.data_ready:
                self._drop_idle(descriptor)

    def _linger(self, client: Client) -> None:
        """Close a connection, without waiting for the client to close its end."""
        try:
            client.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(client)
            return
        client.sock.setblocking(False)
        client.until = monotonic() + LINGER
        self._lingering.append(client)
        self.poller.register(client.sock, EVENT_READ, partial(self._drain, client))

    def _drain(self, client: Client, connection: socket.socket) -> None:
        """Take what a client still sends: were it left unread, the client would hear that the connection
        broke, and no answer.
        """
        try:
            if connection.recv(_DRAIN):
                return
        except (OSError, RequestTimeout):
            pass
        self._close_lingering(client)

    def _close_lingering(self, client: Client) -> None:
        self.poller.unregister(client.sock)
        self._lingering.remove(client)
        self._drop(client)

    def _drop_idle(self, descriptor: int) -> None:
        with self._lock:
            client = self._take(descriptor)
        if client:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        self.nr_conns -= 1
        client.close()

    # --- The threads ---

    def _serve(self) -> None:
        """Take a client that has sent something, and then the next."""
        while True:
            for descriptor, _ in self._events.poll(maxevents=1):
                if client := self._take(descriptor):
                    try:
                        self._go_on(client)
                    except BaseException:
                        # Whatever it is, the thread has others to serve.
                        self.log.exception("A connection fails")
                        self.method_queue.defer(self._drop, client)

    def _go_on(self, client: Client) -> None:
        # None: with TLS it is another socket, whose client only the kernel limits.
        connection = None if self.cfg.is_ssl else cast(ClientSocket, client.sock)
        ready = connection is None or connection.receive()
        while ready or client.is_late:
            if connection and not ready:
                connection.limit(_NO_TIME)
            client.data_ready = True
            # Time spent queueing for a thread counts against the pool timeout.
            client.queue_seconds = max(0.0, monotonic() - client.waits_since)
            if not self.handle(client) or client.is_late:
                self.method_queue.defer(self._linger, client)
                return
            client.data_ready, client.waits_since = False, math.inf
            client.until = monotonic() + (self.cfg.keepalive if self.alive else LINGER)
            # The next request may have come with this one.
            unreader = cast(RequestParser, client.parser).unreader
            if connection:
                connection.received = unreader.take_buffered() + connection.received
                ready = connection.has_request()
            else:
                ready = unreader.buf.getvalue() != b""
        if connection and connection.received and not client.data_ready:
            client.data_ready, client.until = True, monotonic() + self.client_timeout
        client.waits_since = math.inf
        with self._lock:
            self._idle[client.sock.fileno()] = client
            self._events.modify(client.sock, client.events)

    def _take(self, descriptor: int) -> Client | None:
        """Take a client that no thread serves, unless somebody else has."""
        return self._idle.pop(descriptor, None)

    def handle(self, conn: TConn) -> bool:
        """Serve a request, and tell whether the connection goes on."""
        if not self.cfg.is_ssl:
            cast(ClientSocket, conn.sock).begin()
        return super().handle(conn)

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Have the application answer, and tell whether the connection goes on.

        gunicorn's own takes as long to send an answer as to read a request. This one sends it in one piece.
        """
        if self._gunicorn_answers:
            return super().handle_request(req, conn)
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Enough requests: another worker takes the place of this one")
            self.alive = False
        goes_on = self.alive and self.cfg.keepalive > 0 and not req.should_close()
        _, environ = wsgi.create(req, conn.sock, conn.client, conn.server, self.cfg)
        environ["wsgi.multithread"] = True
        environ[QUEUE_SECONDS] = cast(Client, conn).queue_seconds
        given: list[Any] = []

        def start_response(*status_and_headers: Any) -> None:
            given[:] = status_and_headers[:2]

        pieces = self.wsgi(environ, start_response)
        try:
            body = b"".join(pieces)
            status, headers = given
            if req.method == "HEAD" or status[:3] in _WITHOUT_BODY:
                body = b""
            elif "Content-Length" not in dict(headers):
                headers = [*headers, ("Content-Length", str(len(body)))]
            own = [
                ("Server", SERVER),
                ("Date", _date(int(time()))),
                ("Connection", "keep-alive" if goes_on else "close"),
            ]
            conn.sock.sendall(_head(req.version, status, own + headers) + body)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()
        if not environ.keys() & _FRAMING:
            # Without a body there is no rest of it to look for, which gunicorn does before and after each
            # request.
            cast(RequestParser, conn.parser).mesg = None
        return goes_on

    def handle_error(self, req: object, client: socket.socket, addr: object, exc: BaseException) -> None:
        """Say with a problem what is no HTTP."""
        status = next(
            (status for kind, status in _STATUS.items() if isinstance(exc, kind)), HTTPStatus.BAD_REQUEST
        )
        if not isinstance(exc, ParseException | RequestTimeout | SSLError):
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        name = request_id("")
        log = self.log.exception if status is HTTPStatus.INTERNAL_SERVER_ERROR else self.log.warning
        # By its kind: the text of the error quotes what it met, a token in a header included.
        log("Invalid request: %s", type(exc).__name__, extra={"request_id": name})
        body = problems.document(status, "", name)
        headers = [
            *HEADERS,
            ("Content-Type", problems.TYPE),
            ("X-Request-ID", name),
            ("Content-Length", str(len(body))),
        ]
        head = _head(
            (1, 1),
            f"{status.value} {problems.PROBLEM_TYPES[status].title}",
            [*headers, ("Connection", "close")],
        )
        try:
            write_nonblock(client, head + body)
        except OSError:
            self.log.debug("Nobody takes the answer to an invalid request")
