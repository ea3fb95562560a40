"""The pools of connections to PostgreSQL."""

import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from typing import Any, Concatenate, ParamSpec, TypeVar

import psycopg
import psycopg_pool

from mai_sessions.config import Settings
from mai_sessions.errors import StartupError, Unavailable
from mai_sessions.postgres.connection import Connection, raise_ours
from mai_sessions.telemetry.logs import describe
from mai_sessions.telemetry.request_record import current

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# In seconds: how long after statement_timeout PostgreSQL is given up, and how often that is looked at.
_GRACE = 1.0
_LOOK = 0.5
# How long a read waits for a connection to the replica, and how long a replica that failed is left alone.
REPLICA_WAIT = 0.25
REPLICA_REST = 5.0

# What has been received and not yet replayed. A replica that receives nothing counts from the last
# transaction that it has.
REPLICATION_LAG = b"""
    SELECT /* replication_lag */ CASE
           WHEN NOT pg_is_in_recovery() THEN 0
           WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() AND EXISTS (SELECT FROM pg_stat_wal_receiver) THEN 0
           ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END"""


class Database:
    """A pool that is built closed, so that a process may fork, and opened by the first use in the process
    that uses it.
    """

    def __init__(self, settings: Settings, *, name: str = "primary") -> None:
        self._url = settings.database_url
        self._kwargs = _connection_parameters(settings)
        self._pool = psycopg_pool.ConnectionPool(
            self._url,
            connection_class=Connection,
            open=False,
            min_size=1,
            max_size=settings.threads,
            # The pool doubles its pauses between attempts to connect: after a long outage it would stay away
            # for as long again. It is made to give up soon, and asked anew.
            reconnect_timeout=1,
            reconnect_failed=_ask_anew,
            kwargs=self._kwargs,
            configure=self._configure,
            name=name,
        )
        self._pool_timeout = settings.pool_timeout
        self._longest = settings.statement_timeout + _GRACE
        self._lent_at: dict[Connection, float] = {}
        self._lock = threading.Lock()
        self.replica: Database | None = None
        if settings.read_url:
            self.replica = Database(
                replace(settings, database_url=settings.read_url, read_url=""), name="replica"
            )
        self._replica_rests_until = 0.0

    def refuse_unfit_connections(self) -> None:
        """Connect once, as the pool will. Raises StartupError for a connection that cannot be had, or not be
        used.
        """
        try:
            with Connection.connect(self._url, **self._kwargs) as conn:
                _configure(conn)
        except psycopg.Error as error:
            reason = str(error).strip().partition("\n")[0]
            raise StartupError(
                f"no connection to PostgreSQL that fits: {reason} (docs/deploy.md tells of poolers)"
            ) from None

    def open(self) -> None:
        """Start connecting, without waiting for the first connection."""
        for database in filter(None, [self, self.replica]):
            database._pool.open()
            threading.Thread(target=database._watch, name="watchdog", daemon=True).start()

    def pools(self) -> dict[str, Callable[[], dict[str, int]]]:
        """Return the function that counts the connections of each server, by the server's name."""
        return {database._pool.name: database.pool_figures for database in filter(None, [self, self.replica])}

    def close(self) -> None:
        """Close every connection; there is no opening again."""
        self._pool.close()
        if self.replica:
            self.replica.close()

    def probe(self, timeout: float) -> None:
        """Have PostgreSQL answer within so many seconds, to get a connection and again to use it. Raises
        Unavailable.

        The wait is ours: a server that hangs keeps no deadline, and no thread may be left to wait for it.
        """
        self._ask(b"SELECT /* probe */ 1", timeout)

    def replication_lag(self, timeout: float) -> float | None:
        """Tell how many seconds this database is behind its primary, None when nobody knows. Raises
        Unavailable, as `probe`.
        """
        lag = self._ask(REPLICATION_LAG, timeout)
        return None if lag is None else float(lag)

    def _ask(self, query: bytes, timeout: float) -> bytes | None:
        answer = None
        with _Lent(self, timeout) as conn:
            conn.pgconn.send_query(query)
            deadline = time.monotonic() + timeout
            poll = select.poll()
            poll.register(conn.pgconn.socket, select.POLLIN)
            while conn.pgconn.is_busy():
                if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                    conn.close()
                    raise psycopg.OperationalError(f"no answer within {timeout} s")
                conn.pgconn.consume_input()
            while result := conn.pgconn.get_result():
                answer = result.get_value(0, 0)
        return answer

    def pool_figures(self) -> dict[str, int]:
        """How many connections there may be, are and are free, and how many requests wait for one."""
        figures = self._pool.get_stats()
        # Until it has a connection again, the pool counts those that have given up, too; and there are no
        # more threads than these.
        figures["requests_waiting"] = min(figures["requests_waiting"], figures["pool_max"])
        return {
            name: figures[name] for name in ("pool_max", "pool_size", "pool_available", "requests_waiting")
        }

    def connection(self) -> AbstractContextManager[Connection]:
        """Lend an autocommit connection. Raises Conflict and Unavailable for what PostgreSQL says so."""
        record = current.get()
        # Time spent queueing for a thread counts against the pool timeout.
        return _Lent(self, self._pool_timeout - (record.queue_seconds if record else 0.0))

    def stale_read(
        self, read: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that only reads, with a connection to the replica: what it reads may be a moment
        old.

        Without a replica, or when it fails for any reason, the primary is read instead; one that failed is
        left alone for a while."""
        if self.replica:
            if time.monotonic() >= self._replica_rests_until:
                try:
                    # Not less for a request that has waited for a thread: that says nothing of the replica.
                    with _Lent(self.replica, REPLICA_WAIT) as conn:
                        return read(conn, *args, **kwargs)
                # Away, too slow, or ahead with what the statement reads (a conflict with recovery).
                # ProgrammingError: its schema is behind, or its role may not read.
                except (Unavailable, psycopg.ProgrammingError) as error:
                    self._replica_rests_until = time.monotonic() + REPLICA_REST
                    log.warning(
                        "the replica failed, so the primary is read: %s", describe(error.__cause__ or error)
                    )
            if record := current.get():
                record.replica_fallbacks += 1
        with self.connection() as conn:
            return read(conn, *args, **kwargs)

    def _configure(self, conn: Connection) -> None:
        # It is lent to the pool's own thread, which must not be left waiting either.
        self._lent_at[conn] = time.monotonic()
        try:
            _configure(conn)
        finally:
            self._is_back(conn)

    def _is_back(self, conn: Connection) -> None:
        with self._lock:
            self._lent_at.pop(conn, None)

    def _take(self, timeout: float) -> Connection:
        """Take a connection that the server has not closed. The pool's own check pauses for a second where
        two are closed.
        """
        if self._pool.closed:
            self._pool.open()
        if timeout <= 0:
            raise psycopg_pool.TooManyRequests("too long a wait for a thread")
        deadline = time.monotonic() + timeout
        while True:
            conn = self._pool.getconn(deadline - time.monotonic())
            if _is_open(conn):
                self._lent_at[conn] = time.monotonic()
                return conn
            self._pool.putconn(conn)

    def _take_back(self, conn: Connection) -> None:
        self._is_back(conn)
        self._pool.putconn(conn)

    def _watch(self) -> None:
        """Hang up on a server that keeps a request longer than statement_timeout allows.

        That one is the server's to keep. Where it hangs, or the network or a proxy before it, the kernel may
        go on to get its acknowledgements, and a thread would wait for good."""
        while True:
            time.sleep(_LOOK)
            overdue = time.monotonic() - self._longest
            # The lock keeps a connection from being returned, and its descriptor from becoming another's.
            with self._lock:
                hung = [conn for conn, lent_at in list(self._lent_at.items()) if lent_at < overdue]
                for conn in hung:
                    del self._lent_at[conn]
                    _hang_up(conn)
            if hung:
                # The idle ones lead to the same place.
                self._pool.drain()


class _Lent:
    """A connection for the length of a `with`. A class, as a generator's context takes four times as long."""

    __slots__ = ("_conn", "_database", "_timeout")

    def __init__(self, database: Database, timeout: float) -> None:
        self._database, self._timeout = database, timeout

    def __enter__(self) -> Connection:
        try:
            self._conn = self._database._take(self._timeout)
        except psycopg.Error as error:
            raise_ours(error)
            raise
        return self._conn

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self._database._take_back(self._conn)
        raise_ours(error)


def _connection_parameters(settings: Settings) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "autocommit": True,
        "application_name": "mai-sessions",
        # Less than a request waits for a connection, so that it sees a second attempt.
        "connect_timeout": 3,
        "prepares": settings.prepare == "on",
    }
    # A pooler that knows no prepared statements knows no options either: the role has to carry them.
    if settings.prepare == "on":
        # One plan for each prepared statement: they are written so that the values make no difference, and
        # planning the search anew costs more than running it, as compiling it (jit) would.
        parameters["options"] = (
            "-c timezone=UTC -c plan_cache_mode=force_generic_plan -c jit=off"
            f" -c statement_timeout={settings.statement_timeout * 1000:.0f}"
        )
    return parameters


