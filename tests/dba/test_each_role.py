"""Each script as each role: it does its work, or is refused in one line, and then changes nothing."""

from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.scripts import CHANGES, DBA, SCRIPTS, USERS, header

Conn = psycopg.Connection[Any]
Chats = dict[str, list[UUID]]
ANN, NEIL, _ = USERS
# From the least rights to the most; each may do what the ones before it may.
ROLES = ["readonly", "maintenance", "owner"]
VALUES = {"days": 1, "from": ANN, "to": "another", "user_id": ANN, "apply": 1}
TABLES = ("users", "sessions", "session_titles", "messages", "attachments", "idempotency_keys", "daily_usage")


def rows(conn: Conn) -> list[Any]:
    """A digest of the rows of each table, and the name and owner of each index."""
    digests = [
        conn.execute(
            f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} AS t".encode()
        ).fetchone()
        for table in TABLES
    ]
    return digests + conn.execute("SELECT relname, relfilenode FROM pg_class ORDER BY relname").fetchall()


@pytest.mark.parametrize("role", ["app", *ROLES])
@pytest.mark.parametrize("script", SCRIPTS)
def test_script_works_or_is_refused_in_one_line(  # noqa: PLR0917 - four fixtures and two parameters
    conn: Conn,
    chats: Chats,
    run_program: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    role: str,
) -> None:
    monkeypatch.setenv("PSQLRC", str(Path(__file__).with_name("hostile.psqlrc")))
    conn.execute("UPDATE sessions SET updated_at = updated_at - interval '90 days'")
    needed = [name for name in VALUES if f"-v {name}=" in header(script, "Usage")]
    variables = [f"--set={name}={VALUES[name]}" for name in needed]
    url = make_conninfo(conn.info.dsn, user=f"mai_sessions_{role}", password=f"mai_sessions_{role}")
    before = rows(conn)
    refused = None
    try:
        run_program("psql", "-qAt", *variables, "-f", str(DBA / script), url)
    except CalledProcessError as error:
        refused = error
    documented = header(script, "Role")
    if documented in ROLES and role in ROLES[ROLES.index(documented) :]:
        assert refused is None
    if refused:
        assert refused.returncode == 3
        [line] = [line for line in refused.stderr.splitlines() if "ERROR:" in line]
        assert "permission denied" in line or "must " in line or script == "citus/distribute.sql"
        assert rows(conn) == before
    elif script not in CHANGES:
        assert rows(conn) == before
