"""Sends load, and measures requests per second, latencies, and the CPU time of the serving processes."""

import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import psutil

from bench.targets import Server

CONNECTIONS = 8
_SCRIPT = Path(__file__).with_name("load.lua")


class Sample(NamedTuple):
    """The figures of a round. CPU times are in microseconds for each request."""

    requests_per_second: float
    p50_ms: float
    p99_ms: float
    server_us: float
    postgres_us: float


def medians(samples: Iterable[Sample]) -> Sample:
    """Return the median of each figure."""
    return Sample(*map(median, zip(*samples, strict=True)))


def cpu_seconds(process: psutil.Process) -> float:
    """Return the CPU seconds of a process and its children, including those that have ended."""
    total = 0.0
    for each in (process, *process.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def send(
    server: Server, postgres: psutil.Process, requests: list[str], body: str, seconds: int, user: str = ""
) -> Sample:
    """Send the requests in turn over eight connections. Raises RuntimeError when one fails."""
    with tempfile.TemporaryDirectory() as directory:
        lines, content = Path(directory, "requests"), Path(directory, "body")
        lines.write_text("\n".join(requests))
        content.write_text(body)
        options = [
            "-t2",
            f"-c{CONNECTIONS}",
            f"-d{seconds}",
            "--timeout=30",
            "--latency",
            f"--script={_SCRIPT}",
        ]
        if user:
            options += ["--header", f"X-Forwarded-User: {user}"]
        before = cpu_seconds(server.process), cpu_seconds(postgres)
        output = _run("wrk", *options, f"http://127.0.0.1:{server.port}", "--", str(lines), str(content))
        after = cpu_seconds(server.process), cpu_seconds(postgres)
    found = re.search(r"^result (\d+) (\d+) (\d+) (\d+) (\d+)$", output, re.MULTILINE)
    assert found, output
    count, microseconds, failed, p50, p99 = map(int, found.groups())
    if not count:  # The first requests to the seed can take minutes.
        return send(server, postgres, requests, body, seconds * 2, user)
    if failed:
        raise RuntimeError(
            f"{failed} of {count} requests failed: {server.process.cmdline()} {requests[0]}\n{output}"
        )
    cpu = [(end - start) * 1e6 / count for start, end in zip(before, after, strict=True)]
    return Sample(count / microseconds * 1e6, p50 / 1000, p99 / 1000, *cpu)


def execute(
    pgbench: Path,
    database_url: str,
    postgres: psutil.Process,
    scripts: list[str],
    texts: Mapping[str, str],
    seconds: int,
) -> float:
    """Run statements in turn by `pgbench -M prepared` over eight connections; CPU microseconds of PostgreSQL
    for one.

    What it takes to connect and to prepare is not counted.
    """
    with tempfile.TemporaryDirectory() as directory:
        options = [
            "-n",
            "-Mprepared",
            f"-c{CONNECTIONS}",
            "-j2",
            *(f"-D{name}={text}" for name, text in texts.items()),
        ]
        for number, script in enumerate(scripts):
            file = Path(directory, f"{number}.sql")
            file.write_text(script)
            options.append(f"-f{file}")
        spent, counts = [cpu_seconds(postgres)], []
        # Each client picks scripts at random: with four runs for each script, it prepares nearly all of them.
        for length in (f"-t{4 * len(scripts)}", f"-T{seconds}"):
            output = _run(str(pgbench), *options, length, database_url)
            spent.append(cpu_seconds(postgres))
            processed = re.search(r"actually processed: (\d+)", output)
            assert processed, output
            counts.append(int(processed[1]))
    connecting, running = spent[1] - spent[0], spent[2] - spent[1]
    return (running - connecting) * 1e6 / (counts[1] - counts[0])


def _run(*command: str) -> str:
    done = subprocess.run(command, check=False, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr}{done.stdout}")
    return done.stdout
