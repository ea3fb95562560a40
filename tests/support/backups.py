"""The command line of backups."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psycopg

from mai_sessions.embedded import private_postgres as embedded
from mai_sessions.embedded.data_directory import MAJOR

COMMAND = Path(sys.executable).with_name("mai-sessions")


ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MAI_SESSIONS_", "DATABASE_URL"))
}


def client_path(conn: psycopg.Connection[Any]) -> str:
    """A PATH with the client programs of the server's version: the embedded ones, or Debian's."""
    is_embedded = conn.info.server_version // 10000 == int(MAJOR)
    return f"{embedded.PROGRAMS}:{os.environ['PATH']}" if is_embedded else os.environ["PATH"]


def run(command: str, *arguments: Any, **environ: str) -> str:
    """Run `mai-sessions …`, and return its single line of output or its error."""
    done = subprocess.run(
        [COMMAND, command, *arguments], check=False, env=ENVIRON | environ, capture_output=True, text=True
    )
    assert done.stdout == ""
    assert (done.returncode == 1) == done.stderr.startswith("Error: "), done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def rows(url: str) -> dict[str, list[str]]:
    """Return every row of every table, as text."""
    with psycopg.connect(url) as conn:
        tables = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            table: [row for (row,) in conn.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")]
            for (table,) in tables
        }
