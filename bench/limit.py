"""The limit: a bare Flask route with the gunicorn settings of the service. Application and configuration."""

from flask import Flask, Response, request

from mai_sessions.server.gunicorn_conf import (
    graceful_timeout,
    keepalive,
    preload_app,
    threads,
    worker_class,
    worker_tmp_dir,
    workers,
)

__all__ = [
    "app",
    "graceful_timeout",
    "keepalive",
    "preload_app",
    "threads",
    "worker_class",
    "worker_tmp_dir",
    "workers",
]

control_socket_disable = True
app = Flask(__name__, static_folder=None)


@app.route("/<int:size>", methods=["GET", "POST"])
def respond(size: int) -> Response:
    """Read the body, and return a response of the given number of bytes."""
    request.get_data()
    return Response(b" " * size, content_type="application/json")
