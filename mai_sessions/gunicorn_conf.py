"""The settings and hooks of gunicorn, for `gunicorn wsgi:app` and for `mai-sessions serve` alike."""

import math
import os
import signal
import socket
from types import FrameType
from typing import cast

from flask import Flask
from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker

from mai_sessions.config import Settings
from mai_sessions.db import Database
from mai_sessions.errors import StartupError
from mai_sessions.identity import refuse_public_address

_settings = Settings.from_environ()

bind = _settings.bind
workers = _settings.workers
threads = _settings.threads
worker_class = "gthread"

# The migrations run once, before any fork, and a worker that takes the place of a dead one needs no database to start.
preload_app = True

# A request that has begun may end: at the longest it waits for a connection, and then for its statement.
graceful_timeout = math.ceil(_settings.pool_timeout + _settings.statement_timeout) + 5

# Longer than nginx keeps an idle connection to us (60 s): were we to close first, a request under way would meet a 502.
keepalive = 65

# A worker shows that it lives by touching a file; on a busy disk that can block it for so long that it is killed.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108

# It would stand at one path in the home directory for all servers of a user, and nothing here speaks to it.
control_socket_disable = True


def when_ready(server: Arbiter) -> None:
    """Refuse public addresses that ask nobody who they are, and make the first Ctrl-C stop gracefully, as SIGTERM does.

    A second Ctrl-C stops at once.
    """
    # Here, as the addresses may come from the settings, gunicorn's own options or systemd.
    try:
        for listener in server.LISTENERS:
            if listener.FAMILY != socket.AF_UNIX:
                refuse_public_address(_settings, listener.getsockname()[0])
    except StartupError as error:
        raise SystemExit(f"Error: {error}") from None

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, server.signal)
        server.signal(signal.SIGTERM, frame)

    signal.signal(signal.SIGINT, stop)


def post_worker_init(worker: Worker) -> None:
    """Open the pool; connections do not survive a fork."""
    # A terminal sends Ctrl-C to every process; what a worker does about it is for the master to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _database(worker).open()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Close the pool, so that PostgreSQL does not log a lost client."""
    if worker.booted:
        _database(worker).close()


def _database(worker: Worker) -> Database:
    return cast(Database, cast(Flask, worker.wsgi).extensions["mai-sessions"])
