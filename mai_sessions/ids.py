"""Identifiers: UUIDs of version 7. They sort by their time, so new rows are neighbours in an index."""

from uuid import UUID

import uuid_utils
import uuid_utils.compat


def new_id() -> UUID:
    """Return a new identifier."""
    return uuid_utils.compat.uuid7()


def new_name() -> str:
    """Return a new identifier as text, without making a UUID first."""
    return str(uuid_utils.uuid7())


def parse_id(text: str) -> UUID | None:
    """Parse an identifier of 36 characters, in either case. Return None for anything else."""
    try:
        identifier = UUID(text)
    except ValueError:
        return None
    return identifier if str(identifier) == text.lower() else None
