"""A long mixed load: no counter drifts and nothing grows. `make soak` runs for ten minutes, or SOAK_SECONDS,
and writes docs/soak.md.
"""

import os
import time
from collections import Counter
from pathlib import Path
from threading import Event
from typing import NamedTuple

import psutil
import psycopg
from mixed import Client
from postgres import Postgres, RunProgram, failed_checks
from support.service import TREE, Service, running

from mai_sessions.config import Settings

CLIENTS = 8
SECONDS = int(os.environ.get("SOAK_SECONDS", "20"))
REPORT = TREE / "docs" / "soak.md"
MB = 1_000_000


class Sample(NamedTuple):
    """What the service holds at a moment. Memory, threads and descriptors are those of the largest worker."""

    memory: int
    threads: int
    descriptors: int
    connections: int


def sample(service: Service, postgres: Postgres) -> Sample:
    workers = psutil.Process(service.process.pid).children()
    return Sample(
        max(worker.memory_info().rss for worker in workers),
        max(worker.num_threads() for worker in workers),
        max(worker.num_fds() for worker in workers),
        len(postgres.backends()),
    )


def test_mixed_load(postgres: Postgres, tmp_path: Path, run_program: RunProgram) -> None:
    done = Event()
    with running(postgres.url, tmp_path / "log") as service:
        clients = [Client(service.port, done) for _ in range(CLIENTS)]
        for client in clients:
            client.start()
        try:
            # At the first sample the service is warm; by the second it has allocated what it needs.
            samples, workers = [], []
            for share in (0.1, 0.4, 0.5):
                time.sleep(SECONDS * share)
                samples.append(sample(service, postgres))
                workers.append(psutil.Process(service.process.pid).children())
        finally:
            done.set()
            for client in clients:
                client.join()
        assert workers[0] == workers[1] == workers[2]
    _, middle, end = samples
    statuses = sum((client.statuses for client in clients), Counter())
    found = failed_checks(run_program, postgres.url)
    differing = differences(postgres, clients)
    if "WRITE_SOAK" in os.environ:
        REPORT.write_text(markdown(statuses, samples, len(found), differing), encoding="utf-8")
    assert set(statuses) <= {"200", "201", "204"}
    assert found == {}
    assert differing == 0
    assert end.memory < middle.memory * 1.1 + 4 * MB
    assert end.threads == middle.threads
    # The clients may be distributed differently over the workers.
    assert end.descriptors <= middle.descriptors + CLIENTS
    assert max(connections for *_, connections in samples) <= Settings().workers * Settings().threads


def differences(postgres: Postgres, clients: list[Client]) -> int:
    """How many sessions and messages the clients have and the database has not, or the other way round."""
    kept = {
        (session, message)
        for client in clients
        for session, messages in client.kept.items()
        for message in [*messages, None]
    }
    with psycopg.connect(postgres.url) as conn:
        statement = (
            "SELECT id::text, NULL FROM sessions UNION ALL SELECT session_id::text, id::text FROM messages"
        )
        return len(kept ^ set(conn.execute(statement).fetchall()))


def markdown(statuses: Counter[str], samples: list[Sample], found: int, differing: int) -> str:
    number = statuses.total()
    figures = [
        ("largest worker, memory", [f"{sample.memory / MB:.1f} MB" for sample in samples]),
        ("largest worker, threads", [str(sample.threads) for sample in samples]),
        ("largest worker, open files", [str(sample.descriptors) for sample in samples]),
        (
            f"connections to PostgreSQL, of {Settings().workers * Settings().threads}",
            [str(sample.connections) for sample in samples],
        ),
    ]
    return "\n".join(
        [
            "# The last soak",
            "",
            f"`make soak` wrote this. For {SECONDS} s {CLIENTS} clients made, read, changed and removed "
            "sessions and messages,",
            "with images and without. The service had its own settings: "
            f"{Settings().workers} workers of {Settings().threads} threads.",
            "",
            "| | |",
            "| --- | --- |",
            f"| requests | {number:,} ({number / SECONDS:.0f} a second) |",
            f"| statuses | "
            f"{', '.join(f'{count:,} of {status}' for status, count in sorted(statuses.items()))} |",
            f"| scripts of `sql/dba/check/` that found something | {found} |",
            f"| sessions and messages that are not what the clients know | {differing} |",
            "",
            "| | start | middle | end |",
            "| --- | ---: | ---: | ---: |",
            *(f"| {name} | {' | '.join(cells)} |" for name, cells in figures),
            "",
        ]
    )
