"""Concurrent writers: nothing is lost, nothing is counted twice."""

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, LiteralString
from uuid import UUID

import orjson
import psycopg
import pytest
from support.races import at_once, wait_until_blocked

from mai_sessions.config import Settings
from mai_sessions.content.attachments import Attachment
from mai_sessions.content.message import NewMessage
from mai_sessions.errors import NotFound
from mai_sessions.idempotency import IdempotencyKey
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import RUN_AGAIN, Connection, run_transaction
from mai_sessions.postgres.database import Database
from mai_sessions.repository import appends, creations, messages, patches, session_batches

Conn = psycopg.Connection[Any]
USER = "racer"
THREADS = 32


@pytest.fixture(scope="module")
def database(database_url: str) -> Iterator[Database]:
    """A pool with a connection for every thread."""
    database = Database(
        Settings(database_url=database_url, threads=THREADS, pool_timeout=60, statement_timeout=60)
    )
    yield database
    database.close()


@pytest.fixture
def session_id(conn: Conn, database: Database) -> UUID:
    """A new session."""
    with database.connection() as pooled:
        return create(pooled, new_id())


def create(conn: Connection, session_id: UUID) -> UUID:
    return creations.create_session(conn, USER, creations.NewSession(session_id, "x", "chat")).id


def append(conn: Connection, session_id: UUID, content: str, images: Sequence[Attachment] = ()) -> UUID:
    message = NewMessage("user", content, 1, images=[image.sha256 for image in images], attachments=images)
    return appends.append_messages(conn, USER, session_id, [message]).ids[0]


def remove(conn: Connection, removal: str, session_id: UUID, message_id: UUID) -> None:
    if removal == "delete":
        messages.delete_message(conn, USER, session_id, message_id)
    elif removal == "clear":
        messages.clear_messages(conn, USER, session_id)
    else:
        session_batches.delete_session(conn, USER, session_id)


def check_counters(conn: Conn) -> None:
    """Check that the counters equal the numbers of rows."""
    wrong = conn.execute(
        """
        SELECT s.id, s.message_count, s.newest_seq, s.last_message_preview, m.count, m.newest, m.preview
          FROM sessions AS s
         CROSS JOIN LATERAL (
               SELECT count(*)::int AS count, max(seq) AS newest,
                      (array_agg(left(content, 100) ORDER BY seq DESC))[1] AS preview
                 FROM messages
                WHERE user_id = s.user_id AND session_id = s.id) AS m
         WHERE (s.message_count, s.newest_seq, s.last_message_preview)
               IS DISTINCT FROM (m.count, m.newest, m.preview)
            OR m.newest > s.last_seq"""
    ).fetchall()
    assert wrong == []
    miscounted = conn.execute(
        """
        SELECT user_id, session_count FROM users AS u
         WHERE session_count <> (SELECT count(*) FROM sessions AS s WHERE s.user_id = u.user_id)"""
    ).fetchall()
    assert miscounted == []


def test_parallel_appends_number_without_gaps(conn: Conn, database: Database, session_id: UUID) -> None:
    def work(index: int) -> None:
        for number in range(index, 1000, THREADS):
            with database.connection() as pooled:
                append(pooled, session_id, str(number))

    at_once(THREADS, work)
    rows = conn.execute("SELECT seq, content, created_at FROM messages ORDER BY seq").fetchall()
    assert [seq for seq, _, _ in rows] == list(range(1, 1001))
    assert sorted(int(content) for _, content, _ in rows) == list(range(1000))
    assert sorted(rows, key=lambda row: row[2]) == rows
    assert conn.execute("SELECT message_count, last_seq, newest_seq FROM sessions").fetchone() == (
        1000,
        1000,
        1000,
    )
    check_counters(conn)


