"""The scripts of sql/dba on a cluster: each runs there, or says in its first line that it does not."""

from subprocess import CalledProcessError
from uuid import UUID

import psycopg
import pytest
from support.chats import insert_chat
from support.scripts import SCRIPTS, RunScript, head

USERS = [f"user{number}" for number in range(20)]
VARIABLES = {
    "subject/export_user.sql": {"user_id": "user3"},
    "subject/erase_user.sql": {"user_id": "user3", "apply": 1},
    "maintain/purge_sessions.sql": {"days": 1, "apply": 1},
    "maintain/purge_attachments.sql": {"apply": 1},
    "maintain/purge_idempotency_keys.sql": {"apply": 1},
    "maintain/repair_counters.sql": {"apply": 1},
    "maintain/correct_future_times.sql": {"apply": 1},
}
ONE_NODE = [
    f"report/{name}.sql" for name in ("activity", "health", "indexes", "sizes", "statements", "vacuum")
]


@pytest.fixture(autouse=True)
def chats(conn: psycopg.Connection) -> None:
    """A session with one message, and an image without a message, of each user."""
    for number, user_id in enumerate(USERS):
        insert_chat(conn, user_id, UUID(int=number))
        conn.execute(
            "INSERT INTO attachments (user_id, sha256, content_type, size, reference_count, content)"
            " VALUES (%s, repeat('a', 64), 'image/png', 1, 0, 'a')",
            [user_id],
        )


@pytest.mark.parametrize("script", [script for script in SCRIPTS if not script.startswith("citus/")])
def test_script_runs_on_citus_or_refuses(run_script: RunScript, script: str) -> None:
    if "Not on Citus" in head(script).splitlines()[0]:
        with pytest.raises(CalledProcessError) as caught:
            run_script(script, **{"from": "user1", "to": "user2"})
        assert "not on Citus" in caught.value.stdout
        return
    if script == "check_all.sql":
        # These chats were not written by the service, so the checks find something.
        with pytest.raises(CalledProcessError) as caught:
            run_script(script)
        assert "rows found by the scripts of check/" in caught.value.stdout
        return
    printed = run_script(script, **VARIABLES.get(script, {}))
    if script in ONE_NODE:
        assert printed[0].startswith("On Citus this shows one node: run it on each.")


def test_checks_and_repair_see_every_node(run_script: RunScript, conn: psycopg.Connection) -> None:
    conn.execute("UPDATE sessions SET message_count = 0")
    for script in ("check/message_counts.sql", "check/attachments.sql"):
        assert [line.split("|")[0] for line in run_script(script)] == sorted(USERS)
    run_script("maintain/repair_counters.sql", apply=1)
    run_script("maintain/purge_attachments.sql", apply=1, batch=1)
    assert run_script("check/message_counts.sql") == run_script("check/attachments.sql") == []
    assert run_script("check/daily_usage.sql") == []


def test_erasing_leaves_nothing_on_any_node(run_script: RunScript, conn: psycopg.Connection) -> None:
    run_script("subject/erase_user.sql", user_id="user3", apply=1)
    for table in ("users", "sessions", "messages", "attachments", "daily_usage"):
        statement = f"SELECT count(*) FILTER (WHERE user_id = 'user3') FROM {table}"
        assert conn.execute(statement.encode()).fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM users").fetchone() == (len(USERS) - 1,)
