"""Logs the outage of a server: one line at its start, one a minute, and one at its end."""

import logging
import math
import threading
import time

log = logging.getLogger(__name__)

REPEAT_INTERVAL = 60.0  # seconds


class Outage:
    """Whether a server responds to this process, and since when it does not.

    A server that comes and goes is one line a minute, too.
    """

    def __init__(self, server: str) -> None:
        """Begin with a server that responds. `server` is its name in the log."""
        self._server = server
        self._lock = threading.Lock()
        self._began: float | None = None
        self._is_logged = False
        self._logged_at = -math.inf

    def fails(self, reason: str) -> None:
        """Record that the server did not respond, and why."""
        now = time.monotonic()
        with self._lock:
            if self._began is None:
                self._began = now
            if now - self._logged_at < REPEAT_INTERVAL:
                return
            is_first, self._is_logged, self._logged_at = not self._is_logged, True, now
            seconds = now - self._began
        if is_first:
            log.warning("the %s is away: %s", self._server, reason)
        else:
            log.warning("the %s has been away for %.0f s: %s", self._server, seconds, reason)

    def responds(self) -> None:
        """Record that the server responded."""
        if self._began is None:
            return
        with self._lock:
            began, self._began = self._began, None
            is_logged, self._is_logged = self._is_logged, False
        if began is not None and is_logged:
            log.warning("the %s is back after %.0f s", self._server, time.monotonic() - began)
