from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from subprocess import CalledProcessError
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from mai_sessions.errors import StartupError
from mai_sessions.postgres import migrations, session_settings
from mai_sessions.postgres.migrations import apply, is_current, migrate, pending_sql, status

INDEX = """-- migrate: no-transaction
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS notes_body_key ON notes (body);
"""


@pytest.fixture
def reader_url(new_database: str, conn: psycopg.Connection) -> Iterator[str]:
    """A role that may SELECT from the existing tables, and nothing else."""
    role = f"reader_{uuid4().hex}"
    conn.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
    conn.execute(
        sql.SQL("ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO {}").format(
            sql.Identifier(role)
        )
    )
    yield make_conninfo(new_database, options=f"-c role={role}")
    conn.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
    conn.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def names(conn: psycopg.Connection) -> list[str]:
    return [name for (name,) in conn.execute("SELECT name FROM schema_migrations ORDER BY version")]


def valid(conn: psycopg.Connection, index: str) -> bool | None:
    row = conn.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [index]
    ).fetchone()
    return row and row[0]


def test_each_migration_is_applied_once(new_database: str, conn: psycopg.Connection, directory: Path) -> None:
    assert [m.name for m in apply(new_database, directory)] == ["0001_create_notes", "0002_add_author"]
    assert [m.name for m in apply(new_database, directory)] == []

    conn.execute("INSERT INTO notes (body, author) VALUES ('b', 'a')")
    rows = conn.execute(
        "SELECT version, name, sha256, breaking, applied_at <= now(), applied_by = current_user FROM "
        "schema_migrations"
    ).fetchall()
    digests = [sha256(path.read_bytes()).hexdigest() for path in sorted(directory.iterdir())]
    assert rows == [
        (1, "0001_create_notes", digests[0], False, True, True),
        (2, "0002_add_author", digests[1], False, True, True),
    ]


def test_new_migrations_are_applied(new_database: str, conn: psycopg.Connection, directory: Path) -> None:
    migrate(new_database, "on", directory)
    (directory / "0003_add_percent.sql").write_text("INSERT INTO notes (body) VALUES ('100 %s: ünïcödé');\n")

    assert [m.name for m in apply(new_database, directory)] == ["0003_add_percent"]
    assert conn.execute("SELECT body FROM notes").fetchall() == [("100 %s: ünïcödé",)]


def test_migration_may_scan_whole_tables(
    new_database: str, conn: psycopg.Connection, directory: Path
) -> None:
    (directory / "0003_add_setting.sql").write_text(
        "INSERT INTO notes (body) VALUES (current_setting('enable_seqscan'));\n"
    )
    migrate(make_conninfo(new_database, options="-c enable_seqscan=off"), "on", directory)
    assert conn.execute("SELECT body FROM notes").fetchall() == [("on",)]


