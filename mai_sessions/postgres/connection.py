"""A connection to PostgreSQL: how statements are run, and how PostgreSQL's errors are translated."""

import logging
import re
import select
import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, LiteralString, NamedTuple, Self

import psycopg
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, Format, TransactionStatus
from psycopg.pq.abc import PGresult
from psycopg.rows import TupleRow

from mai_sessions.errors import Conflict, SchemaMismatch, Unavailable
from mai_sessions.postgres.adapters import LARGE_VALUE, AdaptedConnection
from mai_sessions.telemetry.request_record import current

log = logging.getLogger(__name__)

_UNAVAILABLE = (
    # No connection, shut down, out of disk, memory or connections, cancelled by statement_timeout, deadlock.
    psycopg.OperationalError,
    # The primary has become a standby.
    psycopg.errors.ReadOnlySqlTransaction,
    # Timeouts that the database or the role sets.
    psycopg.errors.IdleInTransactionSessionTimeout,
    psycopg.errors.TransactionTimeout,
)
_DONE = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
RUN_AGAIN = "PostgreSQL ended a deadlock; the transaction is run again"
_FORMATS = {"s": PyFormat.AUTO, "b": PyFormat.BINARY, "t": PyFormat.TEXT}
# Independent of the default of the database: each statement of a transaction sees the rows of the previous
# writer.
BEGIN: LiteralString = "BEGIN /* begin */ ISOLATION LEVEL READ COMMITTED"
COMMIT: LiteralString = "COMMIT /* commit */"


# What PostgreSQL reports for a statement of this release on the schema of an older one, or on none.
_OLD_SCHEMA = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InvalidColumnReference,
)


