"""A gthread worker in which no client occupies a thread, however slowly it sends or reads.

gunicorn's main thread hands each request to a thread, and is notified when the thread is done. That takes a
large part of the time of a short request (bench/README.md). Here the main thread accepts connections, closes
them and enforces their deadlines. The threads take clients from one epoll queue, first come, first served: a
thread receives what has arrived, runs the application once a whole request is there, sends what the socket
takes, and puts the client back at the end of the queue. gunicorn parses the requests; the responses are sent
from here.

What is overridden of gunicorn.workers.gthread.ThreadWorker; tests/server/test_upstream.py notices when an
upgrade changes one of them:

| method | why | what differs |
| --- | --- | --- |
| __init__ | the clients are kept elsewhere | makes where they are kept |
| check_config | called once, in the master | refuses what only gthread does; fits worker_connections |
| init_process | the epoll is each process's own | makes it, and reads the settings as attributes |
| run | the threads take clients themselves | starts them first |
| accept | a thread for each is too costly | registers the client with epoll; makes room; survives EMFILE |
| set_accept_enabled | accept() fails while files are short | accepts nothing for a moment after EMFILE |
| wait_for_and_dispatch_events | deadlines belong to the main thread | enforces them, too |
| _cap_keepalive | connections are kept elsewhere | caps the deadlines of the idle ones |
"""

import errno
import math
import select
import socket
from collections.abc import Callable
from functools import partial
from selectors import EVENT_READ
from threading import Lock, Thread
from time import monotonic
from typing import Any

from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.errors import LimitRequestHeaders, NoMoreData
from gunicorn.workers.gthread import ThreadWorker
from werkzeug.exceptions import RequestTimeout, ServiceUnavailable

from mai_sessions.config import Settings
from mai_sessions.server.client_memory import ClientMemory
from mai_sessions.server.client_socket import LOWEST_RATE, Client, ClientSocket
from mai_sessions.server.open_files import fit_open_files
from mai_sessions.server.request import BufferedRequest
from mai_sessions.server.response import ApplicationResponse, error_response