def test_start_without_pending_migrations_needs_only_select(
    reader_url: str,
    new_database: str,
    conn: psycopg.Connection,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    migrate(new_database, "on", directory)
    monkeypatch.setattr(migrations, "LOCK_WAIT", 0)
    conn.execute("SELECT pg_advisory_lock(%s)", [migrations.LOCK_KEY])

    migrate(reader_url, "on", directory)
    migrate(reader_url, "check", directory)


def test_check_refuses_pending_migrations_with_only_select(
    reader_url: str, new_database: str, directory: Path
) -> None:
    with pytest.raises(
        StartupError, match=r"^the database lacks 0001_create_notes, 0002_add_author: run `mai-sessions"
    ):
        migrate(reader_url, "check", directory)
    migrate(new_database, "on", directory)
    (directory / "0003_add_it.sql").write_text("SELECT 1;\n")
    with pytest.raises(StartupError, match=r"^the database lacks 0003_add_it: run `mai-sessions migrate`$"):
        migrate(reader_url, "check", directory)


def test_missing_right_is_named(reader_url: str, directory: Path) -> None:
    reason = "permission denied for schema public: run `mai-sessions migrate` as the owner of the tables"
    with pytest.raises(StartupError, match=f"^migrations: {reason}$"):
        migrate(reader_url, "on", directory)


def test_migrate_off_does_not_check_the_schema() -> None:
    migrate("postgresql://127.0.0.1:1/nobody", "off")


def test_failing_migration_changes_nothing(
    new_database: str, conn: psycopg.Connection, directory: Path
) -> None:
    bad = directory / "0003_add_halves.sql"
    bad.write_text("CREATE TABLE halves (id integer);\nINSERT INTO halves VALUES (1);\nSELECT 1 / 0;\n")

    with pytest.raises(StartupError, match=r"^migration 0003_add_halves failed: division by zero$"):
        migrate(new_database, "on", directory)

    assert names(conn) == ["0001_create_notes", "0002_add_author"]
    assert conn.execute("SELECT to_regclass('halves')").fetchone() == (None,)

    bad.write_text("CREATE TABLE halves (id integer);\n")
    migrate(new_database, "on", directory)
    assert names(conn)[2:] == ["0003_add_halves"]


@pytest.mark.parametrize("mode", ["on", "check"])
def test_changed_migration_is_refused(new_database: str, directory: Path, mode: str) -> None:
    migrate(new_database, "on", directory)
    (directory / "0001_create_notes.sql").write_text("CREATE TABLE notes (body varchar);\n")

    with pytest.raises(StartupError, match=r"^migration 0001_create_notes was changed after it was applied"):
        migrate(new_database, mode, directory)


def test_missing_migration_is_refused(new_database: str, directory: Path) -> None:
    migrate(new_database, "on", directory)
    (directory / "0001_create_notes.sql").unlink()

    with pytest.raises(StartupError, match=r"^migration 0002_add_author stands where number 0001 should$"):
        migrate(new_database, "on", directory)


def test_pending_migration_below_an_applied_one_is_refused(
    new_database: str, conn: psycopg.Connection, directory: Path
) -> None:
    migrate(new_database, "on", directory)
    conn.execute("DELETE FROM schema_migrations WHERE version = 1")

    with pytest.raises(
        StartupError, match=r"^migration 0001_create_notes is pending, but 0002_add_author after it is"
    ):
        migrate(new_database, "on", directory)


@pytest.mark.parametrize("mode", ["on", "check"])
def test_newer_database_is_a_warning(
    new_database: str, directory: Path, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    migrate(new_database, "on", directory)
    (directory / "0002_add_author.sql").unlink()

    migrate(new_database, mode, directory)

    assert (
        "the database has migration 0002_add_author, which this mai-sessions does not know" in caplog.messages
    )


@pytest.mark.parametrize("mode", ["on", "check"])
def test_newer_database_with_a_breaking_migration_is_refused(
    new_database: str, directory: Path, mode: str
) -> None:
    newer = directory / "0003_drop_notes.sql"
    newer.write_text("-- migrate: breaking\nDROP TABLE notes;\n")
    (directory / "0004_create_tags.sql").write_text("CREATE TABLE tags (id integer);\n")
    migrate(new_database, "on", directory)
    newer.unlink()
    (directory / "0004_create_tags.sql").unlink()

    with pytest.raises(
        StartupError, match=r"^the database has migration 0003_drop_notes, which needs a newer mai-sess"
    ):
        migrate(new_database, mode, directory)


def test_old_postgresql_is_not_migrated(
    new_database: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_settings, "OLDEST_POSTGRESQL", 99)

    with pytest.raises(
        StartupError, match=r"^PostgreSQL \d+\.\d+.* is too old: mai-sessions needs 99 or newer$"
    ):
        migrate(new_database, "on", directory)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (
            "postgresql://u:hunter2@127.0.0.1:1/db",
            'connection to server at "127.0.0.1", port 1 failed: Connection refused',
        ),
        ("postgresql://u:hunter@2@host.invalid/db", "failed to resolve host …"),
        ("postgre://u:hunter2@127.0.0.1/db", "missing … after … in connection info string"),
        ("postgresql://u:%hunter2@127.0.0.1/db", "invalid percent-encoded token: …"),
        ("host=127.0.0.1 password=my hunter2", "missing … after … in connection info string"),
        ("nonsense", "missing … after … in connection info string"),
        ("postgresql://u:hunter2\udce9@127.0.0.1/db", "'utf-8' codec can't encode"),
    ],
)
def test_unreachable_database_is_named_without_the_password(url: str, reason: str) -> None:
    with pytest.raises(StartupError) as caught:
        migrate(url, "check")

    message = str(caught.value)
    assert message.startswith("cannot reach PostgreSQL: " + reason)
    assert "hunter" not in message
    assert "2@" not in message
    assert "\n" not in message


def test_missing_database_url_is_named() -> None:
    with pytest.raises(StartupError, match=r"^DATABASE_URL is not set$"):
        migrate("", "on")


def test_index_is_built_outside_a_transaction(
    new_database: str, conn: psycopg.Connection, directory: Path
) -> None:
    (directory / "0003_add_index.sql").write_text(INDEX)

    migrate(new_database, "on", directory)

    assert valid(conn, "notes_body_key")
    assert names(conn)[2:] == ["0003_add_index"]


def test_invalid_index_is_replaced(new_database: str, conn: psycopg.Connection, directory: Path) -> None:
    migrate(new_database, "on", directory)
    conn.execute("INSERT INTO notes (body) VALUES ('same'), ('same')")
    (directory / "0003_add_index.sql").write_text(INDEX)

    with pytest.raises(
        StartupError, match=r'^migration 0003_add_index failed: could not create unique index "notes_bo'
    ):
        migrate(new_database, "on", directory)
    assert valid(conn, "notes_body_key") is False
    assert names(conn)[2:] == []

    conn.execute("DELETE FROM notes")
    migrate(new_database, "on", directory)
    assert valid(conn, "notes_body_key")
    assert names(conn)[2:] == ["0003_add_index"]


