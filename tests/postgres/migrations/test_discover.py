from hashlib import sha256
from pathlib import Path

import pytest
from pglast import parse_sql

from mai_sessions.errors import StartupError
from mai_sessions.postgres.migration_files import Migration, created_table, discover, split_statements


def test_files_are_read_in_order(directory: Path) -> None:
    (directory / "README.md").write_text("Not a migration.")
    text = "-- migrate: breaking\n-- Why.\nDROP TABLE notes;\n"
    (directory / "0003_drop_notes.sql").write_text(text)

    first, second, third = discover(directory)

    assert [first.name, second.name, third.name] == [
        "0001_create_notes",
        "0002_add_author",
        "0003_drop_notes",
    ]
    assert (first.version, first.breaking, first.index) == (1, False, None)
    assert (third.version, third.breaking, third.index) == (3, True, None)
    assert third.sha256 == sha256(text.encode()).hexdigest()


def test_line_endings_do_not_change_checksums(directory: Path) -> None:
    before = discover(directory)
    for path in directory.iterdir():
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))

    assert discover(directory) == before


# The files of 0.1.0: a database that has them refuses any others.
RELEASED = {
    "0001_create_sessions": "f46bc748414f39cc46363f449138ccff8c05068071c24e5bd15c95e8eb494ae8",
    "0002_add_attachments": "686d4f2ae120f1814952f4d03a73c935dc4fc446c7b3342ef10ba9a865f7345c",
    "0003_add_idempotency_keys": "13b00a189daadc22fce1636f5d877f62ef614e2ef0637e4aec827b9af184cbf9",
    "0004_add_search": "5dec28e5ffeff60e09528aa29276c937411fcaa195120227f1febd8f7efd4eab",
    "0005_index_words": "c64d97c4bbc7f98636c7a2b3552e01cce0780ffde023ed5843b3a2713cc7bddd",
    "0006_create_daily_usage": "c325bbcab56335e661f4a9ab35b5e80cdebadbddf7e9bcbf8be036047b787713",
    "0007_add_session_statistics": "c92362d053e944a96784a106696ade951b7de570c8d99e96b6102b73ca96b646",
    "0008_limit_pending_words": "9009dc5d916ea193665e2a36ebc74c5e52c98ea0e2fcb8df8ace5f1531340bc3",
}


def test_released_files_are_unchanged() -> None:
    assert {each.name: each.sha256 for each in discover() if each.name in RELEASED} == RELEASED


@pytest.mark.parametrize(
    "name", ["3_add_it.sql", "0003_add.sql", "0003_Add_it.sql", "0003-add-it.sql", "add_it.sql"]
)
def test_wrong_name_of_a_migration_is_refused(directory: Path, name: str) -> None:
    (directory / name).touch()

    with pytest.raises(StartupError, match=f"{name}: its name is not NNNN_verb_noun.sql"):
        discover(directory)


@pytest.mark.parametrize("name", ["0004_leave_gap", "0002_be_twice"])
def test_wrong_number_of_a_migration_is_refused(directory: Path, name: str) -> None:
    (directory / f"{name}.sql").touch()

    with pytest.raises(StartupError, match=f"{name} stands where number 0003 should"):
        discover(directory)


def test_directory_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no migration files"):
        discover(tmp_path)


def test_unknown_header_of_a_migration_is_refused(directory: Path) -> None:
    (directory / "0003_add_it.sql").write_text("-- migrate: no-transactions\nSELECT 1;\n")

    with pytest.raises(StartupError, match=r"unknown header `-- migrate: no-transactions`"):
        discover(directory)


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS notes_idx ON notes (body);",
        "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS notes_idx\n  ON notes (body) -- one; two\n  WHERE "
        "body <> '';",
        "DROP INDEX CONCURRENTLY IF EXISTS notes_idx;",
    ],
)
def test_index_of_a_file_without_transaction_is_read(directory: Path, statement: str) -> None:
    (directory / "0003_add_it.sql").write_text(f"-- migrate: no-transaction\n-- Why; how.\n{statement}\n")

    assert discover(directory)[2].index == "notes_idx"


@pytest.mark.parametrize(
    "statements",
    [
        "",
        "CREATE INDEX CONCURRENTLY notes_idx ON notes (body);",
        "CREATE INDEX IF NOT EXISTS notes_idx ON notes (body);",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS notes_idx ON notes (body)",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS notes_idx ON notes (body); ANALYZE notes;",
        "VACUUM notes;",
    ],
)
def test_anything_else_without_transaction_is_refused(directory: Path, statements: str) -> None:
    (directory / "0003_add_it.sql").write_text(f"-- migrate: no-transaction\n{statements}\n")

    with pytest.raises(
        StartupError, match=r"0003_add_it\.sql: without a transaction it must be one CREATE INDEX"
    ):
        discover(directory)


def test_script_is_split_where_a_statement_ends() -> None:
    script = """
        -- A comment; with a semicolon, and a ' quote.
        CREATE TABLE notes (body text DEFAULT 'it''s; here', "odd;name" text); /* another; */
        COMMENT ON TABLE notes IS E'a \\'; b';
        DO $x$ BEGIN NULL; END $x$;
        SELECT 1
        -- the end;
    """
    statements = list(split_statements(script))
    assert [created_table(statement) for statement in statements] == ["notes", None, None, None]
    assert statements[0].startswith("-- A comment;")
    assert statements[0].endswith("text);")
    assert statements[2] == "DO $x$ BEGIN NULL; END $x$;"
    assert list(split_statements("-- nothing;\n")) == []


@pytest.mark.parametrize("migration", discover(), ids=lambda migration: migration.name)
def test_statements_are_those_that_the_parser_finds(migration: Migration) -> None:
    assert len(migration.statements) == len(parse_sql(migration.sql))
