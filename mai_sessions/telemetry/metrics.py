"""The numbers of the service, for Prometheus."""

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition, multiprocess, values
from prometheus_client.mmap_dict import MmapedDict

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LOOK = 1.0  # seconds
_shared: list[str] = []


def enable_multiprocess(directory: str) -> None:
    """Let this process and those that it forks keep their numbers in files of a directory. Call it before any
    Metrics is made.
    """
    # Where the library looks for it.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    _shared[:] = [directory]


def mark_process_dead(pid: int) -> None:
    """Drop the gauges of a process that has ended, and add what it counted to the file of all ended
    processes, so that the files do not grow in number with each replaced worker.
    """
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
    with _files_locked(fcntl.LOCK_EX):
        for path in Path(_shared[0]).glob(f"*_{pid}.db"):
            ended = MmapedDict(str(path).replace(f"_{pid}.db", "_ended.db"))  # type: ignore[no-untyped-call]
            try:
                counted = list(MmapedDict.read_all_values_from_file(path))  # type: ignore[no-untyped-call]
            except RuntimeError:
                # The process was killed while it wrote.
                counted = []
            for key, value, timestamp, _ in counted:
                ended.write_value(key, ended.read_value(key)[0] + value, timestamp)  # type: ignore[no-untyped-call]
            ended.close()  # type: ignore[no-untyped-call]
            path.unlink()


@contextmanager
def _files_locked(operation: int) -> Iterator[None]:
    """Keep others from removing files that are read, and from reading what is being added up."""
    with (Path(_shared[0]) / "lock").open("ab") as lock:
        fcntl.flock(lock, operation)
        yield


class Metrics:
    """The metrics of an application. Gauges are summed over the processes that live."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def gauge(name: str, help: str, labels: Sequence[str] = ()) -> Gauge:
            return Gauge(f"mai_sessions_{name}", help, labels, registry=registry, multiprocess_mode="livesum")

        self.request_duration = Histogram(
            "mai_sessions_http_request_duration_seconds",
            "From the first line of a request to the last byte of its answer",
            ["method", "route", "status"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self._in_flight = gauge("http_requests_in_flight", "Requests that are being served")
        self.replays = Counter(
            "mai_sessions_http_replays", "Retries that got the first answer again", registry=registry
        )
        self.rejected = Counter(
            "mai_sessions_http_rejected_inputs", "What was wrong with inputs", ["reason"], registry=registry
        )
        self.statements = Counter(
            "mai_sessions_db_statements", "Statements that requests ran", registry=registry
        )
        self.statement_time = Counter(
            "mai_sessions_db_statement_seconds", "Time that requests spent in them", registry=registry
        )
        self.replica_fallbacks = Counter(
            "mai_sessions_db_replica_fallbacks",
            "Reads that the primary did for a replica that failed",
            registry=registry,
        )
        self.expiry_removed = Counter(
            "mai_sessions_expiry_removed",
            "Rows that the service removed as expired",
            ["kind"],
            registry=registry,
        )
        # A series that begins at 0 shows the first removal as an increase.
        for kind in ("idempotency_keys", "sessions"):
            self.expiry_removed.labels(kind)
        self.expiry_overdue = Gauge(
            "mai_sessions_expiry_overdue",
            "Rows that should have expired an hour ago",
            ["kind"],
            registry=registry,
            multiprocess_mode="livemostrecent",
        )
        self.expiry_overdue.labels("idempotency_keys").set(0)
        self.expiry_last_run = Gauge(
            "mai_sessions_expiry_last_run_timestamp_seconds",
            "When a worker last finished its look for expired rows, in Unix time",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._pool_in_use = gauge(
            "db_pool_connections_in_use", "Database connections that requests hold", ["database"]
        )
        self._pool_waiting = gauge(
            "db_pool_requests_waiting", "Requests that wait for a database connection", ["database"]
        )
        self._pool_max = gauge(
            "db_pool_connections_max", "Most database connections that the processes open", ["database"]
        )
        build = Gauge(
            "mai_sessions_build_info",
            "The release",
            ["version"],
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._build = build.labels(version("mai-sessions"))
        self._lock = threading.Lock()
        self._requests = 0
        self._pools: Mapping[str, Callable[[], Mapping[str, int]]] = {}

    def start(self, pools: Mapping[str, Callable[[], Mapping[str, int]]]) -> None:
        """Tell of this process from now on: the figures of its pools, too, each by the name of its database.

        What is a state, and no event, a thread writes down each second. With every request it would cost a
        tenth of it, for the numbers of all processes are in files."""
        self._build.set(1)
        self._pools = pools
        threading.Thread(target=self._look_again, name="metrics", daemon=True).start()

    def request_begins(self) -> None:
        """Count one more request that is being served."""
        with self._lock:
            self._requests += 1

    def request_ends(self) -> None:
        """Count one less."""
        with self._lock:
            self._requests -= 1

    def _look_again(self) -> None:
        while True:
            self._look()
            time.sleep(_LOOK)

    def _look(self) -> None:
        self._in_flight.set(self._requests)
        for database, pool in self._pools.items():
            figures = pool()
            self._pool_max.labels(database).set(figures["pool_max"])
            self._pool_in_use.labels(database).set(figures["pool_size"] - figures["pool_available"])
            self._pool_waiting.labels(database).set(figures["requests_waiting"])

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Write the numbers of all processes in a format that the caller accepts, and name its content
        type.
        """
        self._look()
        encode, content_type = exposition.choose_encoder(accept)
        with self._all_processes() as registry:
            return encode(registry), content_type

    def expiry_state(self) -> tuple[datetime | None, int]:
        """Return when a worker last looked for expired rows, and how many it found overdue."""
        with self._all_processes() as registry:
            last_run = registry.get_sample_value("mai_sessions_expiry_last_run_timestamp_seconds")
            overdue = registry.get_sample_value("mai_sessions_expiry_overdue", {"kind": "idempotency_keys"})
        return datetime.fromtimestamp(last_run, UTC) if last_run else None, int(overdue or 0)

    @contextmanager
    def _all_processes(self) -> Iterator[CollectorRegistry]:
        if not _shared:
            yield self._registry
            return
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry, path=_shared[0])  # type: ignore[no-untyped-call]
        with _files_locked(fcntl.LOCK_SH):
            yield registry
