"""Store conversations so that a second run adds only what is new."""

from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from mai_sessions.importers.model import Message
from mai_sessions.importers.prepare import Preparation
from mai_sessions.importers.values import timestamp
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository.imports import Batch, ImportedMessage, StoredSession, read_stored, write_batch

_BATCH_MESSAGES = 100
_BATCH_BYTES = 16 * 1024 * 1024


class Outcome(NamedTuple):
    """The result for a conversation: `new`, `grown` or `unchanged`, and the number of messages added."""

    word: str
    added: int


class _Overtaken(Exception):
    """The session was written by another client since it was read."""


def store(conn: Connection, user_id: str, preparation: Preparation, *, dry_run: bool = False) -> Outcome:
    """Store a conversation, or what of it is not stored yet, in transactions of up to 100 messages.

    Each transaction leaves a session that is whole as far as it goes, and the next run completes it.
    """
    while True:
        stored = read_stored(conn, user_id, preparation.session_id)
        missing = _missing(preparation, stored)
        if not dry_run and (missing or stored is None):
            try:
                _write(conn, user_id, preparation, stored, missing)
            except _Overtaken:
                continue
        if stored is None:
            return Outcome("new", len(missing))
        return Outcome("grown" if missing else "unchanged", len(missing))


def _missing(preparation: Preparation, stored: StoredSession | None) -> list[Message]:
    """Return the messages to add. One that an earlier run has added, and that is gone, was deleted since."""
    messages = preparation.conversation.messages
    if stored is None:
        return messages
    is_stored = [preparation.ids[message.id] in stored.seqs for message in messages]
    missing = [message for message, there in zip(messages, is_stored, strict=True) if not there]
    until = timestamp((stored.origin or {}).get("until"))
    # `last_seq` counts every message that the session has ever had.
    if until is None or len(stored.seqs) == stored.last_seq:
        return missing
    # The newest stored message. A message without a time of its own was there if it stands before it.
    newest = max((place for place, there in enumerate(is_stored) if there), default=-1)
    earlier = {message.id for message in messages[:newest]}

    def was_there(message: Message) -> bool:
        return message.id in earlier if message.is_undated else preparation.time_of(message) <= until

    return [message for message in missing if not was_there(message)]


def _write(
    conn: Connection,
    user_id: str,
    preparation: Preparation,
    stored: StoredSession | None,
    missing: list[Message],
) -> None:
    places = _Places(preparation, stored, missing)
    session = preparation.session() if stored is None else stored.version
    for batch in _batches(preparation, places, missing):
        version = write_batch(conn, user_id, preparation.session_id, session, batch)
        if version is None:
            raise _Overtaken
        session = version


def _batches(preparation: Preparation, places: "_Places", missing: list[Message]) -> Iterator[Batch]:
    """Yield the messages in batches, at least one. Only the images of one batch are in memory."""
    rows: list[ImportedMessage] = []
    size, updated_at = 0, preparation.updated_at
    for number, message in enumerate(missing, 1):
        seq, parent_seq = places.take(message)
        row = preparation.message(message, seq=seq, parent_seq=parent_seq)
        rows.append(row)
        size += sum(len(attachment.content) for attachment in row.attachments)
        if number < len(missing) and (len(rows) == _BATCH_MESSAGES or size > _BATCH_BYTES):
            yield places.batch(rows, updated_at=updated_at, origin=None)
            rows, size = [], 0
    yield places.batch(rows, updated_at=updated_at, origin=preparation.finished_origin())


class _Places:
    """Numbers new messages after those that are stored, and finds their parents."""

    def __init__(
        self, preparation: Preparation, stored: StoredSession | None, missing: list[Message]
    ) -> None:
        messages = preparation.conversation.messages
        self._ids = preparation.ids
        self._parents = {message.id: message.parent_id for message in messages}
        self._seqs: dict[UUID, int] = dict(stored.seqs) if stored else {}
        self._newest = max(self._seqs.values(), default=0)
        self._last = stored.last_seq if stored else 0
        self._is_branched = False
        self._kept_seqs = stored is None and _has_seqs(messages)
        # A user who has added a message after the import keeps that branch.
        moved = stored is not None and stored.head_id is not None and stored.head_id not in self._ids.values()
        self._head = stored.head_id if stored and moved else None
        self._file_head = preparation.conversation.head_id

    def take(self, message: Message) -> tuple[int, int | None]:
        """Return the place of a new message, and its parent's unless that is the message before it."""
        seq = message.seq if self._kept_seqs and message.seq else self._last + 1
        parent_seq = self._seq_of(message.parent_id) or 0
        is_next = parent_seq == self._newest
        self._is_branched |= not is_next
        self._seqs[self._ids[message.id]] = self._last = self._newest = seq
        return seq, None if is_next else parent_seq

    def batch(self, rows: list[ImportedMessage], *, updated_at: datetime, origin: bytes | None) -> Batch:
        """Return the batch of the messages that were placed last."""
        head_seq = self._seqs.get(self._head) if self._head else self._seq_of(self._file_head)
        # Until the shown message is stored, the newest is the head.
        head_seq = head_seq or self._newest or None
        is_branched = self._is_branched or head_seq not in (None, self._newest)
        return Batch(rows, head_seq, is_branched, updated_at, origin)

    def _seq_of(self, message_id: str | None) -> int | None:
        """Return the place of a message of the file or of its nearest ancestor that is stored."""
        while message_id is not None:
            if (seq := self._seqs.get(self._ids[message_id])) is not None:
                return seq
            message_id = self._parents[message_id]
        return None


def _has_seqs(messages: list[Message]) -> bool:
    """Return whether an export of this service numbers its messages, so that they keep their numbers."""
    seqs = [message.seq for message in messages if message.seq is not None]
    return len(seqs) == len(messages) and all(before < after for before, after in pairwise([0, *seqs]))
