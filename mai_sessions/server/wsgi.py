"""The WSGI application, for `gunicorn -c python:mai_sessions.server.gunicorn_conf
mai_sessions.server.wsgi:app`.
"""

from mai_sessions import create_app
from mai_sessions.errors import StartupError

try:
    app = create_app()
except StartupError as error:
    raise SystemExit(f"Error: {error}") from None
