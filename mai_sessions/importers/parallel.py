"""Work on several connections at once, with results in the order of the items."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.watchdog import abort_connection

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_connections(
    work: Callable[[Connection, _Item], _Result], conns: Sequence[Connection], items: Iterable[_Item]
) -> Iterator[_Result]:
    """Yield `work(conn, item)` of each item in order, while the connections work at the same time.

    One item more than there are connections is in memory at most. Whatever ends the work early, an error or a
    signal, aborts the connections, so that no thread waits for a server that hangs.
    """
    idle: SimpleQueue[Connection] = SimpleQueue()
    for conn in conns:
        idle.put(conn)

    def run(item: _Item) -> _Result:
        conn = idle.get()
        try:
            return work(conn, item)
        finally:
            idle.put(conn)

    running: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(len(conns)) as threads:
        try:
            for item in items:
                running.append(threads.submit(run, item))
                if len(running) > len(conns):
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            for conn in conns:
                abort_connection(conn)
            raise
