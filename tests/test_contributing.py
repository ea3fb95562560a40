"""The tables of folders and routes in CONTRIBUTING.md match the tree."""

import os
import re
from pathlib import Path

from click.testing import CliRunner

from mai_sessions.cli import main

TREE = Path(__file__).parents[1]
DOCUMENT = TREE / "CONTRIBUTING.md"


def test_every_folder_of_the_package_is_in_the_table() -> None:
    named = re.findall(r"^\| `mai_sessions/(\w+)/`", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    folders = [path.parent.name for path in (TREE / "mai_sessions").glob("*/__init__.py")]
    # deploy and sql are packages outside of this folder.
    assert sorted(named) == sorted(set(folders) - {"deploy", "sql"})


def test_every_module_at_the_top_of_the_package_is_in_the_table() -> None:
    table = DOCUMENT.read_text(encoding="utf-8")
    modules = [path.name for path in (TREE / "mai_sessions").glob("*.py")]
    assert [module for module in modules if f"`{module}`" not in table] == []


def test_table_of_routes_is_the_printed_one() -> None:
    routes = CliRunner().invoke(main, ["routes"]).output
    text = DOCUMENT.read_text(encoding="utf-8")
    if "WRITE_ROUTES" in os.environ:
        text = re.sub(r"(?s)(```text\nGET ).*?(\n```)", lambda _: f"```text\n{routes}```", text, count=1)
        DOCUMENT.write_text(text, encoding="utf-8")
    assert f"```text\n{routes}```" in text, "run `make routes`"
