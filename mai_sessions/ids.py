"""Identifiers: UUIDs of version 7, whose order is that of their making, so that new rows stand side by side
in an index.
"""

from datetime import UTC, datetime
from uuid import UUID

import uuid_utils
import uuid_utils.compat


def new_id() -> UUID:
    """Make an identifier."""
    return uuid_utils.compat.uuid7()


def new_name() -> str:
    """Make an identifier as text, in less than half the time."""
    return str(uuid_utils.uuid7())


def parse_id(text: str) -> UUID | None:
    """Read an identifier as the service writes it (36 characters, either case); anything else is None."""
    try:
        identifier = UUID(text)
    except ValueError:
        return None
    return identifier if str(identifier) == text.lower() else None


def made_at(identifier: UUID) -> datetime:
    """Return when an identifier of version 7 was made, and now for one of another version."""
    if identifier.version != 7:  # noqa: PLR2004 - the version of RFC 9562 that has a time
        return datetime.now(UTC)
    return datetime.fromtimestamp((identifier.int >> 80) / 1000, UTC)
