"""The shipped PgBouncer before the suite's PostgreSQL, on a free port and in a directory of its own."""

import os
import shutil
import signal
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
from service import TREE, free_port

CONFIGURATION = TREE / "deploy" / "pgbouncer.ini"
# Of what the suite's PostgreSQL knows.
APP = "mai_sessions_app"
PROGRAM = shutil.which("pgbouncer")


@dataclass
class PgBouncer:
    """A running pooler: the URL of the database through it, as the role app, and its process."""

    url: str
    process: subprocess.Popen[bytes] = field(repr=False)

    def pause(self) -> None:
        """Take no notice of anybody."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Take notice again."""
        self.process.send_signal(signal.SIGCONT)


def configuration(directory: Path, port: int, database_url: str, **replaced: str) -> str:
    """Write the shipped configuration with only places changed, and what the test names."""
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
    """Run it until it is no longer needed; skips the test where it is not installed."""
    if PROGRAM is None:
        pytest.skip("PgBouncer (Debian: pgbouncer) is not installed")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="mai-sessions-test-") as name:
        directory = Path(name)
        (directory / "pgbouncer.ini").write_text(configuration(directory, port, database_url, **replaced))
        (directory / "userlist.txt").write_text(f'"{APP}" "{APP}"\n')
        process = subprocess.Popen([PROGRAM, "--quiet", directory / "pgbouncer.ini"], **_unprivileged(directory, database_url))
        try:
            deadline = time.monotonic() + 10
            while not _listens(port):
                assert process.poll() is None, (directory / "pgbouncer.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.02)
            yield PgBouncer(make_conninfo(host="127.0.0.1", port=port, dbname="mai_sessions", user=APP, password=APP), process)
        finally:
            process.kill()
            process.wait(timeout=10)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _unprivileged(directory: Path, database_url: str) -> dict[str, str]:
    """PgBouncer refuses root: then it runs as the user who may reach PostgreSQL's socket, and gets the directory."""
    if os.geteuid() != 0:
        return {}
    host = str(conninfo_to_dict(database_url).get("host", ""))
    user = Path(host).owner() if host.startswith("/") else "nobody"
    for path in (directory, *directory.iterdir()):
        shutil.chown(path, user)
    return {"user": user}
