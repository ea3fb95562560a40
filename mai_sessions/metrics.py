"""The numbers of the service, for Prometheus."""

import os
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, exposition, multiprocess, values

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_shared: list[str] = []


def share(directory: str) -> None:
    """Let this process and those that it will fork keep their numbers together, in files there. Comes before any Metrics."""
    # Where the library looks for it.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    values.ValueClass = values.MultiProcessValue()  # type: ignore[no-untyped-call]
    _shared[:] = [directory]


def forget(pid: int) -> None:
    """Drop the gauges of a process that has ended."""
    multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]


class Metrics:
    """The metrics of an application. Gauges are summed over the processes that live."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()

        def gauge(name: str, help: str) -> Gauge:
            return Gauge(f"mai_sessions_{name}", help, registry=registry, multiprocess_mode="livesum")

        self.request_duration = Histogram(
            "mai_sessions_http_request_duration_seconds",
            "From the first line of a request to the last byte of its answer",
            ["method", "route", "status"],
            registry=registry,
            buckets=_BUCKETS,
        )
        self.in_flight = gauge("http_requests_in_flight", "Requests that are being served")
        self.replays = Counter("mai_sessions_http_replays", "Retries that got the first answer again", registry=registry)
        self.rejected = Counter("mai_sessions_http_rejected_inputs", "What was wrong with inputs", ["reason"], registry=registry)
        self.statements = Counter("mai_sessions_db_statements", "Statements that requests ran", registry=registry)
        self.statement_time = Counter("mai_sessions_db_statement_seconds", "Time that requests spent in them", registry=registry)
        self.pool_in_use = gauge("db_pool_connections_in_use", "Database connections that requests hold")
        self.pool_waiting = gauge("db_pool_requests_waiting", "Requests that ask for a database connection")
        self.pool_max = gauge("db_pool_connections_max", "Most database connections that the processes open")
        build = Gauge("mai_sessions_build_info", "The release", ["version"], registry=registry, multiprocess_mode="livemax")
        self._build = build.labels(version("mai-sessions"))

    def start(self, pool_max: int) -> None:
        """Set what stands for as long as this process serves."""
        self._build.set(1)
        self.pool_max.set(pool_max)

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Write the numbers of all processes in a format that the caller accepts, and name its content type."""
        registry = self._registry
        if _shared:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry, path=_shared[0])  # type: ignore[no-untyped-call]
        encode, content_type = exposition.choose_encoder(accept)
        return encode(registry), content_type
