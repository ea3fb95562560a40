"""The figures of a fault, which `make faults` prints."""

import os
from collections import Counter
from dataclasses import dataclass, field

# `make faults` tests at full size, the suite at a smaller one.
FULL = os.environ.get("FAULTS") == "full"


@dataclass
class Figures:
    """The observations of the clients during a fault. Times are in seconds; None was not measured."""

    fault: str
    sent: int = 0
    acknowledged: int = 0
    retried: int = 0
    lost: int | None = None
    doubled: int | None = None
    longest: float = 0.0
    first_success: float | None = None
    statuses: Counter[str] = field(default_factory=Counter)
