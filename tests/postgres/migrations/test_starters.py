"""Several processes that start at once, or die while they do."""

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from support.races import at_once

from mai_sessions.errors import StartupError
from mai_sessions.postgres import migrations
from mai_sessions.postgres.migrations import apply, migrate

WaitFor = Callable[[str], None]


def test_twenty_starters_make_one_schema(
    new_database: str, conn: psycopg.Connection, directory: Path
) -> None:
    (directory / "0003_add_index.sql").write_text(
        "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS notes_body_idx ON notes "
        "(body);\n"
    )

    def start(_: int) -> list[str]:
        return [migration.name for migration in apply(new_database, directory)]

    applied = [name for names in at_once(20, start) for name in names]

    assert applied == ["0001_create_notes", "0002_add_author", "0003_add_index"]
    assert conn.execute("SELECT count(*) FROM schema_migrations").fetchone() == (3,)


def test_killed_migration_does_not_block_the_next_start(
    new_database: str, conn: psycopg.Connection, directory: Path, wait_for: WaitFor
) -> None:
    (directory / "0003_create_slowly.sql").write_text(
        "CREATE TABLE halves (id integer);\nSELECT pg_sleep(1);\n"
    )
    code = "import sys; from pathlib import Path; from mai_sessions.postgres.migrations import migrate; "
    code += "migrate(sys.argv[1], 'on', Path(sys.argv[2]))"
    starter = subprocess.Popen([sys.executable, "-c", code, new_database, str(directory)])
    wait_for("SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'")
    starter.kill()
    starter.wait()
    assert conn.execute("SELECT max(version) FROM schema_migrations").fetchone() == (2,)

    migrate(new_database, "on", directory)

    assert conn.execute("SELECT max(version) FROM schema_migrations").fetchone() == (3,)
    assert conn.execute("SELECT count(*) FROM halves").fetchone() == (0,)


def test_index_is_built_while_another_start_waits(
    new_database: str, conn: psycopg.Connection, directory: Path, wait_for: WaitFor
) -> None:
    migrate(new_database, "on", directory)
    (directory / "0003_add_index.sql").write_text(
        "-- migrate: no-transaction\nCREATE INDEX CONCURRENTLY IF NOT EXISTS notes_body_idx ON notes "
        "(body);\n"
    )
    with ThreadPoolExecutor(2) as starters:
        with psycopg.connect(new_database) as writer:
            writer.execute("INSERT INTO notes (body) VALUES ('held')")
            first = starters.submit(migrate, new_database, "on", directory)
            wait_for(
                "SELECT FROM pg_stat_progress_create_index WHERE datname = current_database() AND "
                "lockers_total > 0"
            )
            second = starters.submit(migrate, new_database, "on", directory)
            wait_for(
                "SELECT FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle'"
                " AND query LIKE 'SELECT pg_try_advisory_lock%'"
            )
            assert not first.done()
        first.result()
        second.result()

    assert conn.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'notes_body_idx'::regclass"
    ).fetchone() == (True,)


def test_start_gives_up_waiting_for_a_hanging_migration(
    new_database: str, conn: psycopg.Connection, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "LOCK_WAIT", 0)
    conn.execute("SELECT pg_advisory_lock(%s)", [migrations.LOCK_KEY])

    with pytest.raises(StartupError, match=r"^another process is still migrating this database after 0 s$"):
        migrate(new_database, "on", directory)


def test_migration_retries_for_a_locked_table(
    new_database: str, directory: Path, wait_for: WaitFor, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrate(new_database, "on", directory)
    (directory / "0003_drop_author.sql").write_text("ALTER TABLE notes DROP author;\n")
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr(migrations, "LOCK_PAUSE", 0.01)
    with psycopg.connect(new_database) as reader:
        reader.execute("SELECT author FROM notes")

        with monkeypatch.context() as few:
            few.setattr(migrations, "LOCK_TRIES", 2)
            with pytest.raises(
                StartupError, match=r"^migration 0003_drop_author got no lock in 2 tries; see pg_stat_act"
            ):
                migrate(new_database, "on", directory)

        monkeypatch.setattr(migrations, "LOCK_TRIES", 10_000)
        with ThreadPoolExecutor(1) as starters:
            starter = starters.submit(migrate, new_database, "on", directory)
            wait_for("SELECT FROM pg_locks WHERE relation = 'notes'::regclass AND NOT granted")
            reader.commit()
            starter.result()

    migrate(new_database, "check", directory)
