"""Every check, on healthy chats, on damaged ones, and during writes; and the repairs."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import CalledProcessError
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from support.citus import not_on_citus
from support.scripts import USERS, RunChecks, RunScript

from mai_sessions.content.message import NewMessage
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository.appends import append_messages
from mai_sessions.repository.creations import NewSession, create_session
from mai_sessions.repository.messages import clear_messages, delete_message
from mai_sessions.repository.patches import patch_message
from mai_sessions.repository.session_batches import delete_session
from mai_sessions.repository.sessions import patch_session

Conn = psycopg.Connection[Any]
Chats = dict[str, list[UUID]]
ANN = USERS[0]


def test_healthy_chats_have_nothing_to_find(conn: Conn, chats: Chats, run_checks: RunChecks) -> None:
    session_id = chats[ANN][0]
    first = conn.execute("SELECT id FROM messages WHERE session_id = %s AND seq = 1", [session_id]).fetchone()
    assert first
    patch_message(
        conn,
        ANN,
        session_id,
        first[0],
        content="Changed",
        model_id="haiku",
        response_time_ms=7,
        count_tokens=len,
    )
    patch_session(conn, ANN, session_id, title="ΌΔΟΣ İ ſß ﬁ")
    delete_message(conn, ANN, session_id, first[0])
    clear_messages(conn, ANN, chats[ANN][1])
    delete_session(conn, USERS[1], chats[USERS[1]][0])
    assert run_checks() == {}


# What is set on the coordinator is not set on the nodes.
FOREIGN_KEYS_STAY = not_on_citus("no test switches the foreign keys of the nodes off")


@contextmanager
def unguarded(conn: Conn) -> Iterator[None]:
    """Without foreign keys."""
    conn.execute("SET session_replication_role = replica")
    yield
    conn.execute("RESET session_replication_role")


REPAIRABLE: list[tuple[str, LiteralString]] = [
    ("message_counts", "UPDATE sessions SET message_count = 0 WHERE message_count > 1"),
    ("newest_messages", "UPDATE sessions SET newest_seq = NULL WHERE newest_seq = 2"),
    ("newest_messages", "UPDATE sessions SET last_message_preview = 'x' WHERE message_count = 0"),
    ("seqs", "UPDATE sessions SET last_seq = 5 WHERE last_seq = 6"),
    ("session_counts", "UPDATE users SET session_count = session_count + 1"),
    ("session_counts", "DELETE FROM users"),
    ("session_counts", "UPDATE users SET archived_count = 0"),
    ("session_titles", "UPDATE sessions SET has_metadata = false WHERE has_metadata"),
    # Nothing has that seq: the message was deleted.
    ("branches", "UPDATE sessions SET head_seq = 3 WHERE is_branched"),
    (
        "branches",
        "UPDATE sessions SET head_id = '00000000-0000-4000-8000-000000000000' WHERE message_count > 0",
    ),
    ("branches", "UPDATE sessions SET is_branched = false WHERE is_branched"),
    ("branches", "UPDATE messages SET parent_seq = 3 WHERE parent_seq = 2"),
    ("attachments", "UPDATE attachments SET reference_count = reference_count + 1"),
    ("attachments", "UPDATE attachments SET reference_count = 0"),
    ("attachments", "DELETE FROM messages WHERE seq = 2"),
    ("daily_usage", "DELETE FROM daily_usage WHERE last_seq = 2"),
    ("daily_usage", "UPDATE daily_usage SET token_count = token_count + 1 WHERE part = 'assistant'"),
    (
        "daily_usage",
        "UPDATE daily_usage SET first_at = '2100-01-01Z', first_seq = last_seq + 1 WHERE part = 'total'",
    ),
]
DAMAGES: list[Any] = [
    *REPAIRABLE,
    ("attachments", "DELETE FROM attachments"),
    ("attachment_contents", "UPDATE attachments SET content = set_byte(content, size - 1, 0)"),
    pytest.param("orphans", "DELETE FROM sessions", marks=FOREIGN_KEYS_STAY),
    ("session_titles", "UPDATE session_titles SET title = 'x'"),
    ("session_titles", "UPDATE session_titles SET words = ''"),
    ("session_titles", "DELETE FROM session_titles"),
    ("words", "UPDATE messages SET words = '' WHERE seq = 1"),
    ("words", "UPDATE messages SET words = tsvector_concat(words, 'foreign')"),
    ("words", "UPDATE session_titles SET words = strip(words) || 'foreign'"),
]


@pytest.mark.parametrize(("check", "damage"), DAMAGES)
def test_damage_is_found(
    conn: Conn, chats: Chats, run_script: RunScript, check: str, damage: LiteralString
) -> None:
    with unguarded(conn):
        assert conn.execute(damage).rowcount
    script = f"check/{check}.sql"
    rows = run_script(script)
    assert {row.partition("|")[0] for row in rows} == set(USERS)
    assert run_script(script, user_id=ANN) == [row for row in rows if row.startswith(f"{ANN}|")]


@FOREIGN_KEYS_STAY
def test_orphans_are_deleted(conn: Conn, chats: Chats, run_script: RunScript, run_checks: RunChecks) -> None:
    with unguarded(conn):
        conn.execute("DELETE FROM sessions WHERE id = %s", [chats[ANN][0]])
    assert run_script("maintain/delete_orphans.sql", apply=1, user_id=USERS[1])[0] == "0|0|0"
    assert run_script("maintain/delete_orphans.sql", apply=1)[0].startswith("5|1|")
    run_script("maintain/repair_counters.sql", apply=1)
    run_script("maintain/purge_attachments.sql", apply=1)
    assert run_checks() == {}


def test_check_all_reports_the_findings(conn: Conn, chats: Chats, run_script: RunScript) -> None:
    assert run_script("check_all.sql") == ["OK: no check found a row"]
    conn.execute("UPDATE users SET session_count = 0 WHERE user_id = %s", [ANN])
    conn.execute("UPDATE session_titles SET words = ''")
    with pytest.raises(CalledProcessError) as caught:
        run_script("check_all.sql")
    assert caught.value.returncode == 3
    (line,) = caught.value.stdout.splitlines()
    found = "rows found by the scripts of check/: session_counts 1, session_titles 9, words 9"
    assert line.partition("ERROR:  ")[2] == found
    with pytest.raises(CalledProcessError, match="exit status 3"):
        run_script("check_all.sql", user_id=USERS[1])


def test_repair_corrects_every_finding(
    conn: Conn, chats: Chats, run_script: RunScript, run_checks: RunChecks
) -> None:
    for _, damage in REPAIRABLE:
        conn.execute(damage)
    found = run_checks()
    assert set(found) == {f"check/{check}.sql" for check, _ in REPAIRABLE}
    cures = ("maintain/repair_counters.sql", "maintain/purge_attachments.sql")
    for cure in cures:
        run_script(cure)
    assert run_checks() == found, "a dry run"
    for cure in cures:
        run_script(cure, apply=1, user_id=ANN)
    theirs = {check: [row for row in rows if not row.startswith(f"{ANN}|")] for check, rows in found.items()}
    assert run_checks() == theirs
    versions = "SELECT version FROM sessions ORDER BY version"
    untouched = conn.execute(versions).fetchall()
    run_script(cures[0], apply=1, user_id=ANN)
    assert conn.execute(versions).fetchall() == untouched
    for cure in cures:
        run_script(cure, apply=1)
    assert run_checks() == {}


def test_duplicate_seq_and_id_are_found(
    make_migrated_database: Callable[[], str], run_script: RunScript
) -> None:
    url = make_migrated_database()
    with Connection.connect(url, autocommit=True) as conn:
        session_id = create_session(conn, ANN, NewSession(new_id(), "Chat", "chat")).id
        append_messages(conn, ANN, session_id, [NewMessage("user", "Hello", 1)])
        conn.execute("ALTER TABLE messages DROP CONSTRAINT messages_pkey")
        conn.execute("DROP INDEX messages_user_id_session_id_id_key")
        conn.execute("INSERT INTO messages SELECT * FROM messages")
    rows = run_script("check/seqs.sql", url)
    assert sorted(row.rpartition("|")[2] for row in rows) == ["duplicate id", "duplicate seq"]
