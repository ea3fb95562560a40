"""The connection of a client, the request that it sends, and the response that it receives."""

import math
import re
import select
import socket
from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

from mai_sessions.server.response import Response

# A client gets another second for each LOWEST_RATE bytes that it sends or receives.
LOWEST_RATE = 16 * 1024
# A client below this rate, in bytes a second, makes room for others when the worker's memory is short.
FAIR_RATE = 256 * 1024
# The longest head, in bytes. gunicorn limits each line of it to MAI_SESSIONS_MAX_HEADER.
MAX_HEAD = 128 * 1024
# The most chunks of a body. A body of 64 MiB then has chunks of 512 bytes; typical chunks have 8 KiB.
MAX_CHUNKS = 128 * 1024

_RECEIVE = 64 * 1024
_RECEIVE_BODY = 1024 * 1024
# gunicorn copies its buffer of the body for every chunk that it parses.
_PIECE = 8 * 1024
_HEAD_END = b"\r\n\r\n"
_LONGEST_SIZE_LINE = 8 * 1024
_FRAMING = re.compile(rb"(?i)\r\n(content-length|transfer-encoding|expect|origin):[ \t]*([^\r\n]*)")
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?", re.DOTALL).fullmatch


class ClientSocket(socket.socket):
    """An accepted connection that never blocks, and what has arrived of the client's next request.

    gunicorn parses a request only when all of it is here, so no thread waits for a client. Data that cannot
    become a request count as complete: the parser reports the error. Times are in seconds, sizes in bytes.
    """

    def __init__(self, accepted: socket.socket, max_body: int, timeout: float) -> None:
        """Take over an accepted connection. A body larger than `max_body` is not received; a client may send
        nothing for `timeout` seconds, and may take that long and what LOWEST_RATE adds for a request.
        """
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self.setblocking(False)
        self.has_ended = False
        self._max_body = max_body
        self.client_timeout = timeout
        self._discarded = 0
        self._buffer = bytearray()
        self._start_request()
        self.start_deadline(timeout)

    def _start_request(self) -> None:
        self.is_too_large = False
        self.expects_continue = False
        self.origin = ""
        # Offsets into the buffer. None: not known yet.
        self._body: int | None = None
        self._end: int | None = None
        # Where the search continues: the bytes before it were searched.
        self._searched = 0
        self._chunk_line = 0
        self._last_chunk: int | None = None
        self._chunks = self._chunked_size = 0

    def start_deadline(self, seconds: float) -> None:
        """Give the client these seconds, and with each byte the time that LOWEST_RATE adds, but never a
        longer wait at once.
        """
        self.started, self._longest_wait = monotonic(), seconds
        self.deadline = self._total_deadline = self.started + seconds

    @property
    def buffered(self) -> int:
        """How much of the next request is here."""
        return len(self._buffer)

    def fill_buffer(self) -> None:
        """Receive what has arrived, without waiting. A disconnected client has ended."""
        if not self._buffer:
            self.start_deadline(self.client_timeout)
        self._buffer += self._receive(_RECEIVE if self._body is None else _RECEIVE_BODY)

    def send_continue(self) -> None:
        """Tell the client to send the body, once."""
        self.expects_continue = False
        # A client that has disconnected is noticed by the end of its data.
        with suppress(OSError):
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")

    def discard(self) -> bool:
        """Receive what has arrived of a body that nobody reads, and return whether to go on: not when the
        client has ended, or has sent more than two of the largest bodies.
        """
        self._discarded += len(self._receive(_RECEIVE))
        return not self.has_ended and self._discarded <= 2 * self._max_body

    def _receive(self, size: int) -> bytes:
        try:
            data = self.recv(size)
        except BlockingIOError:
            return b""
        except OSError:
            data = b""
        self.has_ended = not data
        self._total_deadline += len(data) / LOWEST_RATE
        self.deadline = min(self._total_deadline, monotonic() + self._longest_wait)
        return data

    def is_request_buffered(self) -> bool:
        """Return whether a thread is needed: a request is complete, or the data can never become one."""
        if not self._buffer:
            return self.has_ended
        if self._body is None:
            self._find_head()
        elif self._end is None:
            self._follow_chunks()
        return self.has_ended or self.is_too_large or (self._end is not None and self.buffered >= self._end)

    def _find_head(self) -> None:
        end = self._buffer.find(_HEAD_END, max(0, self._searched - 3))
        if end < 0:
            # A carriage return at the end of what was searched belongs to the new line feed.
            new = self._buffer[
                self._searched - (self._buffer[self._searched - 1 : self._searched] == b"\r") :
            ]
            # gunicorn refuses a bare line feed, and a line without an end.
            if new.count(b"\n") != new.count(b"\r\n") or self.buffered > MAX_HEAD:
                self._end = self.buffered
            self._searched = self.buffered
            return
        self._body = self._chunk_line = self._searched = end + len(_HEAD_END)
        fields = {name.lower(): value for name, value in _FRAMING.findall(self._buffer, 0, end + 2)}
        self.origin = fields.get(b"origin", b"").decode("latin-1")
        length, coding = fields.get(b"content-length", b""), fields.get(b"transfer-encoding")
        if coding is None and length.isdigit():
            # A number of more digits is above any limit.
            self.is_too_large = len(length) > len(str(self._max_body)) or int(length) > self._max_body
            self._end = self._body + (0 if self.is_too_large else int(length))
        elif coding is not None and not length and coding.lower() == b"chunked":
            self._follow_chunks()
        else:
            self._end = self._body
        self.expects_continue = (
            fields.get(b"expect", b"").lower() == b"100-continue"
            and self._buffer.find(b" HTTP/1.1\r\n", 0, end + 2) >= 0
            and not self.is_too_large
        )

    def _follow_chunks(self) -> None:
        """Go from the size of one chunk to that of the next, as far as they are here, to the end of the
        body.
        """
        while self._last_chunk is None:
            line_end = self._buffer.find(b"\r\n", max(self._chunk_line, self._searched - 1))
            if line_end < 0:
                self._searched = max(self._chunk_line, self.buffered)
                if self.buffered - self._chunk_line > _LONGEST_SIZE_LINE:
                    self._end = self.buffered
                return
            size = _CHUNK_SIZE(self._buffer[self._chunk_line : line_end])
            if size is None:
                self._end = self.buffered
                return
            if (length := int(size[1], 16)) == 0:
                self._last_chunk = self._searched = line_end
                break
            self._chunks += 1
            self._chunked_size += length
            self._chunk_line = self._searched = line_end + 2 + length + 2
            self.is_too_large = self._chunked_size > self._max_body or self._chunks > MAX_CHUNKS
            if self.is_too_large:
                return
        trailer_end = self._buffer.find(_HEAD_END, max(self._last_chunk, self._searched - 3))
        self._searched = self.buffered
        if trailer_end >= 0 or self.buffered - self._last_chunk > MAX_HEAD:
            self._end = self.buffered

    def take_head(self) -> bytes:
        """Remove and return the head of the buffer, or everything if it has no end."""
        return self.take_body(self.buffered if self._body is None else self._body)

    def take_body(self, length: int) -> bytes:
        """Remove and return the body: less than `length` if the client ended early."""
        if length >= self.buffered:
            taken, self._buffer = bytes(self._buffer), bytearray()
            return taken
        taken = bytes(memoryview(self._buffer)[:length])
        del self._buffer[:length]
        return taken

    def take_pieces(self) -> Iterator[bytes]:
        """Remove and yield everything in the buffer, piece by piece."""
        while self._buffer:
            yield self.take_body(_PIECE)

    def finish_request(self, unread: bytes = b"") -> None:
        """Begin the next request with the data that have arrived: `unread`, and the buffer."""
        self._buffer[:0] = unread
        self._start_request()

    def keep_alive(self, seconds: float) -> None:
        """Set the deadline for the next request: `seconds`, or more if it has begun to arrive."""
        self.start_deadline(self.client_timeout if self._buffer else seconds)