@pytest.mark.parametrize("seed", range(4))
def test_counters_stay_true(conn: Conn, database: Database, session_id: UUID, seed: int) -> None:
    ids: list[UUID] = []

    def work(index: int) -> None:
        chance = random.Random(f"{seed} {index}")
        for number in range(40):
            actions = ["append", "patch", "delete", "delete_newest", "clear"]
            [action] = chance.choices(actions, [8, 6, 4, 4, 1])
            with database.connection() as pooled, suppress(NotFound, IndexError):
                if action == "append":
                    ids.append(append(pooled, session_id, f"{index} {number} " * 30))
                elif action == "patch":
                    patches.patch_message(
                        pooled, USER, session_id, ids[-1], content=f"new {index} {number}", count_tokens=len
                    )
                elif action == "delete":
                    messages.delete_message(pooled, USER, session_id, chance.choice(ids))
                elif action == "delete_newest":
                    messages.delete_message(pooled, USER, session_id, ids[-1])
                else:
                    messages.clear_messages(pooled, USER, session_id)

    at_once(8, work)
    check_counters(conn)


def test_sessions_are_counted(conn: Conn, database: Database) -> None:
    def work(index: int) -> None:
        chance = random.Random(index)
        mine: list[UUID] = []
        for _ in range(30):
            with database.connection() as pooled:
                if mine and chance.random() < 0.5:
                    session_batches.delete_session(pooled, USER, mine.pop())
                else:
                    mine.append(create(pooled, new_id()))

    at_once(8, work)
    check_counters(conn)


def test_session_created_and_deleted_at_once_is_whole(conn: Conn, database: Database) -> None:
    """A client may choose the id, so a session can be created and deleted at once. Neither waits for ever."""
    ids = [new_id(), new_id()]

    def work(index: int) -> None:
        chance = random.Random(index)
        for _ in range(60):
            with database.connection() as pooled, suppress(NotFound):
                if chance.random() < 0.5:
                    session_batches.delete_session(pooled, USER, chance.choice(ids))
                else:
                    create(pooled, chance.choice(ids))

    at_once(8, work)
    check_counters(conn)


LEFT = {
    ("delete", "append"): (3, 4, "four"),
    ("delete", "patch"): (2, 2, "2"),
    ("delete", "delete"): (1, 2, "two"),
    ("clear", "append"): (0, None, None),
    ("clear", "patch"): (0, None, None),
    ("clear", "delete"): (0, None, None),
    ("delete_session", "append"): None,
    ("delete_session", "patch"): None,
    ("delete_session", "delete"): None,
}


@pytest.mark.parametrize(("removal", "other"), LEFT)
def test_removal_sees_the_change_of_an_earlier_writer(
    conn: Conn, database: Database, session_id: UUID, removal: str, other: str
) -> None:
    """The removal waits for a writer whose change its snapshot does not show."""
    with database.connection() as pooled:
        first, second, third = (append(pooled, session_id, content) for content in ("one", "two", "three"))

    def remove_third() -> None:
        with database.connection() as pooled:
            remove(pooled, removal, session_id, third)

    thread = threading.Thread(target=remove_third)
    with database.connection() as writer:
        with writer.transaction():
            if other == "append":
                append(writer, session_id, "four")
            elif other == "patch":
                patches.patch_message(
                    writer, USER, session_id, second, content="2", token_count=1, count_tokens=len
                )
            else:
                messages.delete_message(writer, USER, session_id, first)
            thread.start()
            wait_until_blocked(conn)
        thread.join()
    check_counters(conn)
    row = conn.execute("SELECT message_count, newest_seq, last_message_preview FROM sessions").fetchone()
    assert row == LEFT[removal, other]


@pytest.mark.parametrize("key", [None, IdempotencyKey("sessions/batch", "once", b"x")], ids=["", "keyed"])
@pytest.mark.parametrize("action", ["delete", "archive"])
def test_batch_reports_what_it_does_to_a_session_made_meanwhile(
    conn: Conn, database: Database, session_id: UUID, action: str, key: IdempotencyKey | None
) -> None:
    """The batch waits for a writer of one session when the other is made."""
    made, replies = new_id(), []

    def batch_sessions() -> None:
        with database.connection() as pooled:
            replies.append(session_batches.batch_sessions(pooled, USER, [session_id, made], action, key=key))

    batch = threading.Thread(target=batch_sessions)
    with database.connection() as writer:
        with writer.transaction():
            append(writer, session_id, "one")
            batch.start()
            wait_until_blocked(conn)
            with database.connection() as other:
                create(other, made)
        batch.join()
    check_counters(conn)
    left = conn.execute("SELECT id FROM sessions WHERE NOT archived").fetchall()
    reply = orjson.loads(replies[0].body)
    assert session_id not in {id for (id,) in left}
    assert [str(id) for (id,) in left] == reply["not_found"]


