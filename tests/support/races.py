"""Calls that run at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import sleep
from typing import Any, TypeVar

import psycopg
from support import citus

T = TypeVar("T")


def at_once(number: int, work: Callable[[int], T]) -> list[T]:
    """Call `work` with 0 … number - 1, each in a thread of its own and all at the same moment.

    Returns the results in the order of the numbers. Raises the error of the first call that failed.
    """
    barrier = threading.Barrier(number)

    def run(index: int) -> T:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(number) as threads:
        return list(threads.map(run, range(number)))


def wait_until_blocked(conn: psycopg.Connection[Any]) -> None:
    """Wait until a statement waits for a lock in this database, on any node of a cluster."""
    waiting = (
        b"SELECT FROM citus_lock_waits"
        if citus.CITUS_URL
        else b"SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    for _ in range(1000):
        if conn.execute(waiting).rowcount:
            return
        sleep(0.01)
    raise AssertionError("nothing waits for a lock")
