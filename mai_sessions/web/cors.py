"""Which pages of other origins may call: by default none."""

import re
from collections.abc import Collection

from flask import Flask
from flask_cors import CORS

from mai_sessions.config import Settings
from mai_sessions.errors import StartupError

_ORIGIN = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d+)?").fullmatch

# The headers that a page of another origin may read.
EXPOSED = ("ETag", "Location", "Link", "Idempotency-Replayed", "X-Request-ID", "Retry-After")


def problem_headers(origins: Collection[str], origin: str) -> list[tuple[str, str]]:
    """Make the CORS headers of a response that reaches no application, for the request's Origin ("" without)."""
    if not origins:
        return []
    vary = ("Vary", "Origin")
    if origin not in origins:
        return [vary]
    return [
        ("Access-Control-Allow-Origin", origin),
        ("Access-Control-Expose-Headers", ", ".join(EXPOSED)),
        vary,
    ]


def init_app(app: Flask, settings: Settings) -> None:
    """Let the browser give answers to pages of the listed origins. Raises StartupError for what is not an
    exact origin.
    """
    for origin in settings.cors_origins:
        if not _ORIGIN(origin):
            raise StartupError(
                f"MAI_SESSIONS_CORS_ORIGINS: {origin!r} is not an origin, which is a scheme, a host and perhaps a port, "
                "like http://localhost:5173"
            )
    if settings.cors_origins:
        CORS(
            app,
            # As patterns, for flask-cors takes [::1] for one.
            origins=[re.compile(re.escape(origin) + r"\Z") for origin in settings.cors_origins],
            methods=["GET", "POST", "PATCH", "DELETE"],
            allow_headers=["Content-Type", "Authorization", "Idempotency-Key", "If-Match", "If-None-Match"],
            expose_headers=list(EXPOSED),
            max_age=600,
            always_send=False,
        )
