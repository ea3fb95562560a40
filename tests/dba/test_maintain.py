"""The scripts that change rows: a dry run changes none; runs in batches and repeated runs have the same
result.
"""

from collections.abc import Callable
from subprocess import CalledProcessError
from typing import Any
from uuid import UUID

import psycopg
import pytest
from support.citus import NO_MOVES
from support.scripts import CHANGES, USERS, RunChecks, RunScript

from mai_sessions.content.lexemes import message_vector, title_vector

Conn = psycopg.Connection[Any]
Chats = dict[str, list[UUID]]
ANN, NEIL, WANG = USERS

TABLES = ("users", "sessions", "session_titles", "messages", "daily_usage", "attachments", "idempotency_keys")


def rows(conn: Conn, user_id: str | None = None) -> dict[str, list[Any]]:
    """Every row of a user, or of all."""
    where = "WHERE user_id = %(user_id)s OR %(user_id)s::text IS NULL"
    return {
        table: conn.execute(
            f"SELECT t::text FROM {table} AS t {where} ORDER BY 1", {"user_id": user_id}
        ).fetchall()
        for table in TABLES
    }


def values(conn: Conn, user_id: str) -> dict[str, list[Any]]:
    """A user's rows without the user's id, which is also in the lexemes."""
    query = "SELECT to_jsonb(t) - '{{user_id,words}}'::text[] FROM {} AS t WHERE user_id = %s ORDER BY 1"
    return {
        table: conn.execute(query.format(table), [user_id]).fetchall()
        for table in ("sessions", "session_titles", "messages", "daily_usage", "idempotency_keys")
    }


# The variables without defaults.
DRY_RUN = {
    "maintain/move_user.sql": {"from": ANN, "to": "new"},
    "maintain/purge_sessions.sql": {"days": 1},
    "subject/erase_user.sql": {"user_id": ANN},
}


@pytest.mark.parametrize(
    "script",
    [pytest.param(script, marks=NO_MOVES) if "move_user" in script else script for script in CHANGES],
)
def test_dry_run_changes_nothing(conn: Conn, chats: Chats, run_script: RunScript, script: str) -> None:
    conn.execute("UPDATE sessions SET updated_at = '2024-01-01Z', message_count = 1 WHERE message_count > 1")
    conn.execute("UPDATE attachments SET reference_count = 0")
    conn.execute("UPDATE idempotency_keys SET created_at = '2024-01-01Z'")
    before = rows(conn)
    printed = run_script(script, **DRY_RUN.get(script, {}))
    assert printed[-1].startswith("Nothing was ")
    assert printed[-1].endswith(" -v apply=1")
    assert rows(conn) == before


@pytest.mark.parametrize("user_id", [None, ANN])
def test_sessions_of_the_future_are_set_to_now(
    conn: Conn, chats: Chats, run_script: RunScript, run_checks: RunChecks, user_id: str | None
) -> None:
    script = "maintain/correct_future_times.sql"
    given = {"user_id": user_id} if user_id else {}
    ahead = [chats[ANN][0], chats[WANG][0]]
    conn.execute("UPDATE sessions SET updated_at = now() + interval '2 hours' WHERE id = ANY (%s)", [ahead])
    versions = "SELECT id, version FROM sessions"
    before = dict(conn.execute(versions).fetchall())
    found = ahead[:1] if user_id else ahead
    assert run_script(script, **given)[0].startswith(f"{len(found)}|")
    assert run_script(script, apply=1, **given)[-1] == str(len(found))
    left = conn.execute("SELECT id FROM sessions WHERE updated_at > now()").fetchall()
    assert [id for (id,) in left] == [id for id in ahead if id not in found]
    after = dict(conn.execute(versions).fetchall())
    assert {id for id in before if before[id] != after[id]} == set(found)
    assert run_script(script, apply=1, **given)[-1] == "0"
    assert run_checks() == {}


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_old_sessions_go_with_everything_of_them(
    conn: Conn, chats: Chats, run_script: RunScript, run_checks: RunChecks, batch: int
) -> None:
    script = "maintain/purge_sessions.sql"
    old = [chats[ANN][0], chats[ANN][2], *chats[WANG]]
    conn.execute("UPDATE sessions SET updated_at = now() - interval '31 days' WHERE id = ANY (%s)", [old])
    before = rows(conn)
    assert run_script(script, days=32, apply=1)[0] == "0|0"
    assert rows(conn) == before
    assert run_script(script, days=30, apply=1, batch=batch, user_id=ANN)[0] == "2|5"
    assert run_script(script, days=30, apply=1, batch=batch)[0] == "3|7"
    left = {str(id) for (id,) in conn.execute("SELECT id FROM sessions").fetchall()}
    assert left == {str(chats[ANN][1]), *map(str, chats[NEIL])}
    assert rows(conn, NEIL) == {
        table: [row for row in before[table] if row in rows(conn, NEIL)[table]] for table in TABLES
    }
    assert conn.execute("SELECT count(*) FROM attachments WHERE user_id = %s", [WANG]).fetchone() == (0,)
    counts = "SELECT user_id, session_count, archived_count FROM users ORDER BY 1"
    assert conn.execute(counts).fetchall() == [(NEIL, 3, 1), (ANN, 1, 1), (WANG, 0, 0)]
    assert run_checks() == {}


