"""Headers of every response that restrict what a browser does with it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# A view that sets one of them has the last word.
HEADERS = [
    # Only the caller may cache a response, and must revalidate it by its ETag.
    ("Cache-Control", "private, no-cache"),
    # A response that is opened as a page runs nothing, and is in no frame.
    ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
    # No page of another origin loads it as a script or an image. CORS is not affected.
    ("Cross-Origin-Resource-Policy", "same-origin"),
    # A URL may hold the words of a search, or the signature of an image.
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]


def init_app(app: Flask) -> None:
    """Add the headers to every response of the application."""
    app.wsgi_app = SecurityHeadersMiddleware(app.wsgi_app)  # type: ignore[method-assign]


class SecurityHeadersMiddleware:
    """Adds the headers outside of Flask, where that costs less than in a hook."""

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
            present = {name for name, _ in headers}
            missing = [header for header in HEADERS if header[0] not in present]
            return start_response(status, headers + missing, *exc_info)

        return self._app(environ, start)
