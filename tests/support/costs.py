"""The cost of a request: CPU time and memory of the processes that serve it."""

import re
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import psycopg
from support.service import Service, workers_of


class Request(NamedTuple):
    """A request as bytes, without the framing of the body."""

    method: str
    path: str
    body: bytes | None = None
    headers: dict[str, str] = {}  # noqa: RUF012 - it is never changed


class Cost(NamedTuple):
    """The status of a response, CPU seconds of the worker and of PostgreSQL, and bytes of memory of the
    worker: the most, and those that it keeps.
    """

    status: int
    cpu: float
    memory: int
    kept: int


class Meter:
    """Measures requests to a service of one worker and one thread, over one connection."""

    def __init__(self, service: Service, http: HTTPConnection) -> None:
        self._http = http
        [worker] = workers_of(service.process.pid)
        self._worker = worker.pid
        self._database_url = service.database_url
        self._pids = self._find_processes()

    def _find_processes(self) -> list[int]:
        with closing(psycopg.connect(self._database_url)) as conn:
            statement = """SELECT pid FROM pg_stat_activity
                            WHERE datname = current_database() AND application_name = 'mai-sessions'"""
            return [self._worker, *(pid for (pid,) in conn.execute(statement))]

    def measure(self, request: Request) -> Cost:
        """Send a request and read its response."""
        headers = {"Content-Type": "application/json", **request.headers}
        # The connection of a large value is replaced.
        if not all(Path(f"/proc/{pid}").exists() for pid in self._pids):
            self._pids = self._find_processes()
        # Reset the peak of memory to the present size.
        Path(f"/proc/{self._worker}/clear_refs").write_text("5")
        memory, cpu = _memory(self._worker, "VmRSS"), cpu_seconds(self._pids)
        self._http.request(request.method, request.path, request.body, headers)
        response = self._http.getresponse()
        response.read()
        cpu = cpu_seconds(self._pids) - cpu
        # The worker frees the body after its response. The only thread has done so once it serves again.
        self._http.request("GET", "/health/live")
        self._http.getresponse().read()
        most, kept = (_memory(self._worker, name) - memory for name in ("VmHWM", "VmRSS"))
        return Cost(response.status, cpu, most, kept)


def query(path: str, name: str, value: str, **others: str) -> str:
    """The URL of a path and its query."""
    pairs = {**others, name: value}
    return f"{path}?" + "&".join(f"{key}={quote(text, safe='')}" for key, text in pairs.items())


def cpu_seconds(pids: Iterable[int]) -> float:
    """Sum up the CPU time of processes, in seconds."""
    seconds = 0.0
    for pid in pids:
        # The process of a connection may have ended.
        with suppress(OSError):
            # clock_getcpuclockid(3), which Python does not have: to the nanosecond, unlike /proc.
            seconds += time.clock_gettime((~pid << 3) | 2)
    return seconds


def _memory(pid: int, name: str) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(rf"^{name}:\s*(\d+) kB$", status, re.MULTILINE)
    assert match
    return int(match[1]) * 1024
