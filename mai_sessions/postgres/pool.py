"""A pool of connections to one server."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any, Self

import psycopg
import psycopg_pool
from psycopg.conninfo import conninfo_to_dict

from mai_sessions.config import Settings
from mai_sessions.errors import StartupError, Unavailable
from mai_sessions.postgres.connection import Connection, raise_translated
from mai_sessions.postgres.messages import first_line, without_password
from mai_sessions.postgres.session_settings import (
    check_prepared_statements,
    check_server_version,
    check_session_settings,
    connection_parameters,
)
from mai_sessions.postgres.watchdog import Watchdog
from mai_sessions.telemetry.outage import Outage

# How long after statement_timeout a connection is aborted, in seconds.
WATCHDOG_GRACE = 1.0

# The WAL that is received and not yet replayed. A replica that receives nothing counts from the last
# transaction that it has.
REPLICATION_LAG = """
    SELECT /* replication_lag */ CASE
           WHEN NOT pg_is_in_recovery() THEN 0
           WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn()
            AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
           ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END::float8"""


def _reporting_connection(outage: Outage, url: str) -> type[Connection]:
    """Make a class whose failed attempts to connect are noted; psycopg's pool logs each, several a second."""

    class ReportingConnection(Connection):
        @classmethod
        def connect(cls, conninfo: str = "", **options: Any) -> Self:
            try:
                return super().connect(conninfo, **options)
            except psycopg.Error as error:
                outage.fails(without_password(error, url))
                raise

    return ReportingConnection


class Pool:
    """Connections to one server, as many as there are threads at most.

    It is built closed, and opened in the process that uses it, at the latest by the first checkout. A process
    that forks later keeps its connections; the child opens its own.
    """

    def __init__(self, settings: Settings, name: str) -> None:
        """Make the pool of `settings.database_url`; `name` is for logs and metrics."""
        self.name = name
        # Called in the process that opens the pool, because a thread does not survive a fork.
        self.on_open: Callable[[], None] | None = None
        self.on_close: Callable[[], None] | None = None
        self._url = settings.database_url
        self._parameters = connection_parameters(settings)
        self._max_checkout_seconds = settings.statement_timeout + WATCHDOG_GRACE
        self._max_size = settings.threads
        self._lock = threading.Lock()
        self._process: int | None = None
        self._inherited: list[psycopg_pool.ConnectionPool[Connection]] = []
        self._make_pool()

    def _make_pool(self) -> None:
        # Failed connections and failed reads are recorded here.
        self.outage = Outage(f"{self.name} database")
        self._pool = psycopg_pool.ConnectionPool(
            self._url,
            connection_class=_reporting_connection(self.outage, self._url),
            open=False,
            min_size=1,
            max_size=self._max_size,
            # The pool doubles its pauses between attempts to connect, and would stay away as long again as
            # the outage took. So it gives up after one second and reconnects at once.
            # https://www.psycopg.org/psycopg3/docs/api/pool.html (reconnect_timeout)
            reconnect_timeout=1,
            reconnect_failed=reconnect_now,
            kwargs=self._parameters,
            configure=self._configure,
            name=self.name,
        )
        # Idle connections go to the same hung server: replace them.
        self._watchdog = Watchdog(aborted=self._pool.drain)

    def open(self) -> None:
        """Start connecting, without waiting for the first connection."""
        with self._lock:
            if self._process not in (None, os.getpid()):
                # After a fork: two processes that use one connection receive each other's rows. The pool of
                # the parent is kept, because collecting it waits for threads that only the parent has.
                self._inherited.append(self._pool)
                self._make_pool()
            self._pool.open()
            self._watchdog.start()
            if self.on_open:
                self.on_open()
            self._process = os.getpid()

    @property
    def address(self) -> str:
        """The database and host as the URL names them, without the user and password."""
        parameters = conninfo_to_dict(self._url)
        host = parameters.get("host") or parameters.get("service") or "the local socket"
        return f"{parameters.get('dbname') or 'of the user'} on {host}"

    def close(self) -> None:
        """Close every connection, and end the threads. A closed pool cannot be opened again.

        Does nothing in a process that has not opened it: the connections are those of its parent.
        """
        if self._process != os.getpid():
            return
        self._pool.close()
        self._watchdog.stop()
        if self.on_close:
            self.on_close()

    def check(self) -> None:
        """Connect as the pool will.

        Raises StartupError, with the reason, for a server that cannot be used.
        """
        if not self._url:
            raise StartupError("DATABASE_URL is not set")
        # An old server may know neither the settings nor the statements of the other checks.
        with ExitStack() as stack:
            first = stack.enter_context(self._connect())
            check_server_version(first)
            second = stack.enter_context(self._connect())
            try:
                check_session_settings(first)
                if first.prepares:
                    check_prepared_statements(first, second)
            except psycopg.Error as error:
                raise StartupError(f"PostgreSQL cannot be used: {first_line(error)}") from None

    def _connect(self) -> Connection:
        try:
            return Connection.connect(self._url, **self._parameters)
        except (psycopg.Error, UnicodeError) as error:
            reason = without_password(error, self._url)
            hint = (
                "docs/deploy.md explains poolers" if "startup parameter" in reason else "check DATABASE_URL"
            )
            raise StartupError(f"cannot reach PostgreSQL: {reason} ({hint})") from None

    def checkout(self, timeout: float, max_seconds: float | None = None) -> "_Checkout":
        """Check out an autocommit connection, within `timeout` seconds.

        It is aborted when it is not back after `max_seconds`, by default a little more than
        statement_timeout. Raises Conflict and Unavailable in place of the psycopg errors that mean these,
        here and in the block.
        """
        return _Checkout(self, timeout, max_seconds or self._max_checkout_seconds)

    def replication_lag(self, timeout: float) -> float | None:
        """Return by how many seconds the server is behind its primary, or None where it cannot know.

        Waits for a connection, and then for a response, each at most `timeout` seconds. Raises
        Unavailable.
        """
        with self.checkout(timeout, max_seconds=timeout) as conn:
            [(lag,)] = conn.run(REPLICATION_LAG, {})
        return None if lag is None else float(lag)

    def stats(self) -> dict[str, int]:
        """Count the connections (allowed, open, idle) and the requests that wait for one."""
        stats = self._pool.get_stats()
        # Until it has a connection again, the pool counts the requests that have given up, too. At most every
        # thread waits.
        stats["requests_waiting"] = min(stats["requests_waiting"], stats["pool_max"])
        return {name: stats[name] for name in ("pool_max", "pool_size", "pool_available", "requests_waiting")}

    def _configure(self, conn: Connection) -> None:
        # The thread of the pool must not wait for ever either.
        self._watchdog.watch(conn, self._max_checkout_seconds)
        try:
            check_session_settings(conn)
        finally:
            self._watchdog.forget(conn)
        self.outage.responds()

    def _acquire(self, timeout: float) -> Connection:
        """Take a connection that the server has not closed.

        The pool's own check pauses for a second after the second closed connection.
        """
        # uWSGI forks without the hooks of os.register_at_fork.
        if self._process != os.getpid():
            self.open()
        if timeout <= 0:
            raise psycopg_pool.TooManyRequests("too long a wait for a thread")
        deadline = time.monotonic() + timeout
        while True:
            conn = self._pool.getconn(deadline - time.monotonic())
            if is_open(conn):
                return conn
            self._pool.putconn(conn)

    def _release(self, conn: Connection) -> None:
        self._watchdog.forget(conn)
        if conn.is_large:
            # The pool puts another in its place.
            conn.close()
        self._pool.putconn(conn)


