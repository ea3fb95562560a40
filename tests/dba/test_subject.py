"""The requests of a user: a copy of all data, and their erasure."""

import base64
import json
from collections import Counter
from datetime import datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
import pytest
from support.scripts import USERS, RunChecks, RunScript

Conn = psycopg.Connection[Any]
Chats = dict[str, list[UUID]]


# A table, and the type of its lines. What session_titles adds to the title is in the line of the session.
KINDS = {
    "users": "user",
    "sessions": "session",
    "messages": "message",
    "attachments": "attachment",
    "idempotency_keys": "idempotency_key",
}
# Derived rows.
NOT_EXPORTED = {"words", "fingerprint", "has_metadata"}


@pytest.mark.parametrize("user_id", USERS)
def test_export_has_all_rows_of_one_user(
    conn: Conn, chats: Chats, run_script: RunScript, user_id: str
) -> None:
    conn.execute(
        "UPDATE messages SET content = %s WHERE seq = 1", ["\\.\n\t\"\x01\x02\\n 'it' \u2028 , 東京"]
    )
    lines = [json.loads(line) for line in run_script("subject/export_user.sql", user_id=user_id)]
    assert Counter(line["type"] for line in lines) == {
        "user": 1,
        "session": 3,
        "message": 7,
        "attachment": 2,
        "idempotency_key": 11,
    }
    for table, kind in KINDS.items():
        columns_of = "SELECT column_name FROM information_schema.columns WHERE table_name = %s"
        names = {name for (name,) in conn.execute(columns_of, [table]).fetchall()}
        line = next(line for line in lines if line["type"] == kind)
        assert names - NOT_EXPORTED <= line.keys() | {"user_id"}, table
    exported = {(line["session_id"], line["seq"]): line for line in lines if line["type"] == "message"}
    columns = (
        "session_id, seq, id, role, content, token_count, model_id, agent_name, response_time_ms, is_error, "
        "images, documents"
    )
    for row in conn.execute(
        f"SELECT {columns}, created_at FROM messages WHERE user_id = %s", [user_id]
    ).fetchall():
        line = exported[str(row[0]), row[1]]
        assert [line[column] for column in columns.split(", ")] == [
            str(row[0]),
            row[1],
            str(row[2]),
            *row[3:-1],
        ]
        assert datetime.fromisoformat(line["created_at"]) == row[-1]
    for line in lines:
        if line["type"] == "attachment":
            assert sha256(base64.b64decode(line["content"], validate=True)).hexdigest() == line["sha256"]


@pytest.mark.parametrize("user_id", USERS)
def test_erasure_deletes_all_rows_and_prints_a_receipt(
    conn: Conn, chats: Chats, run_script: RunScript, run_checks: RunChecks, user_id: str
) -> None:
    tables = (
        "users",
        "sessions",
        "session_titles",
        "messages",
        "daily_usage",
        "attachments",
        "idempotency_keys",
    )

    def counts() -> list[list[int]]:
        return [
            [
                conn.execute(
                    f"SELECT count(*) FROM {table} WHERE (user_id = %s) = %s", [user_id, own]
                ).fetchone()[0]  # type: ignore[index]
                for table in tables
            ]
            for own in (True, False)
        ]

    own, others = counts()
    dry = run_script("subject/erase_user.sql", user_id=user_id)
    assert dry[0].split("|")[1:] == [str(count) for count in own]
    receipt = run_script("subject/erase_user.sql", user_id=user_id, apply=1, batch=2)[-1].split("|")
    assert receipt[0] == user_id
    assert receipt[2:] == [str(count) for count in own]
    assert counts() == [[0] * len(tables), others]
    assert run_checks() == {}
