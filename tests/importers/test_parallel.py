"""Work on several connections at once."""

from collections.abc import Iterator

import psycopg
import pytest

from mai_sessions.importers.parallel import map_connections
from mai_sessions.postgres.connection import Connection


@pytest.fixture
def conns(database_url: str) -> Iterator[list[Connection]]:
    """Two connections."""
    with (
        Connection.connect(database_url, autocommit=True) as first,
        Connection.connect(database_url, autocommit=True) as second,
    ):
        yield [first, second]


def sleep(conn: Connection, seconds: float) -> float:
    conn.execute("SELECT pg_sleep(%s)", [seconds])
    return seconds


def test_results_come_in_the_order_of_the_items(conns: list[Connection]) -> None:
    items = [0.1, 0.0, 0.05, 0.0]
    assert list(map_connections(sleep, conns, items)) == items


def test_items_are_read_as_they_are_needed(conns: list[Connection]) -> None:
    read = 0

    def items() -> Iterator[float]:
        nonlocal read
        for _ in range(100):
            read += 1
            yield 0.0

    results = map_connections(sleep, conns, items())
    next(results)
    assert read == 3


def test_error_ends_the_work_though_the_server_hangs(conns: list[Connection], conn: Connection) -> None:
    pids = [each.info.backend_pid for each in conns]

    def hang(conn: Connection, _: int) -> None:
        conn.execute("SELECT pg_sleep(3600)")

    def items() -> Iterator[int]:
        yield 0
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(map_connections(hang, conns, items()))
    with pytest.raises(psycopg.OperationalError):
        conns[0].execute("SELECT 1")
    # Their snapshots would keep VACUUM and REINDEX CONCURRENTLY of other tests waiting.
    conn.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s::int[]) AS pid", [pids])
