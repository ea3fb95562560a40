"""The limits of Python sources and SQL scripts. ruff limits the lines of Python to 110 characters.

`clients/typescript/test/limits.test.ts` checks the TypeScript sources.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_MODULE_LINES = 399
MAX_FUNCTION_LINES = 59
MAX_LINE_CHARACTERS = 110
SOURCES = sorted(
    path
    for directory in ("mai_sessions", "tests", "bench", "clients/python")
    for path in (ROOT / directory).rglob("*.py")
    if ".venv" not in path.parts
)
SCRIPTS = sorted(
    path for path in (ROOT / "sql" / "dba").rglob("*") if path.suffix in (".sql", ".psql") and path.is_file()
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_and_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_script_is_short_and_narrow(path: Path) -> None:
    lines = path.read_text("utf-8").splitlines()
    assert len(lines) <= MAX_MODULE_LINES
    # psql cannot divide a shell command between backticks.
    assert [line for line in lines if len(line) > MAX_LINE_CHARACTERS and "`" not in line] == []
