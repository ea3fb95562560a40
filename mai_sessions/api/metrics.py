"""The numbers of the service, for those who run it."""

import ipaddress

from flask import Response, current_app, request

from mai_sessions.errors import Forbidden
from mai_sessions.web.blueprint import root


@root.get("/metrics", tags=["service"])
@root.response(200, {"type": "string"}, content_type="text/plain")
@root.alt_response(403, "Forbidden")
def get_metrics() -> Response:
    """Tell Prometheus how the service fares; only on this host, and what a proxy lets through"""
    peer = request.environ["REMOTE_ADDR"]
    # A Unix socket's peer has no address.
    if peer and not ipaddress.ip_address(peer).is_loopback:
        raise Forbidden("Metrics are for this host alone")
    body, content_type = current_app.extensions["mai-sessions.metrics"].expose(
        request.headers.get("Accept", "")
    )
    return Response(body, content_type=content_type)
