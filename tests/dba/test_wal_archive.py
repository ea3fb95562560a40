"""The report on health, of a server that archives its WAL."""

from collections.abc import Callable
from pathlib import Path

import psycopg
from support.scripts import DBA
from support.service import wait_until

from mai_sessions.embedded import private_postgres as embedded
from mai_sessions.postgres import migrations


def test_health_remarks_on_a_failing_archive_command(data_dir: Path, run_program: Callable[..., str]) -> None:
    def archived() -> list[str]:
        printed = run_program("psql", "-XqAt", "-f", str(DBA / "report/health.sql"), url)
        [line] = [line for line in printed.splitlines() if line.startswith("WAL archived|")]
        return line.split("|")[1:]

    with embedded.postgresql(data_dir, {"archive_mode": "on", "archive_command": "false"}) as url:
        migrations.migrate(url, "on")
        assert archived() == ["none yet", ""]
        with psycopg.connect(url, autocommit=True) as conn:
            conn.execute("SELECT pg_switch_wal()")
            wait_until(lambda: archived() == ["none yet", "archive_command fails: the WAL stays"])
