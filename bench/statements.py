"""The statements of the repository, recorded for pgbench, for EXPLAIN, and for their bytes of WAL."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from mai_sessions.postgres.adapters import Json
from mai_sessions.postgres.connection import BEGIN, COMMIT, Connection

Run = Callable[[Connection], object]

# A new id for each run of a script, the same in all its statements.
_FRESH = "\\set fresh random(1, 200000000000000)\n"
_FRESH_ID = "('01900000-0000-7000-8000-' || lpad(to_hex(:fresh::bigint), 12, '0'))::uuid"


class Statement(NamedTuple):
    """A statement and its parameters."""

    query: str
    params: Mapping[str, Any]


class _Recorder(Connection):
    """Records the statements that it runs."""

    last: list[Statement]

    def run(self, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False) -> list[TupleRow]:
        self.last = [Statement(query, params)]
        return super().run(query, params, binary=binary)

    def run_all(self, queries: Sequence[LiteralString], params: Mapping[str, Any]) -> list[list[TupleRow]]:
        self.last = [Statement(query, params) for query in queries]
        return super().run_all(queries, params)


def statements_of(database_url: str, run: Run) -> list[Statement]:
    """Run a repository function, roll back, and return the statements of its round trip."""
    with _Recorder.connect(database_url, autocommit=True) as conn:
        with conn.transaction(force_rollback=True):
            run(conn)
        return conn.last


def for_pgbench(statements: Sequence[Statement], fresh: str | None) -> tuple[str, dict[str, str]]:
    """Return the statements as a script of pgbench, several as a pipeline in a transaction, and the texts in
    them, which are its variables.

    `fresh` names an id that each run of the script makes.
    """
    params = statements[0].params
    texts = {
        name: value.decode() if isinstance(value, Json) else value
        for name, value in params.items()
        if isinstance(value, str | Json) and value
    }

    def parameter(match: re.Match[str]) -> str:
        name = match[1]
        if name == fresh:
            return _FRESH_ID
        return f":{name}" if name in texts else sql.Literal(params[name]).as_string()

    def script_of(query: str) -> str:
        return re.sub(r"%\((\w+)\)[sbt]", parameter, query).replace("%%", "%") + ";\n"

    body = "".join(script_of(statement.query) for statement in statements)
    if len(statements) > 1:
        body = f"\\startpipeline\n{BEGIN};\n{body}{COMMIT};\n\\endpipeline\n"
    return (_FRESH if fresh else "") + body, texts


def buffers(database_url: str, statements: Sequence[Statement]) -> int:
    """Return the pages that the statements touch, in the second run."""
    pages = 0
    with psycopg.connect(database_url, options="-c timezone=UTC") as conn:
        for _ in range(2):
            plans = [_explain(conn, statement) for statement in statements]
            pages = sum(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] for plan in plans)
            conn.rollback()
    return pages


def _explain(conn: psycopg.Connection[Any], statement: Statement) -> dict[str, Any]:
    row = conn.execute(
        f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement.query}",
        {
            name: value.decode() if isinstance(value, Json) else value
            for name, value in statement.params.items()
        },
    ).fetchone()
    assert row
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


class WalCounter:
    """Counts the bytes of WAL that are written during a `with`, without full pages after a checkpoint."""

    def __init__(self, database_url: str) -> None:
        self._conn = psycopg.connect(database_url, autocommit=True)
        self.bytes = 0

    def __enter__(self) -> "WalCounter":
        self._set_full_pages("off")
        self._start = self._position()
        return self

    def __exit__(self, *error: object) -> None:
        self.bytes = self._position() - self._start
        self._set_full_pages("on")
        self._conn.close()

    def _set_full_pages(self, value: str) -> None:
        self._conn.execute(f"ALTER SYSTEM SET full_page_writes = {value}")
        self._conn.execute("SELECT pg_reload_conf()")
        # A signal makes the checkpointer apply the setting.
        self._conn.execute("CHECKPOINT")

    def _position(self) -> int:
        row = self._conn.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
        assert row
        return int(row[0])
