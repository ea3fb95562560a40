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


# The files of 0.1.0 (to 0008) and 0.2.0: a database that has them refuses any others.
RELEASED = {
    "0001_create_sessions": "f46bc748414f39cc46363f449138ccff8c05068071c24e5bd15c95e8eb494ae8",
    "0002_add_attachments": "686d4f2ae120f1814952f4d03a73c935dc4fc446c7b3342ef10ba9a865f7345c",
    "0003_add_idempotency_keys": "13b00a189daadc22fce1636f5d877f62ef614e2ef0637e4aec827b9af184cbf9",
    "0004_add_search": "5dec28e5ffeff60e09528aa29276c937411fcaa195120227f1febd8f7efd4eab",
    "0005_index_words": "c64d97c4bbc7f98636c7a2b3552e01cce0780ffde023ed5843b3a2713cc7bddd",
    "0006_create_daily_usage": "c325bbcab56335e661f4a9ab35b5e80cdebadbddf7e9bcbf8be036047b787713",
    "0007_add_session_statistics": "c92362d053e944a96784a106696ade951b7de570c8d99e96b6102b73ca96b646",
    "0008_limit_pending_words": "9009dc5d916ea193665e2a36ebc74c5e52c98ea0e2fcb8df8ace5f1531340bc3",
    "0009_add_message_parts": "785e84f67c06bc4b546a447bf6492094f8067eeaad443ad93ef8a203558387c2",
    "0010_validate_message_parts": "ee685da6ccef53cd22c21de43ed327036d1ffcfd252a1bd8b89f5ca436c48a60",
    "0011_index_listed_sessions": "dee75b7e65ff223e83b9eb4175ad1d7e290647d1c0abb22b9aa4c2a01380890e",
    "0012_index_session_metadata": "ce180b6bb9247657b905cba88385898f628627518eee2f6b739df25fce74b7d4",
    "0013_index_message_attachments": "80bb9984912c52f80852fd2c573613d49d10a9273fcab747b3cb8e6f41ca61b5",
    "0014_index_idempotency_key_ages": "1aed9d1dd7f345287d3f6d8986db9543c3c5f77717bdfa1c15b2ba4d095a29d9",
    "0015_index_streaming_messages": "8433b97aaa7bdfed2119073b94bdca5d76b821a44ef0887adda6e1774cec8d22",
    "0016_index_old_message_words": "af3a8f53db5ab200829c64d85cee7f1b8904c71d6ea0479894141d014e84a6e4",
    "0017_index_old_title_words": "7fc026a5f200ecdd550ec99c10c6884f68b3849a54c778ea03c913539be5eee0",
    "0018_drop_listed_sessions_index": "3abbea22ec3911479e9961d0f20074361f1ee2313f667cb0bbc33be51294b7ba",
    "0019_drop_message_images_index": "1ecfca863061378b542803db8503850f465057045b166044ff83a9629c72aa66",
    "0020_index_exported_sessions": "2bc82846970ae7821370fe5e0c2cf9391d6ebcca6647496b2f7911b07c6a03de",
    "0021_describe_schema": "b84aaf3ad010b042ecbdb8282aa23411b04ae4e19fe0684a48b18ded9eaed991",
    "0022_index_message_parents": "b9a716f833cf644ea528ebb16825ff6cb0749c0e0ba79f8aca36ab602ecb513b",
    "0023_index_system_messages": "5e9f5dc8d181b42430ef04f17c0096f747de1be23965fd04a6d2872795552202",
    "0024_describe_message_indexes": "b81d7f2cd1b8b0aa8a6133b252e2848508e459f4fdeec1b54543f3cacdf4c45f",
    "0025_index_titles": "44fbec4cb01a91760adac3ff4f089626da90ee8aae084b5df2c4dd37d88123b9",
    "0026_vacuum_titles": "208de3ed9a46205be8ecfacb4cc926b7b3e033c0f8f7e66f3edd5717ea1099b5",
    "0027_drop_title_ages_index": "6e54a86c660f559021ea64852a1fdb9f3bbbeeb92b8affe5d6ea1b4f8282872a",
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
