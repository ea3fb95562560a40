"""Scripts that run while clients append."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
import pytest
from support.citus import NO_MOVES
from support.races import wait_until_blocked
from support.samples import base64_of, png
from support.scripts import REPORTS, USERS, RunChecks, RunScript

from mai_sessions.content.attachments import read_image
from mai_sessions.content.message import NewMessage
from mai_sessions.errors import NotFound
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository.appends import append_messages

Conn = psycopg.Connection[Any]
Chats = dict[str, list[UUID]]
ANN, NEIL, WANG = USERS
SHARED = read_image(base64_of(png(noise=b"shared")))
assert SHARED
MORE = NewMessage("user", "more", 1, images=[SHARED.sha256], attachments=[SHARED])


@contextmanager
def appending(database_url: str, chats: Chats) -> Iterator[Counter[UUID]]:
    """Append to the second session of each user with two clients until it is deleted; count the acknowledged
    ones.
    """
    appended: Counter[UUID] = Counter()
    failures: list[BaseException] = []
    done = threading.Event()
    lock = threading.Lock()

    def append(user_id: str, session_id: UUID) -> None:
        try:
            with Connection.connect(database_url, autocommit=True) as own:
                while not done.wait(0.005):
                    append_messages(own, user_id, session_id, [MORE])
                    with lock:
                        appended[session_id] += 1
        except NotFound:
            pass
        except BaseException as error:
            failures.append(error)

    threads = [
        threading.Thread(target=append, args=[user_id, ids[1]])
        for user_id, ids in chats.items()
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        yield appended
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert failures == []


def test_checks_reports_and_a_repair_run(
    conn: Conn, chats: Chats, database_url: str, run_script: RunScript, run_checks: RunChecks
) -> None:
    """Checks do not report counters that change, and a repair loses no append."""
    with appending(database_url, chats) as appended:
        for report in REPORTS:
            run_script(report)
        run_script("subject/export_user.sql", user_id=ANN)
        assert run_checks() == {}
        conn.execute("UPDATE sessions SET message_count = 0, newest_seq = 1, last_message_preview = ''")
        conn.execute("UPDATE users SET session_count = 0")
        conn.execute("UPDATE daily_usage SET token_count = 0")
        conn.execute("UPDATE attachments SET reference_count = 1000 + reference_count")
        assert {check.partition("/")[2] for check in run_checks()} == {
            "attachments.sql",
            "daily_usage.sql",
            "message_counts.sql",
            "newest_messages.sql",
            "session_counts.sql",
        }
        run_script("maintain/repair_counters.sql", apply=1)
        assert run_checks() == {}
    assert run_checks() == {}
    for _, second, _ in chats.values():
        row = conn.execute("SELECT message_count FROM sessions WHERE id = %s", [second]).fetchone()
        assert row == (2 + appended[second],)


@NO_MOVES
def test_purge_and_move_leave_other_sessions_whole(
    conn: Conn, chats: Chats, database_url: str, run_script: RunScript, run_checks: RunChecks
) -> None:
    """Sessions are moved or deleted whole, and the others lose nothing."""
    old = [chats[user_id][0] for user_id in USERS]
    conn.execute("UPDATE sessions SET updated_at = now() - interval '31 days' WHERE id = ANY (%s)", [old])
    with appending(database_url, chats) as appended:
        run_script("maintain/purge_sessions.sql", apply=1, days=30)
        run_script("maintain/purge_attachments.sql", apply=1)
        run_script("maintain/purge_idempotency_keys.sql", apply=1)
        run_script("maintain/rebuild_indexes.sql", apply=1, like="messages%")
        assert run_checks() == {}
        run_script("maintain/move_user.sql", apply=1, to="new", **{"from": ANN})
        run_script("subject/erase_user.sql", apply=1, user_id=NEIL)
        assert run_checks() == {}
    assert run_checks() == {}
    counts = conn.execute(
        "SELECT user_id, id, message_count FROM sessions WHERE message_count > 0 ORDER BY 1"
    ).fetchall()
    assert counts == [
        (user_id, id, 2 + appended[id]) for user_id, id in (("new", chats[ANN][1]), (WANG, chats[WANG][1]))
    ]


def test_purge_locks_sessions_in_the_order_of_a_batch(
    conn: Conn, chats: Chats, database_url: str, run_script: RunScript
) -> None:
    first, second = sorted(chats[ANN][:2])
    for session_id, days in ((first, 31), (second, 32)):
        conn.execute(
            "UPDATE sessions SET updated_at = now() - make_interval(days => %s) WHERE id = %s",
            [days, session_id],
        )
    lock = "SELECT FROM sessions WHERE user_id = %s AND id = %s FOR UPDATE"
    variables = {"apply": 1, "days": 30, "user_id": ANN}
    purge = threading.Thread(target=run_script, args=["maintain/purge_sessions.sql"], kwargs=variables)
    with psycopg.connect(database_url) as writer:
        writer.execute(lock, [ANN, first])
        purge.start()
        wait_until_blocked(conn)
        assert conn.execute(f"{lock} SKIP LOCKED".encode(), [ANN, second]).rowcount == 1
    purge.join()
    assert not conn.execute("SELECT FROM sessions WHERE id = ANY (%s)", [[first, second]]).rowcount


@pytest.mark.parametrize(
    "script", ["maintain/purge_sessions.sql", pytest.param("maintain/move_user.sql", marks=NO_MOVES)]
)
def test_script_that_waits_for_the_count_of_a_user_holds_no_attachment(
    conn: Conn, chats: Chats, database_url: str, run_script: RunScript, script: str
) -> None:
    conn.execute("UPDATE sessions SET updated_at = now() - interval '31 days' WHERE user_id = %s", [ANN])
    attachments = "SELECT FROM attachments WHERE user_id = %s"
    number = conn.execute(attachments, [ANN]).rowcount
    variables = {"days": 30, "user_id": ANN} if "purge" in script else {"from": ANN, "to": "new"}
    thread = threading.Thread(target=run_script, args=[script], kwargs={"apply": 1, **variables})
    with psycopg.connect(database_url) as writer:
        writer.execute("SELECT FROM users WHERE user_id = %s FOR UPDATE", [ANN])
        thread.start()
        wait_until_blocked(conn)
        assert conn.execute(f"{attachments} FOR UPDATE SKIP LOCKED".encode(), [ANN]).rowcount == number > 0
    thread.join()
    assert not conn.execute(attachments, [ANN]).rowcount


def test_erasure_that_waits_for_a_key_holds_no_count_of_the_user(
    conn: Conn, chats: Chats, database_url: str, run_script: RunScript
) -> None:
    variables = {"apply": 1, "user_id": ANN}
    erasure = threading.Thread(target=run_script, args=["subject/erase_user.sql"], kwargs=variables)
    with psycopg.connect(database_url) as writer:
        writer.execute("SELECT FROM idempotency_keys WHERE user_id = %s FOR UPDATE", [ANN])
        erasure.start()
        wait_until_blocked(conn)
        users = "SELECT FROM users WHERE user_id = %s FOR UPDATE SKIP LOCKED"
        assert conn.execute(users, [ANN]).rowcount == 1
    erasure.join()
    assert not conn.execute("SELECT FROM users WHERE user_id = %s", [ANN]).rowcount
