"""What a monitor, a load balancer and a person ask the service itself."""

from datetime import UTC, datetime
from importlib.metadata import version

import orjson
from flask import Response

from mai_sessions import migrations
from mai_sessions.api.blueprint import root
from mai_sessions.api.requests import connection, json_response
from mai_sessions.errors import Unavailable
from mai_sessions.schemas.health import Alive, Health, Ready, Service


@root.get("/", tags=["service"])
@root.response(200, Service)
def get_service() -> Response:
    """Name the service, its version and its documentation"""
    return json_response(orjson.dumps({"name": "mai-sessions", "version": version("mai-sessions"), "docs": "/docs"}))


@root.get("/health", tags=["service"])
@root.response(200, Health)
def get_health() -> Response:
    """Tell that the process answers, and when"""
    return json_response(orjson.dumps({"status": "ok", "timestamp": datetime.now(UTC)}))


@root.get("/health/live", tags=["service"])
@root.response(200, Alive)
def get_live() -> Response:
    """Tell that the process answers"""
    return json_response(b'{"status":"alive"}')


@root.get("/health/ready", tags=["service"])
@root.response(200, Ready)
def get_ready() -> Response:
    """Tell whether requests can be served: the database answers, and its schema is that of this release"""
    try:
        with connection() as conn:
            current = migrations.is_current(conn)
    except Unavailable as error:
        raise Unavailable("Database not ready") from error
    if not current:
        raise Unavailable("Database not ready")
    return json_response(b'{"status":"ready"}')
