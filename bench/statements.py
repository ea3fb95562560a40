"""The statements of our calls, as the repository runs them: for pgbench, for EXPLAIN, and for the bytes that
they log.
"""

import re
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any, LiteralString, NamedTuple

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from mai_sessions.postgres.connection import Connection

Run = Callable[[Connection], object]


class Statement(NamedTuple):
    """A statement and its parameters."""

    query: str
    params: Mapping[str, Any]


class _Recorder(Connection):
    last: Statement

    def run(self, query: LiteralString, params: Mapping[str, Any], *, binary: bool = False) -> list[TupleRow]:
        self.last = Statement(query, params)
        return super().run(query, params, binary=binary)


def statement_of(database_url: str, run: Run) -> Statement:
    """Run a repository function, undo it, and return its statement."""
    with _Recorder.connect(database_url, autocommit=True) as conn:
        with conn.transaction(force_rollback=True):
            run(conn)
        return conn.last


def for_pgbench(statement: Statement, fresh: str | None) -> tuple[str, dict[str, str]]:
    """The statement as a script of pgbench, and the texts in it, which are its variables.

    `fresh` names an id that is made anew each time.
    """
    texts = {name: value for name, value in statement.params.items() if isinstance(value, str) and value}

    def parameter(match: re.Match[str]) -> str:
        name = match[1]
        if name == fresh:
            return "uuidv7()"
        return f":{name}" if name in texts else sql.Literal(statement.params[name]).as_string()

    return re.sub(r"%\((\w+)\)[sbt]", parameter, statement.query).replace("%%", "%") + ";\n", texts


def buffers(database_url: str, statement: Statement) -> int:
    """How many pages the statement touches, on the second run."""
    with psycopg.connect(database_url, options="-c timezone=UTC") as conn:
        for _ in range(2):
            plan = explain(conn, statement, "BUFFERS")
            conn.rollback()
    pages: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return pages


def explain(conn: psycopg.Connection[Any], statement: Statement, option: str) -> dict[str, Any]:
    """Run the statement; what its topmost node says."""
    row = conn.execute(
        f"EXPLAIN (ANALYZE, {option}, FORMAT JSON) {statement.query}", statement.params
    ).fetchone()
    assert row
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


def wal_bytes(database_url: str, runs: list[Run]) -> float:
    """Bytes of WAL that one of the runs writes, whole pages after a checkpoint left out; the median."""
    written: list[int] = []
    with psycopg.connect(database_url, autocommit=True) as conn:
        for run in runs:
            plan = explain(conn, statement_of(database_url, run), "WAL")
            if not plan.get("WAL FPI"):
                written.append(plan["WAL Bytes"])
    return median(written)