@pytest.mark.parametrize("removal", ["delete", "clear", "delete_session"])
def test_images_are_locked_in_order(
    conn: Conn, database: Database, database_url: str, session_id: UUID, removal: str
) -> None:
    """A removal that waits for an image holds none of a later name: an append that holds the first may want
    them all.
    """
    images = [
        Attachment(name, "image/png", b"x") for name in sorted(new_id().hex[::-1] * 2 for _ in range(20))
    ]
    with database.connection() as pooled:
        append(pooled, create(pooled, new_id()), "look", images)
        message_id = append(pooled, session_id, "look", images)
    for image in random.sample(images, len(images)):
        conn.execute("UPDATE attachments SET size = size WHERE sha256 = %s", [image.sha256])

    def remove_it() -> None:
        # Whatever the plan: here the rows come as they lie, and that is at random.
        options = "-c enable_indexscan=off -c enable_indexonlyscan=off -c enable_bitmapscan=off"
        with Connection.connect(database_url, autocommit=True, options=options) as own:
            remove(own, removal, session_id, message_id)

    thread = threading.Thread(target=remove_it)
    with database.connection() as writer:
        with writer.transaction():
            writer.execute(
                "SELECT 1 FROM attachments WHERE user_id = %s AND sha256 = %s FOR UPDATE",
                [USER, images[0].sha256],
            )
            thread.start()
            wait_until_blocked(conn)
            free = conn.execute(
                "SELECT 1 FROM attachments WHERE user_id = %s FOR UPDATE SKIP LOCKED", [USER]
            ).rowcount
        thread.join()
    assert free == len(images) - 1
    assert conn.execute("SELECT 1 FROM attachments WHERE reference_count = 1").rowcount == len(images)
    check_counters(conn)


def test_writers_of_shared_images_do_not_deadlock(conn: Conn, database: Database) -> None:
    """Images come and go, so that writers meet at rows that were not there when they locked theirs."""
    images = [Attachment(f"{number:064x}", "image/png", b"x") for number in range(8)]

    def work(index: int) -> None:
        chance = random.Random(index)
        with database.connection() as pooled:
            session_id = create(pooled, new_id())
        for _ in range(100):
            some = chance.sample(images, chance.randint(1, 4))
            names = [image.sha256 for image in some]
            with database.connection() as pooled:
                message_id = append(pooled, session_id, "look", some)
                match chance.randrange(4):
                    case 0:
                        other = chance.sample(images, 2)
                        patches.patch_message(
                            pooled,
                            USER,
                            session_id,
                            message_id,
                            images=[image.sha256 for image in other],
                            attachments=other,
                            count_tokens=len,
                        )
                    case 1:
                        messages.clear_messages(pooled, USER, session_id)
                    case 2:
                        session_batches.delete_session(pooled, USER, session_id)
                        first = NewMessage("user", "look", 1, images=names, attachments=some)
                        new = creations.NewSession(session_id, "x", "chat")
                        creations.create_session(pooled, USER, new, [first])
                    case 3:
                        messages.delete_message(pooled, USER, session_id, message_id)

    at_once(8, work)
    check_counters(conn)
    miscounted = conn.execute(
        """
        SELECT a.sha256 FROM attachments AS a
         WHERE a.reference_count <> (SELECT count(*)
                                      FROM messages AS m
                                     WHERE m.user_id = a.user_id AND a.sha256 = ANY (m.images))"""
    ).fetchall()
    assert miscounted == []


def test_deadlock_is_run_again(conn: Conn, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    locks: list[LiteralString] = [
        "SELECT /* first */ pg_advisory_xact_lock(%(first)s)",
        "SELECT /* wait */ pg_sleep(0.5)",
    ]

    def work(index: int) -> None:
        with database.connection() as pooled:
            params = {"first": 1 + index, "second": 2 - index}
            run_transaction(pooled, [*locks, "SELECT /* second */ pg_advisory_xact_lock(%(second)s)"], params)

    at_once(2, work)
    assert [record.getMessage() for record in caplog.records].count(RUN_AGAIN) == 1
