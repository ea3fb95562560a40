"""A long mixed load: no counter drifts and nothing grows. `make soak` runs for ten minutes, or SOAK_SECONDS,
and writes docs/soak.md.
"""

import os
import re
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from threading import Event, Thread

import psutil
import psycopg
from mixed import Client
from postgres import Postgres, RunProgram, failed_checks
from soak import MB, Sample, markdown, take_sample
from support.scripts import DBA
from support.service import TREE, Service, running

from mai_sessions.config import Settings

CLIENTS = 8
SECONDS = int(os.environ.get("SOAK_SECONDS", "20"))
REPORT = TREE / "docs" / "soak.md"
# Expiry runs once a minute and autovacuum too: only after some minutes as much is removed as is written.
STEADY_AFTER = 300

REMOVED_KEYS = r'^mai_sessions_expiry_removed_total\{kind="idempotency_keys"\} (\S+)$'
# Without a wait for rows that the service has locked, which could become a deadlock.
AGE_KEYS = """
    UPDATE idempotency_keys AS k
       SET created_at = k.created_at - interval '1 day'
      FROM (SELECT user_id, path, key FROM idempotency_keys
             WHERE created_at > now() - interval '23 hours'
               FOR NO KEY UPDATE SKIP LOCKED) AS new_keys
     WHERE (k.user_id, k.path, k.key) = (new_keys.user_id, new_keys.path, new_keys.key)"""


def test_mixed_load_leaves_resources_bounded(
    postgres: Postgres, data_dir: Path, tmp_path: Path, run_program: RunProgram
) -> None:
    done = Event()
    log = tmp_path / "log"
    with running(postgres.url, log) as service:
        clients = [Client(service.port, done) for _ in range(CLIENTS)]
        clock = Thread(target=age_keys, args=[postgres.url, done])
        for thread in (*clients, clock):
            thread.start()
        try:
            # At the first sample the service is warm; by the middle it has allocated what it needs.
            samples, workers = [], []
            for _ in range(10):
                time.sleep(SECONDS / 10)
                samples.append(take_sample(service, postgres, data_dir, log))
                workers.append(psutil.Process(service.process.pid).children())
        finally:
            done.set()
            for thread in (*clients, clock):
                thread.join()
        removed_keys = sum(
            int(float(number)) for number in re.findall(REMOVED_KEYS, metrics(service), re.MULTILINE)
        )
        assert all(found == workers[0] for found in workers)
    statuses = sum((client.statuses for client in clients), Counter())
    found = failed_checks(run_program, postgres.url)
    differing = differences(postgres, clients)
    indexes = indexes_size(postgres)
    run_program(
        "psql",
        "-X",
        "-q",
        "-d",
        postgres.url,
        "-v",
        "apply=1",
        "-f",
        str(DBA / "maintain/rebuild_indexes.sql"),
    )
    rebuilt_indexes = indexes_size(postgres)
    if "WRITE_SOAK" in os.environ:
        totals = {
            "idempotency keys that the service removed": removed_keys,
            "scripts of `sql/dba/check/` that found something": len(found),
            "sessions and messages that are not what the clients know": differing,
        }
        report = markdown(samples, statuses, totals, seconds=SECONDS, indexes=(indexes, rebuilt_indexes))
        REPORT.write_text(report, encoding="utf-8")
    assert set(statuses) <= {"200", "201", "204"}
    assert found == {}
    assert differing == 0
    assert_bounded(samples)
    assert removed_keys or SECONDS < STEADY_AFTER


def metrics(service: Service) -> str:
    with closing(service.connect()) as http:
        http.request("GET", "/metrics")
        text: str = http.getresponse().read().decode()
    return text


def age_keys(url: str, done: Event) -> None:
    """Make each idempotency key a day older, so that the service's next expiry removes it."""
    with psycopg.connect(url, autocommit=True) as conn:
        while not done.wait(1):
            conn.execute(AGE_KEYS)


def assert_bounded(samples: list[Sample]) -> None:
    middle, end = samples[len(samples) // 2], samples[-1]
    assert end.memory < middle.memory * 1.1 + 4 * MB
    assert end.threads == middle.threads
    # The clients may be distributed differently over the workers.
    assert end.descriptors <= middle.descriptors + CLIENTS
    assert max(sample.connections for sample in samples) <= Settings().workers * Settings().threads
    assert end.metric_files == middle.metric_files
    assert end.metric_bytes == middle.metric_bytes
    # Only the start writes other lines.
    assert end.log.others == samples[0].log.others
    assert end.wal <= end.max_wal * 1.1
    if SECONDS >= STEADY_AFTER:
        first, second = samples[: len(samples) // 2], samples[len(samples) // 2 :]
        largest = max(sample.tables_size for sample in first)
        assert max(sample.tables_size for sample in second) < largest * 1.25 + 10 * MB


def indexes_size(postgres: Postgres) -> int:
    """The bytes of all indexes."""
    with psycopg.connect(postgres.url) as conn:
        [(size,)] = conn.execute("SELECT sum(pg_indexes_size(relid))::bigint FROM pg_stat_user_tables")
        return int(size)


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
