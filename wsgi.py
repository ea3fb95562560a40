"""The WSGI application, for `gunicorn wsgi:app`."""

from mai_sessions import create_app

app = create_app()
