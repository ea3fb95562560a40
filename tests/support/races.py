"""Calls that run at once."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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
