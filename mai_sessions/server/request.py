"""A request in a client's buffer, parsed by gunicorn."""

from io import BytesIO
from itertools import chain
from typing import Any

from gunicorn.config import Config
from gunicorn.http import Request, wsgi
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import NoMoreData, ParseException
from gunicorn.http.unreader import IterUnreader

from mai_sessions.server.client_socket import Client
from mai_sessions.server.gthread import check_transfer_coding
from mai_sessions.telemetry.request_record import QUEUE_SECONDS

_READ = 64 * 1024


class _Body(BytesIO):
    """A body that releases its memory when all of it was read."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self._size = len(content)

    def read(self, size: int | None = -1, /) -> bytes:
        content = super().read(size)
        if self.tell() == self._size:
            self.release()
        return content

    def release(self) -> None:
        """Release the memory."""
        self.seek(0)
        self.truncate()


class BufferedRequest:
    """The first request in the buffer of a client."""

    def __init__(self, client: Client, cfg: Config) -> None:
        """Parse the head. Raises ParseException, and NoMoreData for a head without an end."""
        self._client, self._cfg = client, cfg
        sock = client.sock
        self._unreader = IterUnreader(chain([sock.take_head()], sock.take_pieces()))
        self._parsed = Request(cfg, self._unreader, client.address, client.number)
        check_transfer_coding(self._parsed)
        self._body: Any = self._parsed.body
        self._content = _Body(b"")
        self._is_consumed = not sock.is_too_large
        # The worker has sent the 100 Continue.
        self._parsed._expected_100_continue = False  # type: ignore[attr-defined]  # not in the types
        assert self._parsed.method
        assert self._parsed.version
        self.method, self.version = self._parsed.method, self._parsed.version

    def environ(self, max_body: int) -> dict[str, Any]:
        """Make the WSGI environment.

        A body larger than `max_body` bytes is not in it, but its length says so.
        """
        client = self._client
        environ: dict[str, Any]
        _, environ = wsgi.create(  # type: ignore[assignment]  # it is a dict
            self._parsed, client.sock, client.address, client.server, self._cfg
        )
        environ["wsgi.multithread"] = True
        environ[QUEUE_SECONDS] = max(0.0, client.since - client.queued_since)
        if client.sock.is_too_large:
            # The length of an incomplete chunked body is unknown.
            environ.setdefault("CONTENT_LENGTH", str(max_body + 1))
            environ.pop("HTTP_TRANSFER_ENCODING", None)
            environ["wsgi.input"] = BytesIO()
        elif not isinstance(self._body.reader, ChunkedReader):
            length = self._body.reader.length
            content = client.sock.take_body(length)
            self._is_consumed = len(content) == length
            environ["wsgi.input"] = self._content = _Body(content)
        return environ

    def finish(self) -> bool:
        """Leave the connection to the next request, and return whether there can be one: the client wants it,
        and the end of this request has been found. To be called when the application has read the body.
        """
        if self._is_consumed and isinstance(self._body.reader, ChunkedReader):
            self._is_consumed = self._read_rest()
        # Errors of werkzeug refer to themselves, which would keep the environment until a full garbage
        # collection.
        self._content.release()
        self._client.sock.finish_request(self._unreader.take_buffered())
        return self._is_consumed and not self._parsed.should_close()

    def _read_rest(self) -> bool:
        try:
            while not self._body.failed:
                if not self._body.read(_READ):
                    return True
        except (ParseException, NoMoreData):
            return False
        return False
