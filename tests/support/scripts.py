"""The scripts for psql, and their headers."""

import re
from collections.abc import Callable
from pathlib import Path

DBA = Path(__file__).parents[2] / "sql/dba"
SCRIPTS = sorted(str(path.relative_to(DBA)) for path in DBA.rglob("*.sql"))
CHECKS = [script for script in SCRIPTS if script.startswith("check/")]
REPORTS = [script for script in SCRIPTS if script.startswith("report/")]
CHANGES = [script for script in SCRIPTS if script.startswith("maintain/")] + ["subject/erase_user.sql"]

# Each has to come through quoting, by psql and in a lexeme.
USERS = ["ann", "O'Neil \\ Söhne", "王"]

RunScript = Callable[..., list[str]]
RunChecks = Callable[..., dict[str, list[str]]]


def head(script: str) -> str:
    """The comment that a script begins with."""
    return (DBA / script).read_text(encoding="utf-8").partition("\n\n")[0]


def header(script: str, name: str) -> str:
    """Return a field of a script's header as one line."""
    match = re.search(rf"^-- {name}: +(.+(?:\n--   .+)*)", head(script), re.MULTILINE)
    assert match, f"{script} says nothing about {name}"
    return " ".join(match[1].replace("\n--", " ").split())