# Seconds that a connection stays open after its last response, for what the client still sends: closed at
# once, the client would see a reset and lose the response. Also for the last request to a stopping worker.
LINGER = 2.0
# Seconds between two sweeps over the waiting clients.
SWEEP_INTERVAL = 0.25
# Seconds for which a connection may be idle while others wait for its place.
EVICTION_AGE = 1.0
# What only gunicorn's own worker does: HTTP/2, uWSGI, the PROXY protocol, TLS, hooks around each request.
_GTHREAD_SETTINGS = (
    "http_protocols",
    "http2_cleartext",
    "protocol",
    "proxy_protocol",
    "certfile",
    "keyfile",
    "pre_request",
    "post_request",
)
Condition = Callable[[Client], bool]
_NO_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class ClientWorker(ThreadWorker):
    """Serves the application. Only the main thread closes connections."""

    settings: Settings

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The clients without a thread, by descriptor. The thread that removes one serves or closes it.
        self._idle: dict[int, Client] = {}
        self._lock = Lock()
        self._lingering: list[Client] = []
        self._swept = 0.0
        self._accepts_from = 0.0
        self._memory = ClientMemory(self.settings)

    @classmethod
    def check_config(cls, cfg: Config, log: Logger) -> None:
        """Refuse the settings that only gunicorn's own worker knows, and fit the number of clients to the
        number of open files.
        """
        super().check_config(cfg, log)
        default = Config().settings
        for name in _GTHREAD_SETTINGS:
            if cfg.settings[name].get() != default[name].get():
                raise SystemExit(f"Error: gunicorn's setting {name} needs MAI_SESSIONS_WORKER=gthread")
        if log.access_log_enabled:
            raise SystemExit("Error: gunicorn's access log needs MAI_SESSIONS_WORKER=gthread")
        fit_open_files(cfg, log)

    def init_process(self) -> None:
        """Create the objects of this process, and run."""
        self._events = select.epoll()
        # As attributes, because gunicorn needs three calls for each of thirty settings in a request.
        vars(self.cfg).update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def run(self) -> None:
        """Accept connections until the worker stops, while the threads serve."""
        for number in range(self.cfg.threads):
            Thread(target=self._serve, name=f"serve-{number}", daemon=True).start()
        super().run()

    # --- The main thread ---

    def accept(self, listener: socket.socket) -> None:
        """Accept a connection, if another worker has not, and make room for the next."""
        try:
            plain, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _NO_FILES:
                raise
            self.log.warning("Accepting no connection for a moment: %s", error.strerror)
            self._accepts_from = monotonic() + SWEEP_INTERVAL
            self.set_accept_enabled(False)
            self.evict_idle()
            return
        if listener.family == socket.AF_UNIX:
            # The peer chooses the path of its socket, so the path must not pass for an address.
            address = ""
        self.nr_conns += 1
        sock = ClientSocket(plain, self.settings.max_body, self.settings.client_timeout)
        client = Client(sock, address, listener.getsockname())
        with self._lock:
            self._idle[sock.fileno()] = client
            self._events.register(sock, client.events)
        if self.nr_conns > self.max_keepalived:
            self.evict_idle()

    def set_accept_enabled(self, enabled: bool | None) -> None:
        """Start or stop to accept connections; never start while file descriptors are short."""
        super().set_accept_enabled(bool(enabled) and monotonic() >= self._accepts_from)

    def wait_for_and_dispatch_events(self, timeout: float | None) -> None:
        """Accept and close, and enforce the deadlines."""
        super().wait_for_and_dispatch_events(
            SWEEP_INTERVAL if timeout is None else min(timeout, SWEEP_INTERVAL)
        )
        now = monotonic()
        if now > self._swept + SWEEP_INTERVAL:
            self._swept = now
            self.mark_queued(now)
            self.expire(now)
            while self.nr_conns > self.max_keepalived and self.evict_idle():
                pass

    def _cap_keepalive(self, deadline: float) -> None:
        for client in list(self._idle.values()):
            if not client.held:
                client.sock.deadline = min(client.sock.deadline, deadline)

    def mark_queued(self, now: float) -> None:
        """Record since when each client waits for a thread."""
        for descriptor, _ in self._events.poll(0):
            with self._lock:
                if client := self._idle.get(descriptor):
                    client.queued_since = min(client.queued_since, now)
                    self._events.modify(descriptor, client.events)

    def expire(self, now: float) -> None:
        """Respond 503 to the clients that have waited for a thread too long, have a thread respond 408 to
        those that are late with a request, and close the connections of the others whose time is over.
        """
        for descriptor, client in list(self._idle.items()):
            if client.queued_since <= now:
                if not client.response and now - client.queued_since > self.settings.pool_timeout:
                    self._refuse(descriptor, lambda client: client.queued_since <= now)
            elif client.is_over(now):
                self._drop_idle(descriptor, lambda client: client.is_over(now))
            elif client.sock.deadline <= now:
                with self._lock:
                    if self._idle.get(descriptor) is client and client.sock.deadline <= now:
                        client.timed_out, client.sock.deadline = True, now + LINGER
                        self._events.modify(descriptor, client.events)
        for client in [client for client in self._lingering if client.sock.deadline < now]:
            self._close_lingering(client)

    def evict_idle(self) -> bool:
        """Close one connection, so that more clients than there is room for do not shut others out: one that
        lingers, else the longest idle one, else one that has long been sending a request. False if there is
        none.
        """
        if self._lingering:
            self._close_lingering(self._lingering[0])
            return True
        newest = monotonic() - EVICTION_AGE
        with self._lock:
            evictable = (
                (client.held > 0, client.since, descriptor)
                for descriptor, client in self._idle.items()
                if client.is_evictable(newest)
            )
            evicted = min(evictable, default=None)
        if evicted is not None:
            self._drop_idle(evicted[-1], lambda client: client.is_evictable(newest))
        return evicted is not None

    def shed_load(self) -> None:
        """Refuse clients until the memory of all of them is within its limit."""
        while self._memory.is_short:
            with self._lock:
                descriptor = self._memory.find_largest(self._idle)
            if descriptor is None:
                return
            self._refuse(descriptor, lambda client: client.held > 0)

    def _refuse(self, descriptor: int, condition: Condition) -> None:
        """Respond 503 in the main thread, to a client that may be in the middle of a request or response."""
        client = self._take(descriptor, condition)
        if client is None:
            return
        sock = client.sock
        if client.response is None:
            sock.fill_buffer()
            sock.is_request_buffered()
            if sock.buffered:
                refusal = error_response(ServiceUnavailable(), self.settings.cors_origins, sock.origin)
                sock.take_body(sock.buffered)
                try:
                    if refusal.send(sock):
                        self._linger(client)
                        return
                except OSError:
                    self.log.debug("A client that is refused is gone")
        self._drop(client)

    def _linger(self, client: Client) -> None:
        """End a connection as the response has announced. The client may take LINGER seconds to close its
        side, and longer while it still sends a body that was refused.
        """
        try:
            client.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self._drop(client)
            return
        client.sock.start_deadline(LINGER)
        with self._lock:
            self._memory.count(client, 0)
        self._lingering.append(client)
        self.poller.register(client.sock, EVENT_READ, partial(self._discard, client))

    def _discard(self, client: Client, _connection: socket.socket) -> None:
        if not client.sock.discard():
            self._close_lingering(client)

    def _close_lingering(self, client: Client) -> None:
        self.poller.unregister(client.sock)
        self._lingering.remove(client)
        self._drop(client)

    def _drop_idle(self, descriptor: int, condition: Condition) -> None:
        if client := self._take(descriptor, condition):
            self._drop(client)

    def _drop(self, client: Client) -> None:
        self.nr_conns -= 1
        client.sock.close()
        with self._lock:
            self._memory.count(client, 0)
        if client.response:
            try:
                raise ConnectionResetError(errno.ECONNRESET, "The client does not take the response")
            except ConnectionResetError:
                # The request's log line tells that its client was disconnected by the error that is handled.
                client.response.close()

    # --- The threads ---

    def _serve(self) -> None:
        """Serve the clients, each time the one that has waited longest."""
        while True:
            for descriptor, _ in self._events.poll(maxevents=1):
                if client := self._take(descriptor):
                    try:
                        self.serve_client(client)
                    except BaseException:
                        # The thread serves others first.
                        self.log.exception("A connection fails")
                        self.method_queue.defer(self._drop, client)

    def serve_client(self, client: Client) -> None:
        """Receive what has arrived, or run the application, and send as much as the client accepts."""
        sock = client.sock
        if client.response is None:
            if not sock.is_request_buffered():
                sock.fill_buffer()
            if not sock.is_request_buffered() and not client.timed_out:
                if sock.expects_continue:
                    sock.send_continue()
                self._wait(client)
                return
            self._respond(client)
        if client.response is None:
            self.method_queue.defer(self._drop, client)
            return
        try:
            is_sent = client.response.send(sock)
        except OSError:
            self.method_queue.defer(self._drop, client)
            return
        if not is_sent:
            allowed = self.settings.client_timeout + client.response.size / LOWEST_RATE
            sock.deadline = client.since + allowed
            self._wait(client)
            return
        keep_alive, client.response = client.response.keep_alive, None
        if keep_alive:
            sock.keep_alive(self.cfg.keepalive if self.alive else LINGER)
            self._wait(client)
        else:
            self.method_queue.defer(self._linger, client)

    def _take(self, descriptor: int, condition: Condition | None = None) -> Client | None:
        """Take a client that no thread serves, unless another has. The main thread gives the `condition` that
        it has seen to hold: a thread may have served the client since.
        """
        with self._lock:
            client = self._idle.get(descriptor)
            if client is None or (condition and not condition(client)):
                return None
            del self._idle[descriptor]
            if client.response is None:
                self._memory.count(client, 0)
        return client

    def _wait(self, client: Client) -> None:
        """Put a client at the end of the queue, from where it is taken when it is ready."""
        client.queued_since = math.inf
        with self._lock:
            self._idle[client.sock.fileno()] = client
            self._memory.count(client, client.held)
            self._events.modify(client.sock, client.events)
        if self._memory.is_short:
            self.method_queue.defer(self.shed_load)

    def _respond(self, client: Client) -> None:
        """Parse a client's request and run the application.

        Leaves no response where the client ended first.
        """
        client.since = monotonic()
        client.number += 1
        sock = client.sock
        try:
            if client.timed_out:
                raise RequestTimeout
            if not sock.buffered:
                return
            request = BufferedRequest(client, self.cfg)
            self._count_request()
            response = ApplicationResponse(self.wsgi, request.environ(self.settings.max_body))
            try:
                keep_alive = request.finish() and self.alive and self.cfg.keepalive > 0
                response.begin(request.method, request.version, keep_alive)
                with self._lock:
                    self._memory.admit(client, response.unsent, self._idle)
            except BaseException:
                response.close()
                raise
            client.response = response
        except NoMoreData:
            if not sock.has_ended:
                self._respond_error(client, LimitRequestHeaders("no end of the head"))
        except Exception as error:
            self._respond_error(client, error)

    def _respond_error(self, client: Client, error: Exception) -> None:
        client.response = error_response(error, self.settings.cors_origins, client.sock.origin)

    def _count_request(self) -> None:
        self.nr += 1
        if self.nr >= self.max_requests and self.alive:
            self.log.info("Enough requests: another worker takes the place of this one")
            self.alive = False