class Client:
    """A connection, its next request and its response. It belongs to one thread at a time."""

    __slots__ = (
        "address",
        "counted",
        "number",
        "queued_since",
        "response",
        "server",
        "since",
        "sock",
        "timed_out",
    )

    def __init__(self, sock: ClientSocket, address: Any, server: Any) -> None:
        self.sock, self.address, self.server = sock, address, server
        self.response: Response | None = None
        # The time at which it was accepted, or its response began.
        self.since = monotonic()
        self.number = 0
        # When the main thread first saw it wait for a thread, and whether its request timed out.
        self.queued_since = math.inf
        self.timed_out = False
        # The bytes that the worker counts for it.
        self.counted = 0

    @property
    def events(self) -> int:
        """The event that wakes a thread for the client, once."""
        # A request that is already in the buffer waits in the queue like one that arrives.
        ready = self.response or self.timed_out or self.sock.is_request_buffered()
        return select.EPOLLONESHOT | (select.EPOLLOUT if ready else select.EPOLLIN)

    def is_over(self, now: float) -> bool:
        """Return whether its deadline has passed, and no request needs a 408."""
        return self.sock.deadline <= now and (
            self.response is not None or self.timed_out or not self.sock.buffered
        )

    def is_evictable(self, newest: float) -> bool:
        """Return whether it may be closed for others: not while it is queued, or receives a response."""
        return self.since < newest and self.queued_since == math.inf and self.response is None

    def is_slow(self, now: float) -> bool:
        """Return whether it has been below FAIR_RATE for longer than the timeout, with its request or its
        response.
        """
        since, moved = self.sock.started, self.sock.buffered
        if self.response:
            since, moved = self.since, self.response.size - self.response.unsent
        return now - since > self.sock.client_timeout + moved / FAIR_RATE

    @property
    def held(self) -> int:
        """The memory that it occupies, in bytes."""
        return self.sock.buffered + (self.response.unsent if self.response else 0)