class Connection(AdaptedConnection):
    """A connection that remembers what it has prepared."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cursor_factory = _Cursor
        self.prepares = True
        self._transformer = Transformer(self)
        self._statement_names: dict[_StatementKey, bytes] = {}

    @classmethod
    def connect(cls, conninfo: str = "", **options: Any) -> Self:
        """Connect. The option `prepares`, by default true, says whether statements are prepared, each by its
        first run.
        """
        prepares = options.pop("prepares", True)
        # psycopg prepares nothing by itself: a rollback would make it forget that, by DEALLOCATE ALL, and
        # what `run` has prepared with it.
        conn = super().connect(conninfo, prepare_threshold=None, **options)
        conn.prepares = prepares
        return conn

    def run(self, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False) -> list[TupleRow]:
        """Run one statement and return its rows. Raises psycopg.Error.

        Every read runs this, so it calls libpq directly: psycopg's cursor takes longer, and releases the
        interpreter's lock several times where once is enough.
        """
        bound = self._bind(query, params)
        format = Format.BINARY if binary else Format.TEXT
        with _statement_timer(1):
            if self.prepares:
                name = self._statement_names.get(bound.key)
                if name is None:
                    name = self._new_name(bound)
                    self._check(self.pgconn.prepare(name, bound.statement.text, bound.types))
                    self._statement_names[bound.key] = name
                result = self.pgconn.exec_prepared(name, bound.values, bound.formats, format)
            else:
                result = self.pgconn.exec_params(
                    bound.statement.text, bound.values, bound.types, bound.formats, format
                )
            self._check(result)
        return self._rows(result)

    def run_all(self, queries: Sequence[LiteralString], params: Mapping[str, Any]) -> list[list[TupleRow]]:
        """Run statements as one transaction, in one round trip, and return the rows of each.

        Each statement takes from `params` what it names. An error undoes all of them and is raised, as
        psycopg.Error. In a transaction that is open already they become a part of it.
        """
        is_outermost = self.pgconn.transaction_status == TransactionStatus.IDLE
        if is_outermost:
            queries = (BEGIN, *queries, COMMIT)
        commands = self._bind_all(tuple(queries), params)
        with _statement_timer(len(commands) - 2 * is_outermost):
            try:
                results = self._run_pipeline(commands)
            except psycopg.Error:
                if is_outermost and self.pgconn.transaction_status == TransactionStatus.INERROR:
                    self.pgconn.exec_(b"ROLLBACK")
                raise
        rows = [self._rows(result) for result in results]
        return rows[1:-1] if is_outermost else rows

    def _run_pipeline(self, commands: "Sequence[_Bound]") -> list[PGresult]:
        """Send all commands, read all results, and return those of the commands.

        Raises the first psycopg.Error; PostgreSQL skips the commands after it. A connection that breaks is
        closed.
        """
        pgconn, names = self.pgconn, self._statement_names
        # The places among the results of those that prepare a statement.
        new: dict[int, _StatementKey] = {}
        try:
            pgconn.enter_pipeline_mode()
            for place, command in enumerate(commands):
                if not self.prepares:
                    pgconn.send_query_params(
                        command.statement.text, command.values, command.types, command.formats
                    )
                    continue
                if command.key not in names:
                    names[command.key] = self._new_name(command)
                    pgconn.send_prepare(names[command.key], command.statement.text, command.types)
                    new[place + len(new)] = command.key
                pgconn.send_query_prepared(names[command.key], command.values, command.formats)
            pgconn.pipeline_sync()
            if pgconn.flush():
                self._release_values(commands)
            results = self._read_to_sync()
            pgconn.exit_pipeline_mode()
        except psycopg.OperationalError:
            self.close()
            raise
        failed = [result for result in results if result.status not in _DONE]
        if failed:
            for place, key in new.items():
                if results[place].status not in _DONE:
                    del names[key]
            self._check(failed[0])
        return [result for place, result in enumerate(results) if place not in new]

    def _release_values(self, commands: "Sequence[_Bound]") -> None:
        """Give up the values of commands, of which libpq has made copies."""
        for values in filter(None, (command.values for command in commands)):
            self.is_large |= max(len(value or b"") for value in values) > LARGE_VALUE
            values.clear()

    def _read_to_sync(self) -> list[PGresult]:
        """Send what is left to send and read all results. The interpreter's lock is free while this waits,
        which it would not be in libpq's own PQgetResult.
        """
        pgconn, poll = self.pgconn, select.poll()
        poll.register(pgconn.socket, select.POLLIN | select.POLLOUT)
        while pgconn.flush():
            # PostgreSQL stops reading while its results are not read.
            if poll.poll()[0][1] & ~select.POLLOUT:
                pgconn.consume_input()
        poll.modify(pgconn.socket, select.POLLIN)
        results: list[PGresult] = []
        while True:
            while pgconn.is_busy():
                poll.poll()
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                if pgconn.status == ConnStatus.BAD:
                    raise psycopg.OperationalError(pgconn.get_error_message())
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return results
            else:
                if result.status == ExecStatus.FATAL_ERROR and pgconn.status == ConnStatus.BAD:
                    self._check(result)
                results.append(result)

    def _bind(self, query: LiteralString, params: Mapping[str, Any]) -> "_Bound":
        statement, transformer = to_positional(query), self._transformer
        if not statement.names:
            return _Bound(statement, None, None, None, (query, None))
        # Any: psycopg's annotations know no NULL here, while libpq does.
        values: Any = transformer.dump_sequence([params[name] for name in statement.names], statement.formats)
        types = transformer.types
        return _Bound(statement, values, types, transformer.formats, (query, types))

    def _bind_all(self, queries: tuple[LiteralString, ...], params: Mapping[str, Any]) -> "list[_Bound]":
        pipeline, transformer = to_pipeline(queries), self._transformer
        # Any: as in `_bind`.
        values: Any = transformer.dump_sequence([params[name] for name in pipeline.names], pipeline.formats)
        types, formats = transformer.types or (), transformer.formats or ()
        commands = []
        for query, statement, places in zip(queries, pipeline.statements, pipeline.places, strict=True):
            bound_types = tuple([types[place] for place in places])
            commands.append(
                _Bound(
                    statement,
                    [values[place] for place in places],
                    bound_types,
                    [formats[place] for place in places],
                    (query, bound_types),
                )
            )
        return commands

    def _new_name(self, bound: "_Bound") -> bytes:
        return b"%s_%d" % (bound.statement.name, len(self._statement_names))

    def _rows(self, result: PGresult) -> list[TupleRow]:
        if not result.ntuples:
            return []
        self._transformer.set_pgresult(result)
        rows = self._transformer.load_rows(0, result.ntuples, tuple)
        # An idle connection would keep its last result.
        self._transformer.set_pgresult(None)
        return rows

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
        raise_translated(error)
        raise


def run_transaction(
    conn: Connection, queries: Sequence[LiteralString], params: Mapping[str, Any], *, attempts: int = 3
) -> list[list[TupleRow]]:
    """Run statements as one transaction, in one round trip, and return the rows of each.

    Each statement takes from `params` what it names. A transaction that PostgreSQL undoes to end a deadlock
    is run again, unless it is a part of another. Raises Conflict and Unavailable; nothing is written then.
    """
    is_outermost = conn.pgconn.transaction_status == TransactionStatus.IDLE
    try:
        return conn.run_all(queries, params)
    except psycopg.Error as error:
        is_deadlock = isinstance(error, psycopg.errors.DeadlockDetected)
        if not (is_deadlock and is_outermost and attempts > 1):
            raise_translated(error)
            raise
    log.warning(RUN_AGAIN)
    return run_transaction(conn, queries, params, attempts=attempts - 1)


def raise_translated(error: BaseException | None) -> None:
    """Raise Conflict or Unavailable if the error maps to one; otherwise return, and the caller re-raises (a
    bug, logged as 500).
    """
    if isinstance(error, psycopg.errors.UniqueViolation):
        raise Conflict(error.diag.constraint_name or "") from error
    if isinstance(error, _UNAVAILABLE):
        raise Unavailable("Database not available") from error
    if isinstance(error, _OLD_SCHEMA):
        raise SchemaMismatch(
            "The database lacks a migration of this release, which `mai-sessions migrate` applies"
        ) from error
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        raise SchemaMismatch(
            "The role of DATABASE_URL lacks a right, which sql/dba/roles.sql grants"
        ) from error


class Statement(NamedTuple):
    """A statement with positional parameters: the name in its comment, its text, and the names and formats of
    its parameters.
    """

    name: bytes
    text: bytes
    names: list[str]
    formats: list[PyFormat]


_StatementKey = tuple[str, tuple[int, ...] | None]


class _Bound(NamedTuple):
    """A statement with the values of its parameters. It is prepared once for each `key`."""

    statement: Statement
    values: Any
    types: tuple[int, ...] | None
    formats: Any
    key: _StatementKey


@cache
def to_positional(query: LiteralString) -> Statement:
    """Turn the named parameters of a statement into the positional ones that PostgreSQL takes."""
    formats = {name: _FORMATS[letter] for name, letter in re.findall(r"%\((\w+)\)([sbt])", query)}
    names = list(formats)
    text = re.sub(r"%\((\w+)\)[sbt]", lambda found: f"${names.index(found[1]) + 1}", query).replace("%%", "%")
    [name] = re.findall(r"/\* (\w+)", query)
    return Statement(name.encode(), text.encode(), names, list(formats.values()))


class Pipeline(NamedTuple):
    """Statements that are sent together, and the parameters of all of them, each once: their names and
    formats, and where those of each statement stand among them.
    """

    statements: list[Statement]
    names: list[str]
    formats: list[PyFormat]
    places: list[list[int]]


@cache
def to_pipeline(queries: tuple[LiteralString, ...]) -> Pipeline:
    """Merge the parameters of statements, so that a value that several take is written once."""
    statements = [to_positional(query) for query in queries]
    own = [list(zip(each.names, each.formats, strict=True)) for each in statements]
    merged = list(dict.fromkeys(parameter for parameters in own for parameter in parameters))
    places = [[merged.index(parameter) for parameter in parameters] for parameters in own]
    return Pipeline(statements, [name for name, _ in merged], [format for _, format in merged], places)


class _statement_timer:  # noqa: N801 - a context
    """Adds statements that are run in one round trip to the request's record, and the time that they take."""

    __slots__ = ("_started", "_statements")

    def __init__(self, statements: int) -> None:
        self._statements = statements

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        record = current.get()
        if record is not None:
            record.statements += self._statements
            record.round_trips += 1
            record.statement_seconds += time.perf_counter() - self._started


class _Cursor(psycopg.Cursor[TupleRow]):
    """Also counts the statements that are not run by `run` or `run_all`."""

    def execute(self, *args: Any, **kwargs: Any) -> Self:
        with _statement_timer(1):
            return super().execute(*args, **kwargs)
