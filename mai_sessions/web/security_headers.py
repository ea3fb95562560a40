"""The headers of every answer that tell browsers to be careful with it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# Where a view gives one of them itself, its own counts.
HEADERS = [
    # An answer may be kept by its caller alone, and is asked for again by its ETag.
    ("Cache-Control", "private, no-cache"),
    # An answer that is opened as a page does nothing, and is in nobody's frame.
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    # No page of another origin has it as a script or an image. What CORS allows is not touched by this.
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # A URL holds what somebody searches for, or the signature of an image.
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]


def init_app(app: Flask) -> None:
    """Add the headers to every answer of the application."""
    app.wsgi_app = _Careful(app.wsgi_app)  # type: ignore[method-assign]


class _Careful:
    """Around the application: among its hooks, five headers would cost five times as much."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            given = {name for name, _ in headers}
            return start_response(
                status, headers + [header for header in HEADERS if header[0] not in given], *exc_info
            )

        return self._app(environ, start)
