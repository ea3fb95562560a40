"""Metrics, for Prometheus."""

import ipaddress

from flask import Response, request

from mai_sessions.errors import Forbidden
from mai_sessions.web.blueprint import service
from mai_sessions.web.state import current_state


@service.get("/metrics", tags=["service"])
@service.response(200, {"type": "string"}, content_type="text/plain")
@service.alt_response(403, "Forbidden")
def get_metrics() -> Response:
    """Read the metrics for Prometheus, on this host or through a proxy"""
    peer = request.environ["REMOTE_ADDR"]
    # A Unix socket's peer has no address.
    if peer and not ipaddress.ip_address(peer).is_loopback:
        raise Forbidden("Metrics are for this host alone")
    metrics = current_state().metrics
    assert metrics is not None
    body, content_type = metrics.expose(request.headers.get("Accept", ""))
    return Response(body, content_type=content_type)
