"""The settings and hooks of gunicorn, for `mai-sessions serve` and for gunicorn's own command (see wsgi.py)."""

import atexit
import fcntl
import logging
import os
import select
import shutil
import signal
import socket
import tempfile
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import cast

from flask import Flask
from gunicorn.arbiter import Arbiter
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from mai_sessions.auth.identity import refuse_public_address
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError
from mai_sessions.postgres.migration_files import discover
from mai_sessions.server.gthread import GthreadWorker
from mai_sessions.setting_checks import refuse_unusable_socket
from mai_sessions.telemetry import logs, metrics
from mai_sessions.web.state import EXTENSION, State

log = logging.getLogger(__name__)

try:
    _settings = Settings.from_environ()
    refuse_unusable_socket(_settings.bind)
except StartupError as error:
    raise SystemExit(f"Error: {error}") from None

bind = _settings.bind
_path = Path(bind.removeprefix("unix:"))
if bind.startswith("unix:") and _path.exists() and not _path.is_socket():
    raise SystemExit(f"Error: MAI_SESSIONS_BIND: {_path} exists and is not a socket")
workers = _settings.workers
threads = _settings.threads
worker_class: type = GthreadWorker
# macOS, where somebody may try the service, has no epoll.
if _settings.worker == "epoll" and hasattr(select, "epoll"):
    from mai_sessions.server.worker import ClientWorker

    worker_class = ClientWorker
    ClientWorker.settings = _settings

# The migrations run once, before any fork, and a worker that takes the place of a dead one needs no database
# to start.
preload_app = True

timeout = _settings.worker_timeout
graceful_timeout = _settings.graceful_timeout
max_requests = _settings.max_requests
max_requests_jitter = _settings.max_requests // 10
limit_request_line = _settings.max_header
limit_request_field_size = _settings.max_header

# No header moves the paths or the scheme, whoever sends it; so gunicorn need not find out for each request
# who that is.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = "*"

# A Unix socket that gunicorn binds is 0660: whoever can open it may name themselves any user under MAI_SESSIONS_AUTH=proxy.
umask = 0o117

# Longer than nginx keeps an idle connection to the service (60 s): if the service closed it first, a request
# under way would meet a 502. gunicorn's own worker promises keep-alive before it knows whether the application
# has read the body, and then closes, which is a 502 for somebody else's request.
keepalive = 0 if worker_class is GthreadWorker else 65

# A worker shows that it lives by touching a file; on a busy disk that can block it for so long that it is
# killed.
_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - what is made there has a name of its own
worker_tmp_dir = _memory

_PREFIX = "mai-sessions-prometheus-"


def _remove_what_the_killed_left() -> None:
    """Remove what a master that was killed could not, for it lies in memory."""
    for path in Path(_memory or tempfile.gettempdir()).glob(f"{_PREFIX}*/"):
        # It is in use, or another user's.
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # One that is empty may have been made this moment.
                if any(path.iterdir()):
                    shutil.rmtree(path)
            finally:
                os.close(descriptor)


_remove_what_the_killed_left()

# Made anew by every master, and here: with preload_app the application, and the metrics in it, are made
# before any hook is called.
_metrics_dir = tempfile.mkdtemp(prefix=_PREFIX, dir=_memory)
# Open, and so locked, until the master and its last worker have ended, however they end.
fcntl.flock(os.open(_metrics_dir, os.O_RDONLY), fcntl.LOCK_SH)
metrics.enable_multiprocess(_metrics_dir)


@atexit.register
def _remove_metrics(master: int = os.getpid()) -> None:
    # A worker, which is a fork, leaves through here too.
    if os.getpid() == master:
        shutil.rmtree(_metrics_dir)


# It would stand at one path in the home directory for all servers of a user, and nothing here speaks to it.
control_socket_disable = True


class logger_class(Logger):  # noqa: N801 - gunicorn's name for it
    """Sends what gunicorn says to our log; its line for each request we write ourselves."""

    def setup(self, cfg: Config) -> None:
        """Take gunicorn's level, and none of its handlers."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        logs.configure(level=self.loglevel)


def when_ready(server: Arbiter) -> None:
    """Refuse public addresses that ask nobody who they are, and make the first Ctrl-C stop gracefully, as
    SIGTERM does.

    A second Ctrl-C stops at once.
    """
    # Here, as the addresses may come from the settings, gunicorn's own options or systemd.
    try:
        for listener in server.LISTENERS:
            if listener.FAMILY != socket.AF_UNIX:
                refuse_public_address(_settings, listener.getsockname()[0])
    except StartupError as error:
        raise SystemExit(f"Error: {error}") from None

    log.info(_summary(server))

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, server.signal)
        server.signal(signal.SIGTERM, frame)

    signal.signal(signal.SIGINT, stop)


def _summary(server: Arbiter) -> str:
    """Say in one line what starts."""
    state = cast(Flask, server.app.wsgi()).extensions[EXTENSION]
    auth = "none, so everybody is default-user" if _settings.auth == "none" else _settings.auth
    return (
        f"mai-sessions {version('mai-sessions')}: authentication {auth}; database {state.database.primary.address}; "
        f"schema {discover()[-1].name}; {server.cfg.workers} workers of {server.cfg.threads} threads"
    )


def post_worker_init(worker: Worker) -> None:
    """Open the pool; connections do not survive a fork."""
    # A terminal sends Ctrl-C to every process; what a worker does about it is for the master to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _state(worker).open()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Close the pool, so that PostgreSQL does not log a lost client."""
    if worker.booted:
        _state(worker).close()


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Add up the metrics of a worker that has ended."""
    metrics.mark_process_dead(int(worker.pid))


def _state(worker: Worker) -> State:
    return cast(State, cast(Flask, worker.wsgi).extensions[EXTENSION])
