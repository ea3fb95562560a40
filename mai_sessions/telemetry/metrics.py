"""The metrics of the service, for Prometheus."""

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition, multiprocess, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import _INITIAL_MMAP_SIZE, MmapedDict
from prometheus_client.registry import Collector

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_GaugeMode = Literal["livesum", "livemax", "livemostrecent"]
GAUGE_INTERVAL = 1.0  # seconds
# Seconds for which the master waits for processes that read the metrics.
LOCK_TIMEOUT = 1.0
_EXPIRY_LAST_RUN = "mai_sessions_expiry_last_run_timestamp_seconds"
_EXPIRY_OVERDUE = "mai_sessions_expiry_overdue"
_OVERDUE_KINDS = ("idempotency_keys", "streams")
_shared: list[str] = []
# The processes that have ended, and whose files are not merged.
_dead: set[int] = set()


def enable_multiprocess(directory: str) -> None:
    """Let this process and those that it forks keep their metrics in files of a directory. Call it before
    any Metrics is made.
    """
    # prometheus-client reads the directory from the environment.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    # prometheus-client makes its files by this name.
    values.MmapedDict = _AllocatedDict  # type: ignore[assignment, attr-defined]  # not exported
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]  # no annotations
    _shared[:] = [directory]


def mark_process_dead(pid: int) -> None:
    """Remove the gauges of a process that has ended, and add its counters to the file of all ended processes,
    so that replaced workers do not accumulate files.

    Raises BlockingIOError if another process does not stop reading for LOCK_TIMEOUT: the files are then
    merged with those of the next process that ends. Raises OSError if memory is short.
    """
    _dead.add(pid)
    with _lock_file() as lock:
        _lock_exclusively(lock)
        while _dead:
            _merge(_dead.pop())


def _merge(pid: int) -> None:
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]  # no annotations
    for path in _metric_files(f"*_{pid}.db"):
        try:
            counted = list(MmapedDict.read_all_values_from_file(path))  # type: ignore[no-untyped-call]  # no annotations
        except RuntimeError:
            # The process was killed while it wrote.
            counted = []
        with closing(_AllocatedDict(path.with_name(path.name.replace(f"_{pid}.db", "_ended.db")))) as ended:
            # This allocates memory, and fails before anything is added.
            sums = [ended.read_value(key)[0] + value for key, value, _, _ in counted]  # type: ignore[no-untyped-call]  # no annotations
            for (key, _, timestamp, _), value in zip(counted, sums, strict=True):
                ended.write_value(key, value, timestamp)  # type: ignore[no-untyped-call]  # no annotations
        path.unlink()


class _AllocatedDict(MmapedDict):
    """A file of metrics whose memory is allocated as it grows.

    Otherwise the kernel allocates each page when it is written, and ends the process by SIGBUS if the file
    system has none left. This raises OSError instead.
    """

    def __init__(self, path: str | Path) -> None:
        with open(path, "ab") as file:
            _allocate(file, _INITIAL_MMAP_SIZE)
        super().__init__(path)  # type: ignore[no-untyped-call]  # no annotations

    def _init_value(self, key: str) -> None:
        # The value is padded, and has a length, a number and a time.
        if self._used + len(key.encode()) + 32 > self._capacity:
            _allocate(self._f, 2 * self._capacity)
        super()._init_value(key)  # type: ignore[no-untyped-call]  # no annotations


def _allocate(file: IO[bytes], size: int) -> None:
    # macOS has no posix_fallocate, and some file systems cannot allocate.
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise


def _directory() -> Path:
    """Return the directory of the files. Make it again if it was removed: systemd clears /dev/shm of the
    files of a user who logs out (RemoveIPC= in logind.conf(5)).
    """
    directory = Path(_shared[0])
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def _metric_files(pattern: str = "*.db") -> list[Path]:
    """Return the paths of the files with this name. A file is empty while a process makes it, and for ever if
    the process was killed then: prometheus-client cannot read it.
    """
    return [path for path in Path(_shared[0]).glob(pattern) if path.stat().st_size]


class _AllProcesses(Collector):
    """The metrics of all processes."""

    def collect(self) -> Iterable[Metric]:
        """Merge the files."""
        return multiprocess.MultiProcessCollector.merge(_metric_files())  # type: ignore[no-untyped-call, no-any-return]  # no annotations


def _lock_file() -> IO[bytes]:
    """Open the lock of the files: shared for reading, exclusive for merging and removing."""
    return (_directory() / "lock").open("ab")


def _lock_exclusively(lock: IO[bytes]) -> None:
    """Lock the files within LOCK_TIMEOUT. Raises BlockingIOError."""
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOCK_TIMEOUT / 100)