def test_file_that_only_parts_link_to_is_kept(
    conn: Conn, chats: Chats, run_script: RunScript, run_checks: RunChecks
) -> None:
    conn.execute("DELETE FROM messages WHERE session_id = %s", [chats[ANN][0]])
    conn.execute("UPDATE attachments SET reference_count = 0")
    for script in ("maintain/purge_attachments.sql", "maintain/repair_counters.sql"):
        run_script(script, apply=1)
    names = "SELECT file_name FROM attachments WHERE user_id = %s"
    assert conn.execute(names, [ANN]).fetchall() == [("own.png",)]
    assert run_checks() == {}


def test_attachment_with_a_reference_is_kept(conn: Conn, chats: Chats, run_script: RunScript) -> None:
    conn.execute("DELETE FROM messages WHERE user_id = %s", [ANN])
    conn.execute("UPDATE attachments SET reference_count = 0")
    kept = rows(conn, NEIL)["attachments"]
    run_script("maintain/purge_attachments.sql", apply=1, batch=1)
    assert rows(conn, ANN)["attachments"] == []
    assert rows(conn, NEIL)["attachments"] == kept


def test_indexes_are_rebuilt_and_leftovers_go(conn: Conn, run_script: RunScript) -> None:
    def files() -> dict[str, int]:
        query = """
            SELECT relname, relfilenode FROM pg_class
             WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace"""
        return dict(conn.execute(query).fetchall())

    before = files()
    conn.execute("CREATE INDEX users_ccnew ON users (user_id)")
    conn.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'users_ccnew'::regclass")
    conn.execute("ALTER TABLE users OWNER TO mai_sessions_owner")
    assert files().keys() > before.keys()
    run_script("maintain/rebuild_indexes.sql", apply=1, like="users%")
    assert {name for name, file in files().items() if before[name] != file} == {"users_pkey"}
    run_script("maintain/rebuild_indexes.sql", apply=1)
    assert not set(files().items()) & set(before.items())


@NO_MOVES
@pytest.mark.parametrize("target", ["new", NEIL, WANG])
def test_user_is_moved(
    conn: Conn, chats: Chats, run_script: RunScript, run_checks: RunChecks, target: str
) -> None:
    before = {user_id: rows(conn, user_id) for user_id in (ANN, target)}
    moved = values(conn, ANN)
    printed = run_script("maintain/move_user.sql", apply=1, to=target, **{"from": ANN})
    assert printed[-1] == "3"
    assert run_checks() == {}
    assert not any(rows(conn, ANN).values())
    for table, found in values(conn, target).items():
        assert [row for row in found if row in moved[table]] == moved[table], table
    after = rows(conn, target)
    for table in ("sessions", "session_titles", "messages", "daily_usage", "idempotency_keys"):
        assert len(after[table]) == len(before[ANN][table]) + len(before[target][table])
    # All users have this attachment, each once.
    assert len(after["attachments"]) == (2 if target == "new" else 3)
    for session_id, created_at, content, words in conn.execute(
        "SELECT session_id, created_at, content, words::text FROM messages WHERE user_id = %s", [target]
    ).fetchall():
        vector = message_vector(target, session_id, created_at, content)
        assert conn.execute("SELECT %s::tsvector::text", [vector]).fetchone() == (words,)
    for session_id, title, words in conn.execute(
        "SELECT s.id, s.title, t.words::text FROM sessions AS s JOIN session_titles AS t ON t.session_id = "
        "s.id WHERE s.user_id = %s AND t.user_id = %s",
        [target, target],
    ).fetchall():
        vector = title_vector(target, session_id, title)
        assert conn.execute("SELECT %s::tsvector::text", [vector]).fetchone() == (words,)


@NO_MOVES
def test_move_stops_at_a_session_id_of_both_users(
    conn: Conn, chats: Chats, run_script: Callable[..., list[str]], run_checks: RunChecks
) -> None:
    second = chats[ANN][1]
    conn.execute(
        """INSERT INTO sessions (user_id, id, title, agent_name, version)
           VALUES (%s, %s, 'mine', 'chat', gen_random_uuid())""",
        [NEIL, second],
    )
    conn.execute("UPDATE users SET session_count = 4 WHERE user_id = %s", [NEIL])
    conn.execute(
        "INSERT INTO session_titles SELECT user_id, id, created_at, title, %s::tsvector FROM sessions WHERE "
        "title = 'mine'",
        [title_vector(NEIL, second, "mine")],
    )
    with pytest.raises(CalledProcessError, match="exit status 3"):
        run_script("maintain/move_user.sql", apply=1, to=NEIL, **{"from": ANN})
    assert conn.execute("SELECT user_id, session_count FROM users ORDER BY 1").fetchall() == [
        (NEIL, 5),
        (ANN, 2),
        (WANG, 3),
    ]
    assert run_checks() == {}
    conn.execute("DELETE FROM sessions WHERE title = 'mine'")
    conn.execute("UPDATE users SET session_count = 4 WHERE user_id = %s", [NEIL])
    run_script("maintain/move_user.sql", apply=1, to=NEIL, **{"from": ANN})
    assert conn.execute("SELECT user_id, session_count FROM users ORDER BY 1").fetchall() == [
        (NEIL, 6),
        (WANG, 3),
    ]
    assert run_checks() == {}