# Citus finds the shard by the values, so there a plan for any value is none at all.
CONFIGURE = """
    SELECT /* configure */ current_setting('TimeZone'), current_setting('statement_timeout'),
           (SELECT set_config('plan_cache_mode', 'auto', false) FROM pg_extension WHERE extname = 'citus')"""


def _configure(conn: Connection) -> None:
    """Make a new connection ready. Raises OperationalError when it would write other timestamps, or run a
    statement for ever.

    A pooler may have been told to drop the options, and says nothing then.
    """
    row = conn.execute(CONFIGURE).fetchone()
    assert row is not None
    if row[0] != "UTC" or row[1] == "0":
        raise psycopg.OperationalError(
            f"it has timezone {row[0]} and statement_timeout {row[1]}, and needs UTC and a limit: "
            "behind a pooler the role must carry them, as sql/dba/roles.sql sets"
        )


def _is_open(conn: Connection) -> bool:
    """Tell whether the server has closed it. An idle one has nothing to read but its end, so no round trip is
    needed.

    libpq's own look keeps the interpreter's lock. poll() lets go of it, and beside a busy thread it takes 30
    µs to get it back."""
    try:
        # A server that shuts down says so first, and only then comes the end.
        conn.pgconn.consume_input()
        conn.pgconn.consume_input()
    except psycopg.OperationalError:
        return False
    return True


def _hang_up(conn: Connection) -> None:
    """End a connection under whoever waits for it, whether psycopg or libpq does the waiting."""
    # It may have ended by itself.
    with suppress(OSError, psycopg.OperationalError):
        shared = socket.socket(fileno=conn.pgconn.socket)
        try:
            shared.shutdown(socket.SHUT_RDWR)
        finally:
            shared.detach()


def _ask_anew(pool: psycopg_pool.ConnectionPool[Connection]) -> None:
    """Have the pool connect again: it does so for whoever asks, and for those who wait already."""
    with suppress(psycopg_pool.PoolTimeout):
        pool.putconn(pool.getconn(timeout=0.001))
