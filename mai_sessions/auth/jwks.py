"""The keys that an identity provider publishes (JWKS, RFC 7517)."""

import logging
import threading
import time
from collections import deque
from typing import Any

import jwt

from mai_sessions.errors import StartupError, Unavailable

log = logging.getLogger(__name__)

# Seconds. A request waits at most so long for the provider, …
FETCH_TIMEOUT = 3.0
# … which is asked again after so long when it fails, …
_RETRY = 5.0
# … and anyway so often, to learn that a key has been withdrawn. …
_FRESH = 300.0
# … While it is away, the keys serve so long on.
_USABLE = 3600.0
# Anyone can name keys that do not exist; that many times a minute it is worth a look.
_FETCHES_A_MINUTE = 10


class PublishedKeys:
    """The provider's keys by name: kept, and fetched again when they are old or a token names one that is not
    among them.
    """

    def __init__(self, url: str) -> None:
        try:
            self._client = jwt.PyJWKClient(url, cache_jwk_set=False, timeout=FETCH_TIMEOUT)
        except jwt.PyJWKClientError as error:
            raise StartupError(f"MAI_SESSIONS_JWT_JWKS_URL: {error}") from None
        self._lock = threading.Lock()
        self._keys: dict[str | None, Any] = {}
        self._fetched_at = self._failed_at = float("-inf")
        self._fetches: deque[float] = deque(maxlen=_FETCHES_A_MINUTE)

    def key(self, name: str | None) -> Any:
        """Find a key. Raises jwt.PyJWKClientError when there is none of that name, and Unavailable when
        nobody can tell.
        """
        key, fetched_at = self._keys.get(name), self._fetched_at
        age = time.monotonic() - fetched_at
        if key is not None and age < _FRESH:
            return key
        # One thread fetches. The others have what they need, or wait for the same answer.
        has_lock = self._lock.acquire(timeout=0 if key is not None and age < _USABLE else FETCH_TIMEOUT)
        if has_lock:
            try:
                if fetched_at == self._fetched_at and self._may_fetch():
                    self._fetch()
            finally:
                self._lock.release()
        key = self._keys.get(name)
        if key is not None and time.monotonic() - self._fetched_at < _USABLE:
            return key
        if not has_lock or self._failed_at > self._fetched_at:
            raise Unavailable("The keys of the identity provider are not available")
        raise jwt.PyJWKClientError("No key of that name")

    def _may_fetch(self) -> bool:
        now = time.monotonic()
        often = len(self._fetches) == _FETCHES_A_MINUTE and now - self._fetches[0] < 60  # noqa: PLR2004
        return not often and now - self._failed_at > _RETRY

    def _fetch(self) -> None:
        self._fetches.append(time.monotonic())
        try:
            self._keys = {key.key_id: key.key for key in self._client.get_signing_keys()}
            self._fetched_at = time.monotonic()
        # What does not arrive, is not JSON, or holds no key: a stranger's document may break its reader in
        # any way.
        except Exception as error:
            self._failed_at = time.monotonic()
            log.warning(
                "the keys of the identity provider cannot be fetched: %s: %s", type(error).__name__, error
            )