def test_index_whose_row_was_not_written_is_kept(
    new_database: str, conn: psycopg.Connection, directory: Path
) -> None:
    migrate(new_database, "on", directory)
    conn.execute("CREATE UNIQUE INDEX notes_body_key ON notes (body)")
    before = conn.execute("SELECT 'notes_body_key'::regclass::oid").fetchone()
    (directory / "0003_add_index.sql").write_text(INDEX)

    migrate(new_database, "on", directory)

    assert conn.execute("SELECT 'notes_body_key'::regclass::oid").fetchone() == before
    assert names(conn)[2:] == ["0003_add_index"]


def test_is_current_follows_the_schema(new_database: str, conn: psycopg.Connection) -> None:
    assert not is_current(conn)
    migrate(new_database, "on")
    assert is_current(conn)
    conn.execute("INSERT INTO schema_migrations VALUES (9999, '9999_be_newer', repeat('0', 64), false)")
    assert is_current(conn)
    conn.execute("DELETE FROM schema_migrations")
    assert not is_current(conn)


def test_status_lists_applied_and_pending_migrations(
    new_database: str, conn: psycopg.Connection, directory: Path
) -> None:
    assert status(new_database, directory) == [("0001_create_notes", None), ("0002_add_author", None)]
    migrate(new_database, "on", directory)
    (directory / "0002_add_author.sql").unlink()
    rows = conn.execute("SELECT name, applied_at FROM schema_migrations ORDER BY version").fetchall()
    assert status(new_database, directory) == rows


def test_sql_script_equals_apply(
    new_database: str,
    conn: psycopg.Connection,
    directory: Path,
    run_program: Callable[..., str],
    dump_schema: Callable[[str], str],
) -> None:
    (directory / "0003_add_index.sql").write_text(INDEX)
    (directory / "0004_drop_author.sql").write_text("-- migrate: breaking\nALTER TABLE notes DROP author;")
    migrate(new_database, "on", directory)
    rows = conn.execute(
        "SELECT version, name, sha256, breaking FROM schema_migrations ORDER BY version"
    ).fetchall()
    expected = dump_schema(new_database)
    conn.execute("DROP TABLE notes, schema_migrations")

    script = pending_sql(new_database, directory)
    assert conn.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,)
    run_program("psql", "--no-psqlrc", new_database, stdin=script)

    assert dump_schema(new_database) == expected
    assert (
        conn.execute(
            "SELECT version, name, sha256, breaking FROM schema_migrations ORDER BY version"
        ).fetchall()
        == rows
    )
    migrate(new_database, "check", directory)
    assert pending_sql(new_database, directory) == "-- Nothing is pending.\n"


def test_sql_script_stops_at_the_first_error(
    new_database: str, conn: psycopg.Connection, directory: Path, run_program: Callable[..., str]
) -> None:
    (directory / "0002_add_author.sql").write_text("CREATE TABLE halves (id integer);\nSELECT 1 / 0;\n")
    (directory / "0003_add_index.sql").write_text(INDEX)

    with pytest.raises(CalledProcessError, match="returned non-zero exit status 3"):
        run_program("psql", "--no-psqlrc", new_database, stdin=pending_sql(new_database, directory))

    assert names(conn) == ["0001_create_notes"]
    assert conn.execute("SELECT to_regclass('halves'), to_regclass('notes_body_key')").fetchone() == (
        None,
        None,
    )


def test_sql_script_replaces_an_invalid_index(
    new_database: str, conn: psycopg.Connection, directory: Path, run_program: Callable[..., str]
) -> None:
    migrate(new_database, "on", directory)
    (directory / "0003_add_index.sql").write_text(INDEX)
    conn.execute("INSERT INTO notes (body) VALUES ('same'), ('same')")
    with pytest.raises(StartupError):
        migrate(new_database, "on", directory)
    conn.execute("DELETE FROM notes")

    run_program("psql", "--no-psqlrc", new_database, stdin=pending_sql(new_database, directory))

    assert valid(conn, "notes_body_key")


def test_sql_script_stops_while_a_process_migrates(
    new_database: str, conn: psycopg.Connection, directory: Path, run_program: Callable[..., str]
) -> None:
    script = pending_sql(new_database, directory)
    conn.execute("SELECT pg_advisory_lock(%s)", [migrations.LOCK_KEY])

    with pytest.raises(CalledProcessError, match="returned non-zero exit status 3"):
        run_program("psql", "--no-psqlrc", new_database, stdin=script)

    assert conn.execute("SELECT to_regclass('schema_migrations')").fetchone() == (None,)
