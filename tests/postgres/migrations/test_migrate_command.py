import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mai_sessions.cli import main
from mai_sessions.postgres.migrations import discover


@pytest.fixture
def migrate(new_database: str):
    def migrate(*options: str) -> Result:
        return CliRunner().invoke(main, ["migrate", *options], env={"DATABASE_URL": new_database})

    return migrate


def test_migrate_applies_and_prints_each_migration(migrate) -> None:
    result = migrate()
    assert result.exit_code == 0
    assert result.output == "".join(f"applied {migration.name}\n" for migration in discover())
    assert migrate().output == ""


def test_check_reports_by_its_exit_code(migrate) -> None:
    result = migrate("--check")
    assert result.exit_code == 1
    assert re.fullmatch(
        r"Error: the database lacks 0001_create_sessions.*: run `mai-sessions migrate`\n", result.output
    )
    migrate()
    result = migrate("--check")
    assert (result.exit_code, result.output) == (0, "")


def test_status_is_a_line_for_each(migrate) -> None:
    assert migrate("--status").output.startswith("pending               0001_create_sessions\n")
    migrate()
    result = migrate("--status")
    assert result.exit_code == 0
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  0001_create_sessions\n", result.output)
    assert len(result.output.splitlines()) == len(discover())


def test_sql_prints_a_script_and_applies_nothing(migrate) -> None:
    result = migrate("--sql")
    assert result.exit_code == 0
    assert result.output.startswith("\\set ON_ERROR_STOP on\n")
    assert "CREATE TABLE sessions" in result.output
    assert migrate("--check").exit_code == 1


@pytest.mark.parametrize("option", ["--status", "--check", "--sql"])
def test_empty_data_directory_is_refused_and_left(tmp_path: Path, option: str) -> None:
    path = tmp_path / "data"
    arguments = ["migrate", option, f"--data-dir={path}"]
    result = CliRunner().invoke(main, arguments, env={"DATABASE_URL": None})
    assert (result.exit_code, result.output) == (1, f"Error: the data directory {path} holds no data\n")
    assert not path.exists()
