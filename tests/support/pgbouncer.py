"""The shipped PgBouncer before the suite's PostgreSQL, on a free port and in a directory of its own."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from support.service import TREE, free_port

CONFIGURATION = TREE / "deploy" / "pgbouncer.ini"
PROGRAM = shutil.which("pgbouncer")


@dataclass
class PgBouncer:
    """A pooler, and the URL of the database through it, as the role app."""

    port: int
    directory: Path = field(repr=False)
    user: str | None = field(repr=False)
    process: subprocess.Popen[bytes] = field(init=False, repr=False)

    @property
    def url(self) -> str:
        return self.url_of("mai_sessions")

    def url_of(self, database: str, role: str = "app") -> str:
        """The URL of a database; `pgbouncer` is the one of its own commands."""
        name = f"mai_sessions_{role}"
        return make_conninfo(host="127.0.0.1", port=self.port, dbname=database, user=name, password=name)

    def start(self) -> None:
        """Start it, and wait until it listens."""
        assert PROGRAM
        self.process = subprocess.Popen(
            [PROGRAM, "--quiet", self.directory / "pgbouncer.ini"], user=self.user
        )
        deadline = time.monotonic() + 10
        while not self._listens():
            assert self.process.poll() is None, (self.directory / "pgbouncer.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop it at once."""
        self.process.kill()
        self.process.wait(timeout=10)

    def _listens(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


def configuration(directory: Path, port: int, database_url: str, **replaced: str) -> str:
    """Write the shipped configuration. Only paths differ, and the replacements of the test."""
    text = CONFIGURATION.read_text()
    server = conninfo_to_dict(database_url)
    places = " ".join(f"{name}={server[name]}" for name in ("host", "port", "dbname") if name in server)
    for old, new in {
        "mai_sessions = host=127.0.0.1 port=5432": f"mai_sessions = {places}",
        "listen_port = 6432": f"listen_port = {port}",
        "/var/run/postgresql": str(directory),
        "/var/log/postgresql": str(directory),
        "/etc/pgbouncer": str(directory),
        # Fewer than the service's threads, so that they take turns.
        "default_pool_size = 20": "default_pool_size = 3",
        **replaced,
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    return text


@contextmanager
def pgbouncer(database_url: str, **replaced: str) -> Iterator[PgBouncer]:
    """Run it for the length of a `with`. Skips the test if it is not installed."""
    if PROGRAM is None:
        pytest.skip("PgBouncer (Debian: pgbouncer) is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mai-sessions-test-") as name:
        directory = Path(name)
        (directory / "pgbouncer.ini").write_text(configuration(directory, port, database_url, **replaced))
        roles = ("mai_sessions_app", "mai_sessions_readonly")
        (directory / "userlist.txt").write_text("".join(f'"{role}" "{role}"\n' for role in roles))
        pooler = PgBouncer(port, directory, _unprivileged(directory, database_url))
        pooler.start()
        try:
            yield pooler
        finally:
            pooler.stop()


def _unprivileged(directory: Path, database_url: str) -> str | None:
    """PgBouncer refuses root: then it runs as the user who may reach PostgreSQL's socket, and gets the
    directory.
    """
    if os.geteuid() != 0:
        return None
    host = str(conninfo_to_dict(database_url).get("host", ""))
    user = Path(host).owner() if host.startswith("/") else "nobody"
    for path in (directory, *directory.iterdir()):
        shutil.chown(path, user)
    return user
