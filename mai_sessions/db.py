"""The pool of connections to PostgreSQL, and PostgreSQL's errors as ours."""

import select
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString, Self

import psycopg
import psycopg_pool
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import TupleRow

from mai_sessions.config import Settings
from mai_sessions.errors import Conflict, Unavailable
from mai_sessions.metrics import Metrics
from mai_sessions.request_record import current

Connection = psycopg.Connection[TupleRow]


class Database:
    """A pool that is built closed, so that a process may fork, and opened by the first use in the process that uses it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pool = psycopg_pool.ConnectionPool(
            settings.database_url,
            open=False,
            min_size=1,
            max_size=settings.threads,
            timeout=settings.pool_timeout,
            kwargs={
                "autocommit": True,
                "application_name": "mai-sessions",
                "connect_timeout": 5,
                "cursor_factory": _Cursor,
                # One plan for each prepared statement: they are written so that the values make no difference, and planning the
                # search anew costs more than running it, as compiling it (jit) would.
                "options": "-c timezone=UTC -c plan_cache_mode=force_generic_plan -c jit=off"
                f" -c statement_timeout={settings.statement_timeout * 1000:.0f}",
            },
            configure=_load_json_as_bytes,
            check=_check_open,
            name="mai-sessions",
        )

    def open(self) -> None:
        """Start connecting, without waiting for the first connection."""
        self._pool.open()
        self._metrics.start(self.pool_figures)

    def close(self) -> None:
        """Close every connection; there is no opening again."""
        self._pool.close()

    def probe(self, timeout: float) -> None:
        """Have PostgreSQL answer within so many seconds, to get a connection and again to use it. Raises Unavailable.

        The wait is ours: a server that hangs keeps no deadline, and no thread may be left to wait for it.
        """
        self._pool.open()
        with translated_errors(), self._pool.connection(timeout) as conn:
            conn.pgconn.send_query(b"SELECT /* probe */ 1")
            deadline = time.monotonic() + timeout
            poll = select.poll()
            poll.register(conn.pgconn.socket, select.POLLIN)
            while conn.pgconn.is_busy():
                if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                    conn.close()
                    raise psycopg.OperationalError(f"no answer within {timeout} s")
                conn.pgconn.consume_input()
            while conn.pgconn.get_result():
                pass

    def pool_figures(self) -> dict[str, int]:
        """How many connections there may be, are and are free, and how many requests wait for one."""
        figures = self._pool.get_stats()
        return {name: figures[name] for name in ("pool_max", "pool_size", "pool_available", "requests_waiting")}

    @contextmanager
    def connection(self) -> Generator[Connection]:
        """Lend an autocommit connection. Raises Conflict and Unavailable for what PostgreSQL says so."""
        self._pool.open()
        with translated_errors(), self._pool.connection() as conn:
            yield conn


class _Cursor(psycopg.Cursor[TupleRow]):
    """Counts the statements of the request, and their time."""

    def execute(self, *args: Any, **kwargs: Any) -> Self:
        record = current.get()
        if record is None:
            return super().execute(*args, **kwargs)
        started = time.perf_counter()
        try:
            return super().execute(*args, **kwargs)
        finally:
            record.statements += 1
            record.statement_seconds += time.perf_counter() - started


def fetch_one(conn: Connection, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False) -> TupleRow | None:
    """Run one statement and return its first row, or None. Raises Conflict and Unavailable."""
    with translated_errors():
        return conn.execute(query, params, binary=binary).fetchone()


def unindented(statement: LiteralString) -> LiteralString:
    """Shorten a long statement: psycopg keeps its translation only up to 4,096 characters, and else makes it for each request."""
    return "\n".join(line.strip() for line in statement.splitlines())


@contextmanager
def translated_errors() -> Generator[None]:
    """Turn psycopg's errors into ours; one that no rule foresees stays what it is, a defect for the log."""
    try:
        yield
    except psycopg.errors.UniqueViolation as error:
        raise Conflict(error.diag.constraint_name or "") from error
    # OperationalError: no connection, shut down, out of disk, memory or connections, cancelled by statement_timeout,
    # deadlock. ReadOnlySqlTransaction: the primary has become a standby.
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
        raise Unavailable("Database not available") from error


def _check_open(conn: Connection) -> None:
    """Refuse a connection that the server has closed. An idle one has nothing to read but its end, so no round trip is needed.

    libpq's own look keeps the interpreter's lock. poll() lets go of it, and beside a busy thread it takes 30 µs to get it back.
    """
    # A server that shuts down says so first, and only then comes the end.
    conn.pgconn.consume_input()
    conn.pgconn.consume_input()


def _load_json_as_bytes(conn: Connection) -> None:
    conn.adapters.register_loader("json", _BytesLoader)


class _BytesLoader(Loader):
    """JSON that PostgreSQL built goes to the client as it came."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)
