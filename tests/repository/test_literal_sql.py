"""basedpyright keeps SQL literal, which mypy does not check."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATEMENT = """
from typing import LiteralString

from mai_sessions.postgres.connection import Connection, fetch_one


def read(conn: Connection, title: str) -> object:
    part: {annotation} = {value}
    return fetch_one(conn, f"SELECT /* read */ 1 WHERE {{part}}", {{}})
"""


def errors(path: Path) -> str:
    program = Path(sys.executable).with_name("basedpyright")
    if not program.exists():
        pytest.skip("basedpyright is not installed")
    return subprocess.run(
        [program, "--project", ROOT / "pyproject.toml", path],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    ).stdout


@pytest.mark.parametrize(
    ("annotation", "value", "refused"),
    [("str", "title", True), ("LiteralString", "title", True), ("LiteralString", '"true"', False)],
)
def test_fstring_of_a_plain_str_is_refused(
    tmp_path: Path, annotation: str, value: str, refused: bool
) -> None:
    module = tmp_path / "statement.py"
    module.write_text(STATEMENT.format(annotation=annotation, value=value))
    assert ("LiteralString" in errors(module)) is refused
