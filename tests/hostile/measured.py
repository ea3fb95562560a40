"""A service whose requests are measured one by one."""

from collections.abc import Callable
from typing import NamedTuple

from support.costs import Cost, Meter
from support.figures import FULL
from support.service import Service

# The sizes, as multiples of the smallest.
TIMES = (1, 2, 4, 8) if FULL else (1, 8)
# The smallest size of a text without a limit, and of one in a query, in bytes.
BASE, QUERY_BASE = (128 if FULL else 16) * 1024, 256
# Eight times the size may cost twice eight times as much; 64 times would be quadratic.
SLACK = 2
# The cost of an empty request on a slow machine.
FLOOR = 0.008
TRIES = 4


class Measured(NamedTuple):
    """A service, what measures it, a session and a message in it, and a session that grows."""

    service: Service
    meter: Meter
    ids: dict[str, str]
    appended: str


def check_growth(measure: Callable[[int], Cost], name: str) -> None:
    """Measure each size once, and again where it seems to grow faster than the size: others use the machine,
    too.
    """
    costs: dict[int, float] = {}
    for _ in range(TRIES):
        for times in TIMES:
            cost = measure(times)
            assert cost.status < 500, (name, times, cost)
            costs[times] = min(cost.cpu, costs.get(times, cost.cpu))
        if all(costs[times] <= SLACK * times * max(costs[1], FLOOR) for times in TIMES):
            return
    raise AssertionError((name, {times: f"{seconds * 1000:.0f} ms" for times, seconds in costs.items()}))
