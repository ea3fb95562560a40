"""The keys that an identity provider publishes (JWKS, RFC 7517)."""

import json
import logging
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from http.client import HTTPConnection, HTTPSConnection
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit
from urllib.request import HTTPHandler, HTTPSHandler, Request, build_opener

import jwt

from mai_sessions.errors import StartupError, Unavailable

log = logging.getLogger(__name__)

# All in seconds. The longest time for a fetch, whatever the provider sends meanwhile.
FETCH_TIMEOUT = 3.0
# How long a request waits for a fetch that another one has started.
JOIN_TIMEOUT = 0.5
# A failed fetch is repeated after this time at the earliest.
RETRY_AFTER_FAILURE = 5.0
# The keys are fetched again after this time, so that a withdrawn key is noticed.
REFRESH_AFTER = 300.0
# Cached keys serve for this time while the provider is away.
EXPIRE_AFTER = 3600.0
# Anyone can send tokens that name unknown keys, and each may cause a fetch.
MAX_FETCHES_PER_MINUTE = 10
MINUTE = 60.0
MAX_DOCUMENT_BYTES = 1024 * 1024
# Application firewalls refuse the User-Agent of Python's urllib.
HEADERS = {"User-Agent": f"mai-sessions/{version('mai-sessions')}", "Accept": "application/json"}


class PublishedKeys:
    """The keys of a provider by their `kid`, cached."""

    def __init__(self, url: str) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise StartupError("MAI_SESSIONS_JWT_JWKS_URL must be an http or https URL")
        self._url = url
        self._keys: dict[str | None, Any] = {}
        self._fetched_at = self._failed_at = float("-inf")
        self._fetches: deque[float] = deque(maxlen=MAX_FETCHES_PER_MINUTE)
        self._fetch: _Fetch | None = None
        self._lock = threading.Lock()

    def key(self, kid: str | None) -> Any:
        """Return the key for a token whose header has this `kid`.

        Raises jwt.PyJWKClientError for an unknown key, and Unavailable while the provider does not respond.
        """
        key = self._cached(kid, REFRESH_AFTER)
        if key is not None:
            return key
        fetch, is_new = self._start_fetch()
        if fetch and is_new:
            fetch.wait(FETCH_TIMEOUT)
        elif fetch and self._cached(kid, EXPIRE_AFTER) is None:
            fetch.done.wait(JOIN_TIMEOUT)
        key = self._cached(kid, EXPIRE_AFTER)
        if key is not None:
            return key
        if self._failed_at > self._fetched_at or (fetch and not fetch.done.is_set()):
            raise Unavailable("The keys of the identity provider are not available")
        raise jwt.PyJWKClientError("The key set has no such key")

    def _cached(self, kid: str | None, max_age: float) -> Any:
        keys = self._keys
        if time.monotonic() - self._fetched_at >= max_age:
            return None
        # A set with a single key need not name it (RFC 7517 §4.5), nor need tokens then.
        if len(keys) == 1 and (kid is None or None in keys):
            return next(iter(keys.values()))
        return None if kid is None else keys.get(kid)

    def _start_fetch(self) -> "tuple[_Fetch | None, bool]":
        """Return the fetch that runs, if any, and whether this call has started it."""
        now = time.monotonic()
        with self._lock:
            if self._fetch and not self._fetch.done.is_set():
                return self._fetch, False
            is_full = len(self._fetches) == MAX_FETCHES_PER_MINUTE
            if (is_full and now - self._fetches[0] < MINUTE) or now - self._failed_at <= RETRY_AFTER_FAILURE:
                return None, False
            self._fetches.append(now)
            self._fetch = fetch = _Fetch(self._url)
        try:
            threading.Thread(target=self._run, args=[fetch], name="jwks", daemon=True).start()
        except RuntimeError as error:
            self._fail(error)
            fetch.done.set()
        return fetch, True

    def _run(self, fetch: "_Fetch") -> None:
        try:
            self._keys = _parse(fetch.read())
            self._fetched_at = time.monotonic()
        # The document is somebody else's, and may break its reader in any way.
        except Exception as error:
            self._fail(error)
        finally:
            fetch.done.set()

    def _fail(self, error: Exception) -> None:
        self._failed_at = time.monotonic()
        log.warning(
            "the keys of the identity provider cannot be fetched: %s: %s", type(error).__name__, error
        )


class _Fetch(HTTPSHandler, HTTPHandler):
    """One GET with a deadline for all of it: urllib's timeout begins again with every byte."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.done = threading.Event()
        self._url = url
        self._connection: HTTPConnection | None = None

    def read(self) -> bytes:
        """Return the body. Raises OSError and ValueError."""
        request = Request(self._url, headers=HEADERS)  # noqa: S310 - the scheme has been checked
        with build_opener(self).open(request, timeout=FETCH_TIMEOUT) as response:
            body: bytes = response.read(MAX_DOCUMENT_BYTES + 1)
        if len(body) > MAX_DOCUMENT_BYTES:
            raise ValueError(f"more than {MAX_DOCUMENT_BYTES} bytes")
        return body

    def wait(self, timeout: float) -> None:
        """Wait for the end, and abort the connection when the time is over."""
        if not self.done.wait(timeout) and self._connection and self._connection.sock:
            with suppress(OSError):
                self._connection.sock.shutdown(socket.SHUT_RDWR)

    def http_open(self, request: Request) -> Any:
        """Open a connection that `wait` can abort."""
        return self._open(HTTPConnection, request)

    def https_open(self, request: Request) -> Any:
        """Open a connection that `wait` can abort."""
        return self._open(HTTPSConnection, request)

    def _open(self, kind: type[HTTPConnection], request: Request) -> Any:
        def connect(host: str, **options: Any) -> HTTPConnection:
            self._connection = kind(host, **options)
            return self._connection

        return self.do_open(connect, request)


def _parse(document: bytes) -> dict[str | None, Any]:
    """Return the signature keys of a key set by `kid`. Raises various errors for anything else."""
    keys = {
        key.key_id: key.key
        for key in jwt.PyJWKSet.from_dict(json.loads(document)).keys
        if key.public_key_use in ("sig", None)
    }
    if not keys:
        raise ValueError("the document holds no key for signatures")
    return keys