class Metrics:
    """The metrics of an application. Gauges are summed over the running processes."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._lock = threading.Lock()
        self._requests = 0
        self._pools: Mapping[str, Callable[[], Mapping[str, int]]] = {}
        self._add_request_metrics()
        self._add_database_metrics()
        self._add_expiry_metrics()
        self._build = self._gauge("build_info", "The release", ["version"], mode="livemax").labels(
            version("mai-sessions")
        )

    def _add_request_metrics(self) -> None:
        self.request_duration = Histogram(
            "mai_sessions_http_request_duration_seconds",
            "Time from the first line of a request to the last byte of its response",
            ["method", "route", "status"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._in_flight = self._gauge("http_requests_in_flight", "Requests being served")
        self.replays = self._counter("http_replays", "Retries that got the first response again")
        self.rejected = self._counter("http_rejected_inputs", "Validation errors of requests", ["reason"])

    def _add_database_metrics(self) -> None:
        self.statements = self._counter("db_statements", "Statements that requests ran")
        self.statement_time = self._counter("db_statement_seconds", "Time of the statements of requests")
        self.replica_fallbacks = self._counter(
            "db_replica_fallbacks", "Reads that failed on the replica and ran on the primary"
        )
        self._pool_in_use = self._gauge(
            "db_pool_connections_in_use", "Database connections checked out", ["database"]
        )
        self._pool_waiting = self._gauge(
            "db_pool_requests_waiting", "Requests that wait for a database connection", ["database"]
        )
        self._pool_max = self._gauge(
            "db_pool_connections_max", "Most database connections that the processes open", ["database"]
        )

    def _add_expiry_metrics(self) -> None:
        self.expiry_removed = self._counter("expiry_removed", "Expired rows removed", ["kind"])
        # A series that starts at 0 shows the first removal as an increase.
        for kind in ("idempotency_keys", "streams", "sessions"):
            self.expiry_removed.labels(kind)
        self.expiry_overdue = self._gauge(
            "expiry_overdue", "Rows that expired more than an hour ago", ["kind"], mode="livemostrecent"
        )
        for kind in _OVERDUE_KINDS:
            self.expiry_overdue.labels(kind).set(0)
        self.expiry_last_run = self._gauge(
            "expiry_last_run_timestamp_seconds",
            "Unix time at which a worker last finished removing expired rows",
            mode="livemax",
        )

    def _gauge(
        self, name: str, help: str, labels: Sequence[str] = (), *, mode: _GaugeMode = "livesum"
    ) -> Gauge:
        return Gauge(f"mai_sessions_{name}", help, labels, registry=self._registry, multiprocess_mode=mode)

    def _counter(self, name: str, help: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(f"mai_sessions_{name}", help, labels, registry=self._registry)

    def start(self, pools: Mapping[str, Callable[[], Mapping[str, int]]]) -> None:
        """Report this process from now on, with the statistics of its pools by the name of their database.

        A thread sets the gauges once a second: setting them in each request would write to a shared file.
        """
        if _shared:
            _directory()
        self._build.set(1)
        self._pools = pools
        threading.Thread(target=self._update_gauges_forever, name="metrics", daemon=True).start()

    def request_begins(self) -> None:
        """Count a request in flight."""
        with self._lock:
            self._requests += 1

    def request_ends(self) -> None:
        """Stop counting a request in flight."""
        with self._lock:
            self._requests -= 1

    def _update_gauges_forever(self) -> None:
        while True:
            self._update_gauges()
            time.sleep(GAUGE_INTERVAL)

    def _update_gauges(self) -> None:
        self._in_flight.set(self._requests)
        for database, pool_stats in self._pools.items():
            stats = pool_stats()
            self._pool_max.labels(database).set(stats["pool_max"])
            self._pool_in_use.labels(database).set(stats["pool_size"] - stats["pool_available"])
            self._pool_waiting.labels(database).set(stats["requests_waiting"])

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of all processes in a format that the caller accepts, and its content type."""
        self._update_gauges()
        encode, content_type = exposition.choose_encoder(accept)
        with self._all_processes() as registry:
            return encode(registry), content_type

    def expiry_state(self) -> tuple[datetime | None, int]:
        """Return when a worker last removed expired rows, and how many it found overdue."""
        with self._all_processes() as registry:
            last_run = registry.get_sample_value(_EXPIRY_LAST_RUN)
            overdue = sum(
                registry.get_sample_value(_EXPIRY_OVERDUE, {"kind": kind}) or 0 for kind in _OVERDUE_KINDS
            )
        return datetime.fromtimestamp(last_run, UTC) if last_run else None, int(overdue)

    @contextmanager
    def _all_processes(self) -> Iterator[CollectorRegistry]:
        if not _shared:
            yield self._registry
            return
        registry = CollectorRegistry()
        registry.register(_AllProcesses())
        with _lock_file() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield registry
