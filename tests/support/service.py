"""The real server: gunicorn over a real PostgreSQL, reached over HTTP."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import orjson
import psutil

TREE = Path(__file__).parents[2]
GUNICORN = [
    str(Path(sys.executable).with_name("gunicorn")),
    "--config=python:mai_sessions.server.gunicorn_conf",
    "mai_sessions.server.wsgi:app",
]


@dataclass
class Service:
    """A running server: its port, its database, and its master process."""

    port: int
    database_url: str
    process: subprocess.Popen[bytes] = field(repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> HTTPConnection:
        """Return a persistent connection, for one thread at a time."""
        return HTTPConnection("127.0.0.1", self.port, timeout=60)

    def is_ready(self) -> bool:
        """Return whether the service can serve requests."""
        with closing(HTTPConnection("127.0.0.1", self.port, timeout=5)) as http:
            try:
                http.request("GET", "/health/ready")
                return http.getresponse().status == 200
            except OSError:
                return False


def call(http: HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """Send a request, and return the status and the parsed JSON of the response."""
    data, headers = (None, {}) if body is None else (orjson.dumps(body), {"Content-Type": "application/json"})
    http.request(method, path, data, headers)
    response = http.getresponse()
    content = response.read()
    return response.status, orjson.loads(content) if content else None


def free_port() -> int:
    """Return a free port of the loopback."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextmanager
def running(
    database_url: str, log: Path, *, port: int = 0, open_files: int = 0, application: str = "", **environ: str
) -> Iterator[Service]:
    """Run gunicorn as docs/deploy.md says, for the length of a `with`, on a free port unless one is named.

    `open_files` is its `ulimit -n`, soft and hard; `application` is another than the service's own.
    """
    port = port or free_port()
    environ = {
        **os.environ,
        "DATABASE_URL": database_url,
        "MAI_SESSIONS_BIND": f"127.0.0.1:{port}",
        **environ,
    }
    command = [*GUNICORN[:-1], application or GUNICORN[-1]]
    if open_files:
        command = ["prlimit", f"--nofile={open_files}:{open_files}", *command]
    with log.open("ab") as output:
        # In a group of its own, so that a test can kill it whole.
        process = subprocess.Popen(
            command, cwd=TREE, env=environ, stdout=output, stderr=output, start_new_session=True
        )
    service = Service(port, database_url, process)
    try:
        deadline = time.monotonic() + 60
        while not service.is_ready():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield service
    finally:
        process.terminate()
        process.wait(timeout=60)


def wait_until(true: Callable[[], object]) -> None:
    """Poll a condition until it is true, for at most a minute."""
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def workers_of(pid: int) -> set[psutil.Process]:
    """The running workers of the server whose master has this process id. One that has ended is left out,
    even if it is still listed.
    """
    return {child for child in psutil.Process(pid).children() if _is_running(child)}


def _is_running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def metrics_dir(service: Service) -> Path:
    """Return the directory of the metrics of a service."""
    paths = [path.readlink() for path in Path(f"/proc/{service.process.pid}/fd").iterdir()]
    return next(path for path in paths if path.name.startswith("mai-sessions-prometheus-"))


def get_status(service: Service, path: str) -> int:
    """Return the status of a response."""
    with closing(service.connect()) as http:
        http.request("GET", path)
        return http.getresponse().status


def most_memory(workers: set[psutil.Process]) -> int:
    """Return the peak memory of the largest of the workers, in bytes."""
    statuses = "".join(Path(f"/proc/{worker.pid}/status").read_text() for worker in workers)
    return max(int(kib) * 1024 for kib in re.findall(r"^VmHWM:\s*(\d+) kB$", statuses, re.MULTILINE))
