"""Export and import: messages per second, and CPU time."""

import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench import driver, load, targets
from bench.driver import Request
from bench.stage import Stage
from bench.targets import TREE, Server


class Transfer(NamedTuple):
    """Messages a second, and microseconds of CPU a message: of the server or the command, and of
    PostgreSQL.
    """

    messages: int
    messages_per_second: float
    server_us: float
    postgres_us: float


def measure(stage: Stage, server: Server, size: str) -> dict[str, Transfer]:
    """Export all messages of the measured user, and import them for another user."""
    with _taken() as taken:
        before = load.cpu_seconds(server.process), load.cpu_seconds(stage.postgres)
        [exported] = driver.send_in_turn(server.port, [Request("GET", "/export")])
        after = load.cpu_seconds(server.process), load.cpu_seconds(stage.postgres)
    messages = exported.content.count(b'"session_id":')
    found = {"export": _transfer(messages, taken[0], before, after)}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "export.ndjson")
        file.write_bytes(exported.content)
        command = [str(targets.bin_of(TREE) / "mai-sessions"), "import", str(file), "--user", "somebody-else"]
        environ = targets.environ_with(DATABASE_URL=stage.database_url("ours", size))
        with _taken() as taken:
            before = _children_seconds(), load.cpu_seconds(stage.postgres)
            subprocess.run(command, env=environ, check=True, capture_output=True)
            after = _children_seconds(), load.cpu_seconds(stage.postgres)
    return {**found, "import": _transfer(messages, taken[0], before, after)}


def table(found: Mapping[str, Transfer]) -> str:
    """Write the table in Markdown."""
    lines = [
        "| | messages | messages a second | server or command µs a message | PostgreSQL µs |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {name} | {each.messages:,} | {each.messages_per_second:,.0f} | {each.server_us:,.0f} "
        f"| {each.postgres_us:,.0f} |"
        for name, each in found.items()
    ]
    return "\n".join(lines)


@contextmanager
def _taken() -> Iterator[list[float]]:
    """Yield a list whose item becomes the seconds of the block."""
    started, taken = time.perf_counter(), [0.0]
    yield taken
    taken[0] = time.perf_counter() - started


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _transfer(
    messages: int, seconds: float, before: tuple[float, float], after: tuple[float, float]
) -> Transfer:
    cpu = [(end - start) * 1e6 / messages for start, end in zip(before, after, strict=True)]
    return Transfer(messages, messages / seconds, *cpu)
