"""A deadline for every use of a connection."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg

from mai_sessions.postgres.connection import Connection

# The longest delay until an overdue connection is noticed, in seconds.
WATCHDOG_INTERVAL = 0.2


class Watchdog:
    """Aborts a connection whose server has not returned it to its thread by a deadline.

    PostgreSQL itself enforces `statement_timeout`. If PostgreSQL, the network or a proxy hangs, the kernel
    may still receive acknowledgements, and the thread would wait for ever.
    """

    def __init__(self, aborted: Callable[[], None]) -> None:
        """`aborted` is called after connections were aborted, in the watchdog's thread."""
        self._aborted = aborted
        self._deadlines: dict[Connection, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def start(self) -> None:
        """Start the thread, unless it runs. Comes after the fork."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """End the thread when no connection is in use any more."""
        self._stopped = True

    def watch(self, conn: Connection, seconds: float) -> None:
        """Abort the connection after that time, unless `forget` comes first."""
        self._deadlines[conn] = time.monotonic() + seconds

    def forget(self, conn: Connection) -> None:
        """Stop watching the connection. Must precede its return to the pool or its closing."""
        with self._lock:
            self._deadlines.pop(conn, None)

    def abort_overdue(self) -> None:
        """Abort each connection whose deadline has passed."""
        now = time.monotonic()
        # The lock keeps a connection from being returned, and its descriptor from becoming another's.
        with self._lock:
            overdue = [conn for conn, deadline in list(self._deadlines.items()) if deadline < now]
            for conn in overdue:
                del self._deadlines[conn]
                abort_connection(conn)
        if overdue:
            self._aborted()

    def _run(self) -> None:
        while self._deadlines or not self._stopped:
            time.sleep(WATCHDOG_INTERVAL)
            self.abort_overdue()


def abort_connection(conn: Connection) -> None:
    """End a connection under the thread that waits for it, whether psycopg or libpq does the waiting."""
    # It may have ended by itself.
    with suppress(OSError, psycopg.OperationalError):
        shared = socket.socket(fileno=conn.pgconn.socket)
        try:
            shared.shutdown(socket.SHUT_RDWR)
        finally:
            shared.detach()
