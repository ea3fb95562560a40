"""Every command of `mai-sessions` on the private PostgreSQL and on an external one."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path

import psycopg
import pytest
from support.backups import COMMAND, ENVIRON, client_path
from support.chats import SESSIONS
from support.service import call, wait_until

from mai_sessions.cli import main


class Target:
    """The options and the environment that lead the commands to a database."""

    def __init__(self, directory: Path, data_dir: Path | None, database_url: str) -> None:
        self.directory = directory
        self.options = [f"--data-dir={data_dir}"] if data_dir else []
        self.used: set[str] = set()
        self.environ = ENVIRON | {"HOME": str(directory)}
        if database_url:
            self.environ["DATABASE_URL"] = database_url
            with psycopg.connect(database_url) as conn:
                self.environ["PATH"] = client_path(conn)

    def run(self, command: str, *arguments: str, has_database: bool = True) -> str:
        """Run a command that must succeed, and return what it printed, without the lines of the log."""
        self.used.add(command)
        done = subprocess.run(
            [COMMAND, command, *arguments, *(self.options if has_database else [])],
            cwd=self.directory,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
        )
        errors = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith("{")]
        printed = done.stdout + "".join(errors)
        print(f"$ mai-sessions {' '.join([command, *arguments])}\n{printed}")
        assert done.returncode == 0
        return printed

    @contextmanager
    def serve(self) -> Iterator[HTTPConnection]:
        """Run `mai-sessions serve` for the length of a `with`, and yield a connection to it."""
        self.used.add("serve")
        log = self.directory / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [COMMAND, "serve", "--port=0", *self.options],
                cwd=self.directory,
                env=self.environ,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: "The API is at" in log.read_text() or process.poll() is not None)
            address = re.search(r"The API is at http://([\d.:]+)", log.read_text())
            assert address, log.read_text()
            yield HTTPConnection(address[1])
        finally:
            process.terminate()
            process.wait(timeout=60)


@pytest.fixture(params=["private", "external"])
def target(request: pytest.FixtureRequest, data_dir: Path, tmp_path: Path, new_database: str) -> Target:
    """An empty database."""
    if request.param == "private":
        return Target(tmp_path, data_dir, "")
    return Target(tmp_path, None, new_database)


@contextmanager
def serving(target: Target) -> Iterator[None]:
    """Run the service for the length of a `with`, and send it a session."""
    body = {"title": "Test chat", "messages": [{"role": "user", "content": "Why is the sky blue?"}]}
    with target.serve() as http, closing(http):
        assert call(http, "POST", SESSIONS, body)[0] == 201
        yield


def test_every_command_works(target: Target) -> None:
    """Before the service runs, and beside it."""
    run = target.run
    assert run("migrate").startswith("applied 0001_")
    assert run("check") == "ok\n"
    with serving(target):
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  0001_", run("migrate", "--status"))
        assert run("migrate") + run("migrate", "--check") == ""
        assert run("migrate", "--sql") == "-- Nothing is pending.\n"
        assert run("check") == "ok\n"
        assert run("export", "chats.ndjson", "--user=default-user") == ""
        assert "1 new, 0 grown" in run("import", "chats.ndjson", "--user=ann")
        assert '"title":"Test chat"' in run("export", "--user=ann")
        assert run("reindex").startswith("wrote the words of 0 messages and 0 titles; left: 0\n")
        assert run("purge", "--retention-days=9").endswith("sessions: 0 removed\n")
        assert re.fullmatch(r"archive: [\d,]+ bytes\n", run("backup", "archive"))
        assert run("restore", "archive", "--force") == "archive is restored\n"
        assert "sessions, about" in run("psql", "health.sql")
        assert "Nothing was deleted" in run("psql", "purge_sessions.sql", "-v", "days=30")
        assert '"title":"Test chat"' in run("psql", "export_user.sql", "-v", "user_id=ann")
        assert run("psql", "check_all.sql") == "OK: no check found a row\n"
    assert run("upgrade") == "there is nothing to move\n"
    assert "report/health.sql" in run("scripts", has_database=False)
    assert "MAI_SESSIONS_THREADS=4\n" in run("config", has_database=False)
    assert "/api/v1/sessions" in run("routes", has_database=False)
    assert target.used == set(main.commands)


@pytest.mark.parametrize("command", ["check", "reindex", "purge", "export"])
def test_session_that_the_service_cannot_use_is_named_in_one_line(
    database_url: str, tmp_path: Path, command: str
) -> None:
    """Without a pooler, the role of the tests does not have the settings that roles.sql gives to `app`."""
    done = subprocess.run(
        [COMMAND, command, *["--user=ann"] * (command == "export")],
        cwd=tmp_path,
        env=ENVIRON | {"DATABASE_URL": database_url, "MAI_SESSIONS_PREPARE": "off"},
        capture_output=True,
        check=False,
        text=True,
    )
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: PostgreSQL cannot be used: the session has statement_timeout 0")
