"""What a fault brought, in the figures that `make faults` prints."""

import os
from collections import Counter
from dataclasses import dataclass, field

# `make faults` runs all at full size; the suite makes do with less.
FULL = os.environ.get("FAULTS") == "full"


@dataclass
class Figures:
    """What the clients of a fault saw. Times in seconds; None is what was not looked at."""

    fault: str
    sent: int = 0
    acknowledged: int = 0
    retried: int = 0
    lost: int | None = None
    doubled: int | None = None
    longest: float = 0.0
    first_success: float | None = None
    statuses: Counter[str] = field(default_factory=Counter)