class _Checkout:
    """A connection for the length of a `with`. A generator's context takes four times as long."""

    __slots__ = ("_conn", "_max_seconds", "_pool", "_timeout")

    def __init__(self, pool: Pool, timeout: float, max_seconds: float) -> None:
        self._pool, self._timeout, self._max_seconds = pool, timeout, max_seconds

    def __enter__(self) -> Connection:
        try:
            self._conn = self._pool._acquire(self._timeout)
        except psycopg.Error as error:
            raise_translated(error)
            raise
        self._pool._watchdog.watch(self._conn, self._max_seconds)
        return self._conn

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        is_broken = error is not None and self._conn.closed
        self._pool._release(self._conn)
        raise_translated(error)
        # Where two errors end the connection, as those of PostgreSQL and of a pooler, psycopg raises another.
        if is_broken and isinstance(error, psycopg.Error):
            raise Unavailable("Database not available") from error


def is_open(conn: Connection) -> bool:
    """Return whether the server has left an idle connection open. It has sent nothing but its end, so no
    round trip is needed.

    `consume_input` keeps the interpreter's lock; `poll` would release it, and take it again beside busy
    threads.
    """
    try:
        # A server that shuts down sends a message first, and only then the end.
        conn.pgconn.consume_input()
        conn.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True


def reconnect_now(pool: psycopg_pool.ConnectionPool[Connection]) -> None:
    """Make the pool connect again: a checkout starts an attempt, which serves all requests that wait."""
    with suppress(psycopg_pool.PoolTimeout):
        pool.putconn(pool.getconn(timeout=0.001))
