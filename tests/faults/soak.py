"""What a soak measures: processes, tables, and files, sampled over its length; and its report."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import psycopg
from postgres import Postgres
from support.service import Service

from mai_sessions.config import Settings

MB = 1_000_000

REPORT = """\
# The last soak

`make soak` wrote this. For {seconds} s eight clients created, read, changed and deleted sessions and
messages, with images and without. A client keeps at most 4 sessions of 40 messages, so the number of rows is
bounded. Half of the messages had an `Idempotency-Key`, and the test made each key a day older within a second
of its use, so that the service had keys to expire. The service had its own settings: {settings.workers}
workers of {settings.threads} threads, expiry on.

| | |
| --- | --- |
| requests | {requests:,} ({rate:.0f} a second) |
| statuses | {counts} |
{totals}

{processes}

{tables}

{files}

The largest total of tables and indexes was {first_half} in the first half, and {second_half} in the second.
The indexes of words (GIN) keep each distinct word that was ever written: `rebuild_indexes.sql` made the
{indexes} of all indexes {rebuilt_indexes} ([tuning.md](../sql/dba/tuning.md) says when). PostgreSQL recycles
its WAL up to `max_wal_size`. The log of the service has one line for each request; journald or logrotate
bounds it ([deploy.md](deploy.md)).
"""
_TABLES = """
    SELECT relname, n_live_tup, n_dead_tup, pg_table_size(relid), pg_indexes_size(relid)
      FROM pg_stat_user_tables
     WHERE schemaname = 'public' AND relname <> 'schema_migrations'
     ORDER BY pg_total_relation_size(relid) DESC"""
_WAL = "SELECT sum(size)::bigint, pg_size_bytes(current_setting('max_wal_size')) FROM pg_ls_waldir()"


class Table(NamedTuple):
    """A table and its indexes. The rows are the estimates of PostgreSQL's statistics, the sizes are bytes."""

    rows: int
    dead_rows: int
    size: int
    indexes: int


class Log(NamedTuple):
    """Lines of the service's log, and their bytes: those of requests, and all others."""

    requests: int
    request_bytes: int
    others: int


class Sample(NamedTuple):
    """What exists at a moment. Memory, threads and descriptors are those of the largest worker; sizes are
    bytes.
    """

    memory: int
    threads: int
    descriptors: int
    connections: int
    tables: dict[str, Table]
    wal: int
    max_wal: int
    postgres_logs: int
    metric_files: int
    metric_bytes: int
    log: Log

    @property
    def tables_size(self) -> int:
        """The bytes of all tables and indexes."""
        return sum(table.size + table.indexes for table in self.tables.values())


def take_sample(service: Service, postgres: Postgres, data_dir: Path, log: Path) -> Sample:
    workers = psutil.Process(service.process.pid).children()
    with psycopg.connect(postgres.url) as conn:
        tables = {name: Table(*figures) for name, *figures in conn.execute(_TABLES)}
        [(wal, max_wal)] = conn.execute(_WAL)
    metric_files = [path.stat().st_size for path in _metrics_directory(service).iterdir()]
    return Sample(
        memory=max(worker.memory_info().rss for worker in workers),
        threads=max(worker.num_threads() for worker in workers),
        descriptors=max(worker.num_fds() for worker in workers),
        connections=len(postgres.backends()),
        tables=tables,
        wal=wal,
        max_wal=max_wal,
        postgres_logs=sum(path.stat().st_size for path in data_dir.rglob("*.log")),
        metric_files=len(metric_files),
        metric_bytes=sum(metric_files),
        log=_read_log(log),
    )


def _metrics_directory(service: Service) -> Path:
    """The directory with the metrics of the workers, which the master holds open."""
    [directory] = {
        path
        for descriptor in Path(f"/proc/{service.process.pid}/fd").iterdir()
        if "prometheus" in (path := descriptor.resolve()).name
    }
    return directory


def _read_log(log: Path) -> Log:
    lines = log.read_bytes().splitlines(keepends=True)
    requests = [line for line in lines if "route" in json.loads(line)]
    return Log(len(requests), sum(map(len, requests)), len(lines) - len(requests))


def markdown(
    samples: list[Sample],
    statuses: Counter[str],
    totals: dict[str, int],
    *,
    seconds: int,
    indexes: tuple[int, int],
) -> str:
    """The report: the first, the middle and the last of the samples, and what was found at the end.

    `indexes` are the bytes of all indexes at the end, and after they were rebuilt.
    """
    number = statuses.total()
    counts = ", ".join(f"{count:,} of {status}" for status, count in sorted(statuses.items()))
    columns = [samples[0], samples[len(samples) // 2], samples[-1]]
    return REPORT.format(
        seconds=seconds,
        settings=Settings(),
        requests=number,
        rate=number / seconds,
        counts=counts,
        totals="\n".join(f"| {name} | {count:,} |" for name, count in totals.items()),
        processes=_table("", _process_rows(columns)),
        tables=_table("tables: rows, dead rows, MB of the table + its indexes", _table_rows(columns)),
        files=_table("files", _file_rows(columns)),
        indexes=f"{indexes[0] / MB:.1f} MB",
        rebuilt_indexes=f"{indexes[1] / MB:.1f} MB",
        first_half=_largest(samples[: len(samples) // 2]),
        second_half=_largest(samples[len(samples) // 2 :]),
    )


def _table(heading: str, rows: Iterator[tuple[str, list[str]]]) -> str:
    lines = [f"| {heading} | start | middle | end |", "| --- | ---: | ---: | ---: |"]
    return "\n".join([*lines, *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows)])


def _process_rows(samples: list[Sample]) -> Iterator[tuple[str, list[str]]]:
    yield "largest worker, memory", [f"{sample.memory / MB:.1f} MB" for sample in samples]
    yield "largest worker, threads", [str(sample.threads) for sample in samples]
    yield "largest worker, open files", [str(sample.descriptors) for sample in samples]
    most = Settings().workers * Settings().threads
    yield f"connections to PostgreSQL, of {most}", [str(sample.connections) for sample in samples]


def _table_rows(samples: list[Sample]) -> Iterator[tuple[str, list[str]]]:
    for name in samples[-1].tables:
        tables = [sample.tables[name] for sample in samples]
        yield (
            f"`{name}`",
            [
                f"{table.rows:,}, {table.dead_rows:,} dead, {table.size / MB:.1f} + {table.indexes / MB:.1f}"
                for table in tables
            ],
        )


def _file_rows(samples: list[Sample]) -> Iterator[tuple[str, list[str]]]:
    yield (
        f"WAL, of {samples[-1].max_wal / MB:,.0f} MB",
        [f"{sample.wal / MB:,.0f} MB" for sample in samples],
    )
    yield "PostgreSQL's logs", [f"{sample.postgres_logs / 1000:.1f} kB" for sample in samples]
    yield (
        "metrics of the workers",
        [f"{sample.metric_files} files, {sample.metric_bytes / MB:.1f} MB" for sample in samples],
    )
    logs = [sample.log for sample in samples]
    yield "log, bytes of a request", [f"{log.request_bytes / max(log.requests, 1):.0f}" for log in logs]
    yield "log, lines that are not a request", [str(log.others) for log in logs]


def _largest(samples: list[Sample]) -> str:
    return f"{max(sample.tables_size for sample in samples) / MB:.1f} MB"
