"""Health checks, for monitors and load balancers."""

from datetime import UTC, datetime
from importlib.metadata import version
from time import perf_counter

import orjson
from flask import Response, url_for

from mai_sessions.errors import SchemaMismatch, Unavailable
from mai_sessions.postgres import migrations
from mai_sessions.postgres.cluster import NodeCounts, count_nodes
from mai_sessions.postgres.pool import Pool
from mai_sessions.repository.reindex import OldWords, count_old_words
from mai_sessions.schemas.health import Alive, DetailedHealth, Health, Ready, Service
from mai_sessions.web.blueprint import service
from mai_sessions.web.database import connection
from mai_sessions.web.responses import json_response
from mai_sessions.web.state import current_state

# In seconds. The detailed health takes at most twice their sum.
PROBE_TIMEOUT = 0.75
REPLICA_PROBE_TIMEOUT = 0.2


@service.get("/", tags=["service"])
@service.response(200, Service)
def get_service() -> Response:
    """Read the name and version of the service, and where its documentation is"""
    docs = url_for("mai_sessions_docs.get_docs")
    return json_response(
        orjson.dumps({"name": "mai-sessions", "version": version("mai-sessions"), "docs": docs})
    )


@service.get("/health", tags=["service"])
@service.response(200, Health)
def get_health() -> Response:
    """Check that the process responds, and read its time"""
    return json_response(orjson.dumps({"status": "ok", "timestamp": datetime.now(UTC)}))


@service.get("/health/live", tags=["service"])
@service.response(200, Alive)
def get_live() -> Response:
    """Check that the process responds"""
    return json_response(b'{"status":"alive"}')


@service.get("/health/ready", tags=["service"])
@service.response(200, Ready)
@service.alt_response(503, "ServiceUnavailable")
def get_ready() -> Response:
    """Check that requests can be served: the database responds and has the schema of this release"""
    try:
        with connection() as conn:
            is_ready = migrations.is_current(conn)
    except SchemaMismatch:
        is_ready = False
    except Unavailable as error:
        raise Unavailable("Database not ready") from error
    if not is_ready:
        # Without a cause, so that the probe is logged: telemetry/outage.py logs only a database that is away.
        raise Unavailable("Database not ready")
    return json_response(b'{"status":"ready"}')


@service.get("/health/detailed", tags=["service"])
@service.response(200, DetailedHealth)
def get_detailed() -> Response:
    """Read the state of the service and its database, also when they are unhealthy"""
    start = perf_counter()
    database = current_state().database
    postgres: dict[str, object] = {"ok": True}
    nodes: NodeCounts | None = None
    old_words: OldWords | None = None
    try:
        with database.primary.checkout(PROBE_TIMEOUT, max_seconds=PROBE_TIMEOUT) as conn:
            nodes = count_nodes(conn)
            if not migrations.is_current(conn):
                postgres = {"ok": False, "error": "Schema of an older release"}
            # Counting old words takes every node.
            elif not (nodes and nodes.unreachable):
                old_words = count_old_words(conn)
    except Unavailable as error:
        postgres = {"ok": False, "error": str(error)}
    latency_ms = round((perf_counter() - start) * 1000, 3)
    stats = database.primary.stats()
    details: dict[str, object] = dict(stats)
    if metrics := current_state().metrics:
        last_run, overdue = metrics.expiry_state()
        details["expiry"] = {"last_run": last_run, "overdue": overdue}
    if old_words is not None:
        details["old_words"] = old_words._asdict()
    if nodes is not None:
        details["nodes"] = nodes._asdict()
    if replica := database.replica:
        details["replica"] = _replica_health(replica)
    body = {
        "status": "unhealthy"
        if not postgres["ok"]
        else "degraded"
        if stats["requests_waiting"] or (nodes and nodes.unreachable)
        else "healthy",
        "services": {"postgres": {**postgres, "latency_ms": latency_ms, "details": details}},
        "total_latency_ms": latency_ms,
        "timestamp": datetime.now(UTC),
        "version": version("mai-sessions"),
    }
    return json_response(orjson.dumps(body))


def _replica_health(replica: Pool) -> dict[str, object]:
    """Describe the replica. Its failure is not unhealthy, because the primary serves without it."""
    try:
        lag = replica.replication_lag(REPLICA_PROBE_TIMEOUT)
    except Unavailable as error:
        return {"ok": False, "error": str(error), **replica.stats()}
    return {"ok": True, "lag_seconds": lag, **replica.stats()}
