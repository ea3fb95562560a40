"""What writes leave behind: streaming PATCHes are HOT and write little WAL; a message is written once.

The module has a PostgreSQL of its own: a long transaction keeps dead rows alive in all databases of a server.
"""

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from mai_sessions.content.message import NewMessage
from mai_sessions.embedded import private_postgres
from mai_sessions.ids import new_id
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository import appends, creations, patches, search

USER = "streamer"
# 6,000 PATCHes with STREAMED_ANSWERS=40.
ANSWERS, PATCHES, CHARACTERS = int(os.environ.get("STREAMED_ANSWERS", "10")), 150, 8_000
# Bytes of WAL for a PATCH, on average over an answer that grows to 8 kB.
MOST_WAL = 5_000
# The share of PATCHes that move a row to another page, where every index has to find it. PostgreSQL removes
# dead rows from a page when less than a tenth of it is free, so a row of 0.8 to 2 kB may find its page full.
# A smaller row finds room, and the content of a larger one is stored apart.
MOST_MOVED = {"messages": 0.03, "sessions": 0.01}
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


@pytest.fixture(scope="module")
def server_url(data_dir: Path) -> Iterator[str]:
    options = {"fsync": "off", "autovacuum": "off", "shared_preload_libraries": "pg_stat_statements"}
    with private_postgres.postgresql(data_dir, options) as url:
        yield url


@pytest.fixture
def own(server_url: str) -> Iterator[Connection]:
    """A connection to an empty database with the schema."""
    name = f"writes_{uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0".encode())
    url = make_conninfo(server_url, dbname=name)
    migrations.migrate(url, "on")
    with Connection.connect(url, autocommit=True, options="-c timezone=UTC") as conn:
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
        patches.patch_stream(conn, USER, session_id, message_id, content=content)


def fetch(conn: Connection, query: LiteralString, *params: str) -> tuple[Any, ...]:
    """Read figures of the statistics, after this connection's own have been added to them."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute(query, params or None).fetchone()
    assert row
    return row


def test_streaming_patches_update_rows_in_place(own: Connection, streams: list[tuple[UUID, UUID]]) -> None:
    before = {table: fetch(own, UPDATES, table) for table in MOST_MOVED}
    for session_id, message_id in streams:
        stream(own, session_id, message_id)
    for table, (updated, hot, _) in before.items():
        now_updated, now_hot, dead = fetch(own, UPDATES, table)
        updates = now_updated - updated
        assert updates == ANSWERS * PATCHES
        assert updates - (now_hot - hot) <= MOST_MOVED[table] * updates
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


def test_append_that_names_the_head_as_its_parent_writes_its_row_once(own: Connection) -> None:
    session_id = creations.create_session(own, USER, creations.NewSession(new_id(), "t", "chat")).id

    def append(parent_id: UUID) -> UUID:
        message = NewMessage("user", "text", 1, parent_id=parent_id)
        return appends.append_messages(own, USER, session_id, [message]).ids[0]

    [first_id] = appends.append_messages(own, USER, session_id, [NewMessage("user", "text", 1)]).ids
    append(append(first_id))
    assert fetch(own, UPDATES, "messages")[0] == 0
    append(first_id)
    assert fetch(own, UPDATES, "messages")[0] == 1
