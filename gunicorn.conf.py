"""What `gunicorn wsgi:app` reads. The settings are in the package, where `mai-sessions serve` finds them too."""

from mai_sessions.errors import StartupError

try:
    from mai_sessions.server.gunicorn_conf import *  # noqa: F403
except StartupError as error:
    raise SystemExit(f"Error: {error}") from None
