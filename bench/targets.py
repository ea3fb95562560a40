"""The targets: the service, the references beside the checkout, and a bare Flask route. Each has two
worker processes.
"""

import os
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple

import psutil

WORKERS = 2
TREE = Path(__file__).parents[1]
CACHE = TREE / ".bench"
_BIN = Path(sys.executable).parent
_REFERENCES = ("seed", "expert")


class Server(NamedTuple):
    """A running server, by its first process."""

    port: int
    process: psutil.Process

    def body_of(self, request: str, body: str = "", user: str = "") -> bytes:
        """Return the body of a response. Raises OSError for an error status."""
        headers = {"X-Forwarded-User": user} if user else {}
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=60)) as http:
            method, path = request.split(" ")
            http.request(method, path, body or None, {"Content-Type": "application/json", **headers})
            response = http.getresponse()
            content = response.read()
        if response.status >= 300:
            raise OSError(f"{request}: {response.status} {content[:200]!r}")
        return content


class References:
    """The two reference services. One that is not in the folder is left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.names = [name for name in _REFERENCES if self._path(name).is_dir()]
        self.missing = [name for name in _REFERENCES if name not in self.names]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}_reference"

    def bin(self, name: str) -> Path:
        """Return the programs of its venv, which is created if it is missing."""
        path = CACHE / f"venv-{name}"
        if not (path / "bin" / "uvicorn").exists():
            venv.create(path, with_pip=True)
            requirements = self._path(name) / "requirements.txt"
            wanted = (
                ["-r", str(requirements)]
                if requirements.exists()
                else ["asyncpg", "orjson", "uvicorn[standard]"]
            )
            subprocess.run([path / "bin" / "pip", "install", "--quiet", *wanted], check=True)
        return path / "bin"

    def make_expert_tables(self, database_url: str) -> None:
        """Create its tables, which its server needs."""
        subprocess.run(
            [self.bin("expert") / "python", "load_expert.py", "0"],
            cwd=self._path("expert"),
            env=environ_with(EXPERT_DATABASE_URL=database_url),
            check=True,
        )

    def seed(self, database_url: str) -> AbstractContextManager[Server]:
        """Run the seed reference, which creates its tables at start."""
        url = database_url.replace("postgresql://", "postgresql+asyncpg://")
        return self._uvicorn("seed", "src.main:app", DATABASE_URL=url)

    def expert(self, database_url: str) -> AbstractContextManager[Server]:
        """Run the expert reference."""
        return self._uvicorn("expert", "serve_expert:app", EXPERT_DATABASE_URL=database_url)

    def _uvicorn(self, name: str, app: str, **environ: str) -> AbstractContextManager[Server]:
        port = _free_port()
        options = [f"--workers={WORKERS}", f"--port={port}", "--no-access-log", "--log-level=warning"]
        return _running(
            name, port, [str(self.bin(name) / "uvicorn"), app, *options], self._path(name), environ
        )


def ours(database_url: str, tree: Path = TREE, **environ: str) -> AbstractContextManager[Server]:
    """Run the service of a checkout with its own settings of gunicorn. Another checkout has its own venv."""
    port = _free_port()
    environ = {"DATABASE_URL": database_url, "MAI_SESSIONS_BIND": f"127.0.0.1:{port}", **environ}
    # Release 0.1 has another layout.
    package = "mai_sessions.server" if (tree / "mai_sessions" / "server").is_dir() else "mai_sessions"
    app = f"{package}.wsgi:app" if package != "mai_sessions" else "wsgi:app"
    command = [str(bin_of(tree) / "gunicorn"), f"--config=python:{package}.gunicorn_conf", app]
    return _running("ours" if tree == TREE else "before", port, command, tree, environ)


def bin_of(tree: Path) -> Path:
    """Return the folder with the programs of a checkout."""
    return _BIN if tree == TREE else tree / ".venv" / "bin"


def limit() -> AbstractContextManager[Server]:
    """Run the bare Flask route."""
    port = _free_port()
    command = [
        str(_BIN / "gunicorn"),
        "-c",
        "python:bench.limit",
        f"--bind=127.0.0.1:{port}",
        "bench.limit:app",
    ]
    return _running("limit", port, command, TREE, {})


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def environ_with(**environ: str) -> dict[str, str]:
    """Return the environment of a program, without settings of the service from the present environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAI_SESSIONS_")}
    return {**inherited, "MAI_SESSIONS_WORKERS": str(WORKERS), "PYTHONDONTWRITEBYTECODE": "1", **environ}


@contextmanager
def _running(
    name: str, port: int, command: list[str], cwd: Path, environ: dict[str, str]
) -> Iterator[Server]:
    log = CACHE / f"{name}.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, cwd=cwd, env=environ_with(**environ), stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + 60
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{name} does not start, see {log}")
            time.sleep(0.1)
        # uvicorn's master listens before its workers run.
        time.sleep(2)
        yield Server(port, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(timeout=60)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
