"""CORS: the origins whose pages may call the API, by default none."""

import re
from collections.abc import Collection

from flask import Flask, Response, request

from mai_sessions.config import Settings
from mai_sessions.errors import StartupError

# Also of applications that are pages in a shell, such as tauri://localhost.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d+)?").fullmatch

# The headers that a page may read.
EXPOSED = (
    "Content-Disposition",
    "Content-Range",
    "ETag",
    "Idempotency-Replayed",
    "Link",
    "Location",
    "Retry-After",
    "Server-Timing",
    "X-Request-ID",
)
# The headers that a page may send.
ALLOWED = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "If-Range",
    "Range",
    "traceparent",
    "tracestate",
    "X-Request-ID",
    "X-Server-Timing",
)
METHODS = ("GET", "POST", "PATCH", "DELETE")
# How long a browser may cache the response to a preflight, in seconds.
MAX_AGE = 600


def cors_headers(origins: Collection[str], origin: str) -> list[tuple[str, str]]:
    """Make the CORS headers of a response to a request with this Origin ("" for none)."""
    if not origins:
        return []
    # Also without a listed origin: a cache must not give this response to a page that needs the headers.
    vary = ("Vary", "Origin")
    if origin not in origins:
        return [vary]
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", ", ".join(EXPOSED)),
        vary,
    ]


def init_app(app: Flask, settings: Settings) -> None:
    """Let pages of MAI_SESSIONS_CORS_ORIGINS call all routes. Raises StartupError for a wrong origin."""
    origins = frozenset(settings.cors_origins)
    for origin in origins:
        if not _ORIGIN(origin):
            raise StartupError(
                f"MAI_SESSIONS_CORS_ORIGINS: {origin!r} is not an origin, which is a scheme, a host and "
                "maybe a port, like http://localhost:5173"
            )
    if not origins:
        return

    @app.before_request
    def respond_to_preflight() -> Response | None:
        # For any path: only after a successful preflight does a browser show the page a 404.
        is_preflight = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if not is_preflight or request.headers.get("Origin") not in origins:
            return None
        headers = {
            "Access-Control-Allow-Methods": ", ".join(METHODS),
            "Access-Control-Allow-Headers": ", ".join(ALLOWED),
            "Access-Control-Max-Age": str(MAX_AGE),
        }
        return Response(headers=headers)

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in cors_headers(origins, request.headers.get("Origin", "")):
            response.headers.add(name, value)
        return response
