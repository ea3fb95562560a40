"""Cursors: where a page begins, as text that clients hand back."""

from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import NamedTuple
from uuid import UUID

from mai_sessions.ids import parse_id

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Bounds that exclude nothing.
EARLIEST = datetime.min.replace(tzinfo=UTC)
LATEST = datetime.max.replace(tzinfo=UTC)


class SessionPosition(NamedTuple):
    """Where a page of sessions begins: the keys of the session before it, by default before all sessions."""

    updated_at: datetime = LATEST
    id: UUID = UUID(int=2**128 - 1)


def session_cursor(keys: str) -> str:
    """Return the position after a session as a cursor. `keys` are its `updated_at`, in microseconds since
    1970, and its id, with a dot between them.
    """
    return f"{keys}.{_checksum(keys)}"


def parse_session_cursor(cursor: str) -> SessionPosition:
    """Return the position of a cursor.

    Raises ValueError for any text that `session_cursor` did not return.
    """
    text, _, checksum = cursor.rpartition(".")
    microseconds, _, session_id = text.partition(".")
    position_id = parse_id(session_id)
    if position_id is None or checksum != _checksum(text):
        raise ValueError("Damaged cursor")
    try:
        return SessionPosition(_from_microseconds(microseconds), position_id)
    except OverflowError as error:
        raise ValueError("Not a moment") from error


class SearchPosition(NamedTuple):
    """Where a page of search results begins: the keys of the result before it in its window, where the window
    begins among messages and among titles, and when the first page was read.
    """

    rank: float = float("inf")
    created_at: datetime = LATEST
    id: UUID = UUID(int=0)
    messages_before: datetime = LATEST
    message_before: UUID = UUID(int=0)
    titles_before: datetime = LATEST
    title_before: UUID = UUID(int=0)
    read_at: datetime = LATEST


def search_cursor(position: SearchPosition) -> str:
    """Return a position as a cursor."""
    rank, *keys = position
    text = "~".join([rank.hex(), *(_to_text(key) for key in keys if isinstance(key, datetime | UUID))])
    return f"{text}~{_checksum(text)}"


def parse_search_cursor(cursor: str) -> SearchPosition:
    """Return the position of a cursor. Raises ValueError for any text that `search_cursor` did not return."""
    text, _, checksum = cursor.rpartition("~")
    if checksum != _checksum(text):
        raise ValueError("Damaged cursor")
    rank, created_at, id_, messages, message, titles, title, read_at = text.split("~")
    try:
        return SearchPosition(
            float.fromhex(rank),
            _from_microseconds(created_at),
            UUID(id_),
            _from_microseconds(messages),
            UUID(message),
            _from_microseconds(titles),
            UUID(title),
            _from_microseconds(read_at),
        )
    except OverflowError as error:
        raise ValueError("Not a moment") from error


def _checksum(text: str) -> str:
    # It detects damage, and is not a secret: a client may put any keys into a cursor.
    return md5(text.encode(), usedforsecurity=False).hexdigest()[:8]


def _to_text(key: datetime | UUID) -> str:
    return str((key - _EPOCH) // timedelta(microseconds=1) if isinstance(key, datetime) else key)


def _from_microseconds(microseconds: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))
