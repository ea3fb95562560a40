"""The limits of Python sources: lines of a module and of a function. ruff limits the length of a line.

`clients/typescript/test/limits.test.ts` checks the TypeScript sources.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAX_MODULE_LINES = 399
MAX_FUNCTION_LINES = 59
SOURCES = sorted(
    path
    for directory in ("mai_sessions", "tests", "bench", "clients/python")
    for path in (ROOT / directory).rglob("*.py")
    if ".venv" not in path.parts
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_module_and_functions_are_short(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= MAX_MODULE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"
