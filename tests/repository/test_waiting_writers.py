"""A writer that waits for another one sees what that has written."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from uuid import UUID

import orjson
import psycopg
import pytest
from support.races import wait_until_blocked

from mai_sessions.config import Settings
from mai_sessions.content.attachments import Attachment
from mai_sessions.content.message import NewMessage
from mai_sessions.content.metadata import MAX_METADATA, Metadata
from mai_sessions.errors import Invalid, NotFound
from mai_sessions.idempotency import IdempotencyKey
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.database import Database
from mai_sessions.repository import appends, creations, patches

Conn = psycopg.Connection[Any]
T = TypeVar("T")
USER = "waiter"


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[Database]:
    database = Database(Settings(database_url=database_url))
    yield database
    database.close()


@pytest.fixture
def stream(conn: Conn, database: Database) -> tuple[str, UUID, UUID]:
    """The ids of a message that streams: its user, session and own."""
    with database.connection() as pooled:
        session_id = creations.create_session(pooled, USER, creations.NewSession(new_id(), "x", "chat")).id
        message = NewMessage("assistant", "", 0, status="streaming")
        [message_id] = appends.append_messages(pooled, USER, session_id, [message]).ids
    return USER, session_id, message_id


def write_both(
    conn: Conn, database: Database, first: Callable[[Connection], object], second: Callable[[Connection], T]
) -> T:
    """Run two writes. The second one begins before the first one commits, and waits for that."""

    def run() -> T:
        with database.connection() as pooled:
            return second(pooled)

    with ThreadPoolExecutor(1) as thread:
        with database.connection() as writer, writer.transaction():
            first(writer)
            waiting = thread.submit(run)
            wait_until_blocked(conn)
        return waiting.result()


def test_piece_of_a_stream_after_its_end_does_not_begin_it_again(
    conn: Conn, database: Database, stream: tuple[str, UUID, UUID]
) -> None:
    def end(writer: Connection) -> None:
        patches.patch_message(writer, *stream, content="The end", status="complete", count_tokens=len)

    reply = write_both(conn, database, end, lambda late: patches.patch_stream(late, *stream, content="The e"))
    assert reply is None
    assert conn.execute("SELECT content, status FROM messages").fetchall() == [("The end", "complete")]
    assert conn.execute("SELECT last_message_preview FROM sessions").fetchall() == [("The end",)]


def test_pieces_of_two_streams_of_a_session_are_both_written(
    conn: Conn, database: Database, stream: tuple[str, UUID, UUID]
) -> None:
    with database.connection() as pooled:
        other = NewMessage("assistant", "", 0, status="streaming")
        [other_id] = appends.append_messages(pooled, *stream[:2], [other]).ids
    reply = write_both(
        conn,
        database,
        lambda writer: patches.patch_stream(writer, *stream, content="one"),
        lambda writer: patches.patch_stream(writer, *stream[:2], other_id, content="two"),
    )
    assert reply is not None
    contents = conn.execute("SELECT content, words FROM messages ORDER BY seq").fetchall()
    assert contents == [("one", ""), ("two", "")]


@pytest.mark.parametrize("streams", [True, False])
def test_metadata_that_two_writers_merge_into_a_message_stay_within_their_limit(
    conn: Conn, database: Database, stream: tuple[str, UUID, UUID], streams: bool
) -> None:
    def merge(writer: Connection, key: str) -> None:
        value = orjson.dumps({key: "x" * (MAX_METADATA // 2)})
        metadata = Metadata(value, value, ())
        if not streams or patches.patch_stream(writer, *stream, metadata=metadata) is None:
            patches.patch_message(writer, *stream, metadata=metadata, count_tokens=len)

    with pytest.raises(Invalid, match="after the merge"):
        write_both(conn, database, lambda writer: merge(writer, "a"), lambda writer: merge(writer, "b"))
    assert conn.execute("SELECT metadata ? 'a', metadata ? 'b' FROM messages").fetchall() == [(True, False)]


def test_key_of_a_session_that_is_deleted_meanwhile_is_not_replayed(conn: Conn, database: Database) -> None:
    def create(pooled: Connection) -> creations.SessionReply:
        session = creations.NewSession(new_id(), "x", "chat")
        return creations.create_session(pooled, USER, session, key=IdempotencyKey("sessions", "k", b"x"))

    def delete(writer: Connection) -> None:
        # Between the statements of the retry that look for the key and read it.
        writer.execute("LOCK TABLE session_titles IN SHARE MODE")
        writer.execute("DELETE FROM sessions")

    with database.connection() as pooled:
        create(pooled)
    reply = write_both(conn, database, delete, create)
    assert not reply.is_replay
    assert conn.execute("SELECT id FROM sessions").fetchall() == [(reply.id,)]


def test_append_after_one_of_release_0_1_names_it_as_parent(
    conn: Conn, database: Database, stream: tuple[str, UUID, UUID]
) -> None:
    parent_id = new_id()

    def append_as_0_1(writer: Connection) -> None:
        writer.execute("UPDATE sessions SET message_count = 2, last_seq = 2, newest_seq = 2")
        writer.execute(
            """
            INSERT INTO messages (user_id, session_id, id, seq, role, content, token_count, is_error, images,
                                  documents, created_at)
            VALUES (%s, %s, %s, 2, 'user', 'x', 1, false, '{}', '{}', now())""",
            [*stream[:2], parent_id],
        )

    def append(writer: Connection) -> appends.AppendReply:
        return appends.append_messages(writer, *stream[:2], [NewMessage("user", "y", 1)])

    reply = write_both(conn, database, append_as_0_1, append)
    assert orjson.loads(reply.messages[0])["parent_id"] == str(parent_id)


def test_append_to_a_missing_session_does_not_wait_for_its_user(conn: Conn, database: Database) -> None:
    """It would deadlock with a writer that makes the session and then counts it."""
    file = Attachment("ab" * 32, "image/png", b"x")
    message = NewMessage("user", "look", 1, images=[file.sha256], attachments=[file])
    with database.connection() as pooled:
        creations.create_session(pooled, USER, creations.NewSession(new_id(), "x", "chat"))
        with conn.transaction():
            conn.execute("SELECT FROM users WHERE user_id = %s FOR UPDATE", [USER])
            with pytest.raises(NotFound):
                appends.append_messages(
                    pooled, USER, new_id(), [message], changes={"archived": True}, is_batch=True
                )
