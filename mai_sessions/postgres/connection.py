"""A connection to PostgreSQL: how a statement is run, and PostgreSQL's errors as ours."""

import re
import time
from collections.abc import Mapping
from functools import cache
from typing import Any, LiteralString, NamedTuple, Self

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Loader, PyFormat, Transformer
from psycopg.pq import DiagnosticField, ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from mai_sessions.errors import Conflict, Unavailable
from mai_sessions.telemetry.request_record import current

_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_FORMATS = {"s": PyFormat.AUTO, "b": PyFormat.BINARY, "t": PyFormat.TEXT}


class Connection(psycopg.Connection[TupleRow]):
    """A connection that remembers what it has prepared, and leaves JSON as PostgreSQL wrote it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = _Cursor
        self.adapters.register_loader("json", _BytesLoader)
        self.prepares = True
        self._transformer = Transformer(self)
        self._statement_names: dict[tuple[str, tuple[int, ...] | None], bytes] = {}

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect. The option `prepares`, by default true, says whether statements are prepared, each by its
        first run.
        """
        prepares = options.pop("prepares", True)
        # psycopg prepares nothing by itself: a rollback would make it forget that, by DEALLOCATE ALL, and
        # ours with it.
        conn = super().connect(conninfo, prepare_threshold=None, **options)
        conn.prepares = prepares
        return conn

    def run(self, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False) -> list[TupleRow]:
        """Run one statement and return its rows. Raises psycopg.Error.

        This is what every request runs, so it goes to libpq directly: psycopg's cursor takes twice as long,
        and lets go of the interpreter's lock several times where once is enough."""
        statement, pgconn, transformer = numbered(query), self.pgconn, self._transformer
        # Any: psycopg's annotations know no NULL here, while libpq does.
        values: Any = transformer.dump_sequence([params[name] for name in statement.names], statement.formats)
        types, formats, format = (
            transformer.types,
            transformer.formats,
            Format.BINARY if binary else Format.TEXT,
        )
        with _counted():
            if self.prepares:
                result = pgconn.exec_prepared(self._prepare(query, statement, types), values, formats, format)
            else:
                result = pgconn.exec_params(statement.text, values, types, formats, format)
            self._check(result)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    def _prepare(self, query: str, statement: "Statement", types: tuple[int, ...] | None) -> bytes:
        name = self._statement_names.get((query, types))
        if name is None:
            name = b"%s_%d" % (statement.name, len(self._statement_names))
            self._check(self.pgconn.prepare(name, statement.text, types))
            self._statement_names[query, types] = name
        return name

    def _check(self, result: PGresult) -> None:
        if result.status in _DONE:
            return
        # PostgreSQL's errors have a code. One without is libpq's: the connection has broken, though its
        # status may not tell yet.
        if not result.error_field(DiagnosticField.SQLSTATE):
            self.close()
            raise psycopg.OperationalError(result.get_error_message())
        raise psycopg.errors.error_from_result(result, self.info.encoding)


def fetch_one(
    conn: Connection, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False
) -> TupleRow | None:
    """Run one statement and return its first row, or None. Raises Conflict and Unavailable."""
    rows = fetch_all(conn, query, params, binary=binary)
    return rows[0] if rows else None


def fetch_all(
    conn: Connection, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False
) -> list[TupleRow]:
    """Run one statement and return its rows. Raises Conflict and Unavailable."""
    try:
        return conn.run(query, params, binary=binary)
    except psycopg.Error as error:
        raise_ours(error)
        raise


def raise_ours(error: BaseException | None) -> None:
    """Raise ours for an error of psycopg's. Does nothing for one that no rule foresees, a defect for the log."""
    if isinstance(error, psycopg.errors.UniqueViolation):
        raise Conflict(error.diag.constraint_name or "") from error
    # OperationalError: no connection, shut down, out of disk, memory or connections, cancelled by
    # statement_timeout, deadlock. ReadOnlySqlTransaction: the primary has become a standby.
    if isinstance(error, psycopg.OperationalError | psycopg.errors.ReadOnlySqlTransaction):
        raise Unavailable("Database not available") from error


class Statement(NamedTuple):
    """A statement with numbered parameters: the name in it, its text, and the names and formats of its
    parameters.
    """

    name: bytes
    text: bytes
    names: list[str]
    formats: list[PyFormat]


@cache
def numbered(query: LiteralString) -> Statement:
    """Give the named parameters of a statement numbers, as PostgreSQL wants them."""
    formats = {name: _FORMATS[letter] for name, letter in re.findall(r"%\((\w+)\)([sbt])", query)}
    names = list(formats)
    text = re.sub(r"%\((\w+)\)[sbt]", lambda found: f"${names.index(found[1]) + 1}", query).replace("%%", "%")
    [name] = re.findall(r"/\* (\w+)", query)
    return Statement(name.encode(), text.encode(), names, list(formats.values()))


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


class _Cursor(psycopg.Cursor[TupleRow]):
    """Counts the statements that are not run by `run`, too."""

    def execute(self, *args: Any, **kwargs: Any) -> Self:
        with _counted():
            return super().execute(*args, **kwargs)


class _BytesLoader(Loader):
    """JSON that PostgreSQL built goes to the client as it came."""

    def load(self, data: Buffer) -> bytes:
        return bytes(data)
