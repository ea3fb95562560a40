"""The installed scripts of `sql/dba/` and files of `deploy/`, and psql to run the scripts."""

import subprocess
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from mai_sessions.embedded.backup import database_without_password
from mai_sessions.errors import StartupError

SCRIPTS = Path(str(resources.files("mai_sessions.sql"))) / "dba"
DEPLOYMENT = Path(str(resources.files("mai_sessions.deploy")))


def find_script(name: str) -> Path:
    """Return the path of a script, given as a path or by its name below `sql/dba/`, such as `health.sql`.

    Raises StartupError for one that does not exist.
    """
    for path in (Path(name), SCRIPTS / name, *SCRIPTS.glob(f"*/{name}")):
        if path.is_file():
            return path
    raise StartupError(f"there is no script {name}: `mai-sessions scripts` lists them")


def list_scripts() -> list[tuple[str, str]]:
    """Return the name of each script below `sql/dba/`, and the first line of its header."""
    return [
        (str(path.relative_to(SCRIPTS)), path.read_text("utf-8").partition("\n")[0].removeprefix("-- "))
        for path in sorted(SCRIPTS.rglob("*.sql"))
    ]


def run_psql(
    database_url: str, script: Path | None, variables: Sequence[str], *, programs: Path | None = None
) -> int:
    """Run a script, or without one a shell, and return psql's exit code; `~/.psqlrc` is not read.

    `variables` are `name=value`. `programs` is the directory of psql, by default on the PATH. Raises
    StartupError.
    """
    command = [str(programs / "psql") if programs else "psql", "--no-psqlrc"]
    command += [argument for variable in variables for argument in ("-v", variable)]
    command += ["-f", str(script)] if script else []
    with database_without_password(database_url) as database:
        try:
            return subprocess.run([*command, f"--dbname={database}"], check=False).returncode
        except FileNotFoundError:
            raise StartupError("psql is missing: install PostgreSQL's client programs") from None
