"""VACUUM can reuse all space that an answer streamed by patches has taken."""

from typing import Any
from uuid import UUID

import psycopg
from flask import Flask
from support.service import wait_until

from mai_sessions.content.message import NewMessage
from mai_sessions.repository import appends, creations, patches
from mai_sessions.repository.creations import NewSession

SESSION_ID = UUID("01900000-0000-7000-8000-000000000001")
TABLES = ["sessions", "messages", "session_titles", "daily_usage"]


def sizes(conn: psycopg.Connection[Any]) -> list[int]:
    """The bytes of each table with its indexes."""
    return [
        conn.execute("SELECT pg_total_relation_size(%s::regclass)", [table]).fetchone()[0] for table in TABLES
    ]  # type: ignore[index]


def has_other_snapshots(conn: psycopg.Connection[Any]) -> bool:
    """Return whether another session, such as an ANALYZE by autovacuum, keeps VACUUM from removing rows."""
    row = conn.execute("""
        SELECT EXISTS (SELECT FROM pg_stat_activity
                        WHERE backend_xmin IS NOT NULL AND pid <> pg_backend_pid()
                          AND (datname = current_database() OR datname IS NULL))""").fetchone()
    assert row
    return bool(row[0])


def test_vacuum_frees_the_space_of_a_streamed_answer(app: Flask, conn: psycopg.Connection[Any]) -> None:
    words = [f"word{number}" for number in range(250)]
    database = app.extensions["mai_sessions"].database
    with database.connection() as pooled:
        creations.create_session(pooled, "u", NewSession(SESSION_ID, "t", "chat"))
        [message_id] = appends.append_messages(pooled, "u", SESSION_ID, [NewMessage("assistant", "", 0)]).ids

    def stream() -> list[int]:
        for end in range(len(words)):
            content = " ".join(words[:end])
            with database.connection() as pooled:
                patches.patch_message(
                    pooled, "u", SESSION_ID, message_id, content=content, token_count=end, count_tokens=len
                )
        for table in TABLES:
            wait_until(lambda: not has_other_snapshots(conn))
            conn.execute(f"VACUUM {table}")
        return sizes(conn)

    for _ in range(3):
        settled = stream()
    for _ in range(6):
        after = stream()
    # Three times as much was written; a snapshot that is taken meanwhile may keep one vacuum from its work.
    assert all(now < before * 2 for now, before in zip(after, settled, strict=True)), (settled, after)
