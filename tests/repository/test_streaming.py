"""The writes of an answer that streams by many PATCHes: HOT updates, no index, little WAL."""

import os
import random
from collections.abc import Callable, Iterator
from typing import Any, LiteralString
from uuid import UUID

import pytest

from mai_sessions.content.message import NewMessage
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository import appends, creations, patches, search

USER = "streamer"
# 6,000 PATCHes with STREAMED_ANSWERS=40.
ANSWERS, PATCHES, CHARACTERS = int(os.environ.get("STREAMED_ANSWERS", "10")), 150, 8_000
# Bytes of WAL for a PATCH, on average over an answer that grows to 8 kB.
MOST_WAL = 5_000
_chance = random.Random(16)
_vocabulary = ["".join(_chance.choices("aeioulnrst", k=1 + place % 9)) for place in range(5_000)]
ANSWER = (
    " ".join(_chance.choices(_vocabulary, k=CHARACTERS))[: CHARACTERS - len(" peroration")] + " peroration"
)

UPDATES: LiteralString = """
    SELECT n_tup_upd, n_tup_hot_upd, n_dead_tup FROM pg_stat_user_tables WHERE relname = %s"""
INDEX_BYTES: LiteralString = """
    SELECT sum(pg_relation_size(indexrelid))
      FROM pg_index WHERE indrelid IN ('messages'::regclass, 'sessions'::regclass)"""
WAL_BYTES: LiteralString = """
    SELECT coalesce(sum(s.wal_bytes), 0)
      FROM pg_stat_statements AS s
      JOIN pg_database AS d ON d.oid = s.dbid AND d.datname = current_database()
     WHERE s.query LIKE '%patch_message%'"""


@pytest.fixture
def own(make_migrated_database: Callable[[], str]) -> Iterator[Connection]:
    """A connection to a database of its own, whose statistics neither other tests nor autovacuum change."""
    with Connection.connect(make_migrated_database(), autocommit=True, options="-c timezone=UTC") as conn:
        for table in ("messages", "sessions"):
            conn.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
        yield conn


@pytest.fixture
def streams(own: Connection) -> list[tuple[UUID, UUID]]:
    """Sessions with an answer that has just begun: the id of each, and of its message."""
    streams = []
    for _ in range(ANSWERS):
        session_id = creations.create_session(own, USER, creations.NewSession(new_id(), "t", "chat")).id
        answer = NewMessage("assistant", "", 0, status="streaming")
        streams.append((session_id, appends.append_messages(own, USER, session_id, [answer]).ids[0]))
    return streams


def stream(conn: Connection, session_id: UUID, message_id: UUID) -> None:
    """Patch a growing answer, each time with all of its text."""
    for number in range(1, PATCHES + 1):
        content = ANSWER[: CHARACTERS * number // PATCHES]
        patches.patch_message(conn, USER, session_id, message_id, content=content, count_tokens=len)


def fetch(conn: Connection, query: LiteralString, *params: str) -> tuple[Any, ...]:
    """Read figures of the statistics, after this connection's own have been added to them."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute(query, params or None).fetchone()
    assert row
    return row


def test_streaming_patches_update_rows_in_place(own: Connection, streams: list[tuple[UUID, UUID]]) -> None:
    before = {table: fetch(own, UPDATES, table) for table in ("messages", "sessions")}
    for session_id, message_id in streams:
        stream(own, session_id, message_id)
    for table, (updated, hot, _) in before.items():
        now_updated, now_hot, dead = fetch(own, UPDATES, table)
        updates = now_updated - updated
        assert updates == ANSWERS * PATCHES
        # Only a row that its page has no room for moves to another, where every index has to find it.
        assert updates - (now_hot - hot) <= 0.05 * updates
        # Dead rows are removed when their page is full, so a few rows of the newest PATCHes are left.
        assert dead <= 40 * ANSWERS


def test_streaming_patches_write_no_index(own: Connection, streams: list[tuple[UUID, UUID]]) -> None:
    before = fetch(own, INDEX_BYTES)
    for session_id, message_id in streams:
        stream(own, session_id, message_id)
    # For rows that moved to another page. Entries for each PATCH would take a hundred pages.
    assert fetch(own, INDEX_BYTES)[0] - before[0] <= 4 * 8192


def test_streaming_patches_write_little_wal(own: Connection, streams: list[tuple[UUID, UUID]]) -> None:
    if "pg_stat_statements" not in fetch(own, "SHOW shared_preload_libraries")[0]:
        pytest.skip("only pg_stat_statements counts the WAL of one database")
    own.execute("CREATE EXTENSION pg_stat_statements")
    [before] = fetch(own, WAL_BYTES)
    for session_id, message_id in streams:
        stream(own, session_id, message_id)
    [after] = fetch(own, WAL_BYTES)
    assert 0 < after - before <= ANSWERS * PATCHES * MOST_WAL


def test_last_patch_of_a_stream_brings_words_and_sums(
    own: Connection, streams: list[tuple[UUID, UUID]]
) -> None:
    def found() -> bool:
        return b'"seq":1' in search.search(own, USER, q="peroration", limit=1)

    def sums() -> tuple[Any, ...]:
        return fetch(own, "SELECT sum(token_count) FROM daily_usage WHERE part = 'total'")

    [(session_id, message_id), *_] = streams
    [[updated_at]] = own.execute("SELECT updated_at FROM sessions WHERE id = %s", [session_id]).fetchall()
    stream(own, session_id, message_id)
    assert (found(), sums()) == (False, (0,))
    patches.patch_message(
        own, USER, session_id, message_id, status="complete", count_tokens=lambda text: len(text.split())
    )
    assert (found(), sums()) == (True, (len(ANSWER.split()),))
    query = "SELECT updated_at > %s FROM sessions WHERE id = %s"
    assert own.execute(query, [updated_at, session_id]).fetchone() == (True,)
