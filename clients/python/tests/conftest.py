"""The real service over a PostgreSQL of its own."""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mai_sessions_client import Client

PROGRAM = Path(os.environ.get("MAI_SESSIONS", Path(__file__).parents[3] / ".venv/bin/mai-sessions"))


@contextmanager
def serving(**environ: str) -> Iterator[str]:
    """Run the service, and return where it is."""
    kept = {
        name: value for name, value in os.environ.items() if not re.match("MAI_SESSIONS|DATABASE_URL", name)
    }
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile("w+") as log:
        # PostgreSQL runs as another user when this is root.
        Path(directory).chmod(0o755)
        process = subprocess.Popen(  # noqa: S603 - the program of this repository
            [PROGRAM, "serve", "--port", "0", "--data-dir", f"{directory}/data"],
            env=kept | environ,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdout
        found = next((match for line in process.stdout if (match := re.search(r"http://[^/]+", line))), None)
        if found:
            yield found[0]
        process.send_signal(signal.SIGTERM)
        process.stdout.close()
        process.wait(30)
        log.seek(0)
        assert found, log.read()


@pytest.fixture(scope="session")
def origin() -> Iterator[str]:
    """Where the service is."""
    with serving() as origin:
        yield origin


@pytest.fixture
def client(origin: str) -> Iterator[Client]:
    """A client of an empty service."""
    with Client(origin) as client:
        for session in list(client.sessions(archived="any")):
            client.delete_session(session.id)
        yield client
