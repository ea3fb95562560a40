"""Identifiers: UUIDs of version 7, whose order is that of their making, so that new rows stand side by side in an index."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """Make an identifier."""
    return uuid7()


def parse_id(text: str) -> UUID | None:
    """Read an identifier as the service writes it (36 characters, either case); anything else is None."""
    try:
        identifier = UUID(text)
    except ValueError:
        return None
    return identifier if str(identifier) == text.lower() else None
