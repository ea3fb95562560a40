"""The pool of connections to PostgreSQL, and PostgreSQL's errors as ours."""

import re
import select
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, LiteralString, NamedTuple, Self

import psycopg
import psycopg_pool
from psycopg.abc import Buffer
from psycopg.adapt import Loader, PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from mai_sessions.config import Settings
from mai_sessions.errors import Conflict, Unavailable
from mai_sessions.metrics import Metrics
from mai_sessions.request_record import current

_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_FORMATS = {"s": PyFormat.AUTO, "b": PyFormat.BINARY, "t": PyFormat.TEXT}


class Connection(psycopg.Connection[TupleRow]):
    """A connection that remembers what it has prepared, and leaves JSON as PostgreSQL wrote it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = _Cursor
        self.adapters.register_loader("json", _BytesLoader)
        self._transformer = Transformer(self)
        self._statement_names: dict[tuple[str, tuple[int, ...] | None], bytes] = {}

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect. psycopg prepares nothing by itself: a rollback would make it forget that by DEALLOCATE ALL, and ours with it."""
        return super().connect(conninfo, prepare_threshold=None, **options)

    def run(self, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False) -> list[TupleRow]:
        """Run one statement, prepared by the first of its kind, and return its rows. Raises psycopg.Error.

        This is what every request runs, so it goes to libpq directly: psycopg's cursor takes twice as long, and lets go of the
        interpreter's lock several times where once is enough.
        """
        statement = _numbered(query)
        values = self._transformer.dump_sequence([params[name] for name in statement.names], statement.formats)
        kind = query, self._transformer.types
        with _counted():
            if kind not in self._statement_names:
                name = b"%s_%d" % (statement.name, len(self._statement_names))
                self._checked(self.pgconn.prepare(name, statement.text, self._transformer.types))
                self._statement_names[kind] = name
            # Its annotation knows no NULL, while libpq does.
            known: Any = values
            result = self._checked(
                self.pgconn.exec_prepared(self._statement_names[kind], known, self._transformer.formats, Format(binary))
            )
        self._transformer.set_pgresult(result)
        return self._transformer.load_rows(0, result.ntuples, tuple)

    def _checked(self, result: PGresult) -> PGresult:
        if result.status in _DONE:
            return result
        if self.pgconn.status == ConnStatus.BAD:
            raise psycopg.OperationalError(self.pgconn.get_error_message())
        raise psycopg.errors.error_from_result(result, self.info.encoding)


class _Statement(NamedTuple):
    """A statement with numbered parameters: the name in it, its text, and the names and formats of its parameters."""

    name: bytes
    text: bytes
    names: list[str]
    formats: list[PyFormat]


@cache
def _numbered(query: LiteralString) -> _Statement:
    """Give the named parameters of a statement numbers, as PostgreSQL wants them."""
    formats = {name: _FORMATS[letter] for name, letter in re.findall(r"%\((\w+)\)([sbt])", query)}
    names = list(formats)
    text = re.sub(r"%\((\w+)\)[sbt]", lambda found: f"${names.index(found[1]) + 1}", query).replace("%%", "%")
    [name] = re.findall(r"/\* (\w+)", query)
    return _Statement(name.encode(), text.encode(), names, list(formats.values()))


class Database:
    """A pool that is built closed, so that a process may fork, and opened by the first use in the process that uses it."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._pool = psycopg_pool.ConnectionPool(
            settings.database_url,
            connection_class=Connection,
            open=False,
            min_size=1,
            max_size=settings.threads,
            timeout=settings.pool_timeout,
            kwargs={
                "autocommit": True,
                "application_name": "mai-sessions",
                "connect_timeout": 5,
                # One plan for each prepared statement: they are written so that the values make no difference, and planning the
                # search anew costs more than running it, as compiling it (jit) would.
                "options": "-c timezone=UTC -c plan_cache_mode=force_generic_plan -c jit=off"
                f" -c statement_timeout={settings.statement_timeout * 1000:.0f}",
            },
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
        with translated_errors():
            conn = self._pool.getconn()
            try:
                yield conn
            finally:
                self._pool.putconn(conn)


class _Cursor(psycopg.Cursor[TupleRow]):
    """Counts the statements of the request, and their time."""

    def execute(self, *args: Any, **kwargs: Any) -> Self:
        with _counted():
            return super().execute(*args, **kwargs)


def fetch_one(conn: Connection, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False) -> TupleRow | None:
    """Run one statement and return its first row, or None. Raises Conflict and Unavailable."""
    rows = fetch_all(conn, query, params, binary=binary)
    return rows[0] if rows else None


def fetch_all(conn: Connection, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False) -> list[TupleRow]:
    """Run one statement and return its rows. Raises Conflict and Unavailable."""
    with translated_errors():
        return conn.run(query, params, binary=binary)


class _counted:  # noqa: N801 - a context
    """Counts a statement of the request, and its time."""

    __slots__ = ("_started",)

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        record = current.get()
        if record is not None:
            record.statements += 1
            record.statement_seconds += time.perf_counter() - self._started


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


class _BytesLoader(Loader):
    """JSON that PostgreSQL built goes to the client as it came."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)
