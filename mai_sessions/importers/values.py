"""Read single values of an export, whose types differ between versions of the product that wrote it."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from mai_sessions.importers.model import Json

# Above this a number of seconds would lie beyond the year 5000, so it is milliseconds.
_MAX_SECONDS = 1e11
_DECIMAL = re.compile(r"\d{6,}(?:\.\d*)?", re.ASCII)


def text(value: object) -> str:
    """Return a string, and "" for anything else."""
    return value if isinstance(value, str) else ""


def mapping(value: object) -> Json:
    """Return an object, and {} for anything else."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """Return an array, and [] for anything else."""
    return value if isinstance(value, list) else []


def objects(value: object) -> list[Json]:
    """Return the objects in an array."""
    return [item for item in sequence(value) if isinstance(item, dict)]


def timestamp(value: object) -> datetime | None:
    """Read seconds or milliseconds, also as text, or ISO 8601, in UTC by default; None for anything else."""
    try:
        if isinstance(value, str):
            if not _DECIMAL.fullmatch(value.strip()):
                moment = datetime.fromisoformat(value.strip())
                return _sane(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
            value = float(value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        return _sane(datetime.fromtimestamp(value / 1000 if abs(value) > _MAX_SECONDS else value, UTC))
    except (ValueError, OverflowError, OSError):
        return None


def _sane(moment: datetime) -> datetime | None:
    """Return None for zero and negative times, which mark a missing time."""
    return moment.astimezone(UTC) if moment.timestamp() > 0 else None


def without_empty(values: Json) -> Json:
    """Leave out empty members."""
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}


def paragraphs(pieces: Iterable[str]) -> str:
    """Join texts by a blank line, without the empty ones."""
    return "\n\n".join(piece for piece in pieces if piece)


def number(value: object) -> Any:
    """Return a number that is not negative, and None for anything else."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 else None
