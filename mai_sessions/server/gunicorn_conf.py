"""The settings and hooks of gunicorn, for `mai-sessions serve` and for gunicorn's own command (see
wsgi.py).
"""

import atexit
import ctypes
import fcntl
import logging
import os
import select
import shutil
import signal
import socket
import tempfile
import time
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
workers = _settings.workers
threads = _settings.threads
worker_class: type = GthreadWorker
# macOS has no epoll.
if _settings.worker == "epoll" and hasattr(select, "epoll"):
    from mai_sessions.server.worker import ClientWorker

    worker_class = ClientWorker
    ClientWorker.settings = _settings

# Bytes from which on memory is returned to the system when it is freed.
_RETURNED_SIZE = 1024 * 1024
# The names of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3

# The exit codes of a worker that an error ended: before it served, or later.
_FAILURES = (Arbiter.WORKER_BOOT_ERROR, -1)
_RESTART_PAUSE = 1.0  # seconds

# Migrations run once, before the workers are forked, and a replaced worker starts without a database.
preload_app = True

timeout = _settings.worker_timeout
graceful_timeout = _settings.graceful_timeout
max_requests = _settings.max_requests
max_requests_jitter = _settings.max_requests // 10
limit_request_line = _settings.max_header
limit_request_field_size = _settings.max_header

# No header changes the path or the scheme, so every peer may be trusted here. Then gunicorn does not check
# the address of each request.
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
forwarded_allow_ips = "*"

# A Unix socket that gunicorn binds has mode 0660: with MAI_SESSIONS_AUTH=proxy, a process that can open it
# can claim to be any user.
umask = 0o117

# Longer than nginx keeps an idle connection to the service (60 s): if the service closed it first, a request
# under way would fail with 502. gunicorn's own worker announces keep-alive before it knows whether the
# application has read the body, and closes if it has not: another user's request would fail with 502.
keepalive = 0 if worker_class is GthreadWorker else 65

# The heartbeat of a worker is a file that it touches. On a busy disk, that can take longer than the timeout.
_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108 - mkdtemp() makes unique names there
worker_tmp_dir = _memory

_PREFIX = "mai-sessions-prometheus-"


def _remove_orphaned_directories() -> None:
    """Remove the directories of masters that were killed: they occupy memory."""
    for path in Path(_memory or tempfile.gettempdir()).glob(f"{_PREFIX}*/"):
        # The directory may be in use, or belong to another user.
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Another master may have made an empty one a moment ago.
                if any(path.iterdir()):
                    shutil.rmtree(path)
            finally:
                os.close(descriptor)


_remove_orphaned_directories()

# Each master makes one, and here: with preload_app the application and its metrics exist before any hook
# runs.
_metrics_dir = tempfile.mkdtemp(prefix=_PREFIX, dir=_memory)
# The lock ends with the last process that has the descriptor, however it ends.
fcntl.flock(os.open(_metrics_dir, os.O_RDONLY), fcntl.LOCK_SH)
metrics.enable_multiprocess(_metrics_dir)


@atexit.register
def _remove_metrics(master: int = os.getpid()) -> None:
    # The workers are forks, so they run this too. The system may have removed the directory already.
    if os.getpid() == master:
        shutil.rmtree(_metrics_dir, ignore_errors=True)


# All servers of a user would share its path in the home directory. It is not used here.
control_socket_disable = True


class logger_class(Logger):  # noqa: N801 - gunicorn's name for it
    """Sends gunicorn's messages to the service's log, which has its own line for each request."""

    def setup(self, cfg: Config) -> None:
        """Use gunicorn's level, but not its handlers."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        logs.configure(level=self.loglevel)


def on_starting(server: Arbiter) -> None:
    """Keep the service running when a worker cannot be replaced, as when processes, threads, files or memory
    are short: gunicorn would stop all workers.
    """
    spawn_worker = server.spawn_worker

    def try_to_spawn_worker() -> int:
        try:
            return spawn_worker()
        except SystemExit as error:
            # This is the process of the worker. If the first workers fail, the service does not start.
            if error.code in _FAILURES and server.worker_age > server.num_workers:
                # gunicorn replaces it at once.
                time.sleep(_RESTART_PAUSE)
                raise SystemExit(1) from None
            raise
        except Exception as error:
            if os.getpid() != server.pid:
                # gunicorn could not print the error of a worker, which would go on as another master.
                raise SystemExit(1) from None
            # gunicorn tries again within a second.
            log.error("no worker can be started: %s", logs.describe(error))
            return 0

    # gunicorn has no hook for it.
    server.spawn_worker = try_to_spawn_worker  # type: ignore[method-assign]  # there is one master


def when_ready(server: Arbiter) -> None:
    """Refuse public addresses without authentication, and make the first Ctrl-C stop gracefully, as SIGTERM
    does.

    A second Ctrl-C stops at once.
    """
    # Only now are all addresses known: from the settings, gunicorn's options, or systemd.
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
    """Describe the service in one line."""
    state = cast(Flask, server.app.wsgi()).extensions[EXTENSION]
    auth = "none, so everybody is default-user" if _settings.auth == "none" else _settings.auth
    return (
        f"mai-sessions {version('mai-sessions')}: authentication {auth}; database "
        f"{state.database.primary.address}; schema {discover()[-1].name}; {server.cfg.workers} workers of "
        f"{server.cfg.threads} threads"
    )


def _limit_free_memory() -> None:
    """Set glibc's thresholds for memory that is freed.

    By default they grow to 32 and 64 MiB with what is freed, and a worker keeps several times the size of a
    large body (mallopt(3)).
    """
    # Other C libraries have no mallopt.
    with suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _RETURNED_SIZE)
        mallopt(_M_TRIM_THRESHOLD, 2 * _RETURNED_SIZE)


def post_worker_init(worker: Worker) -> None:
    """Open the pool: connections do not survive a fork."""
    _limit_free_memory()
    # A terminal sends Ctrl-C to every process. The master decides when the workers stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _state(worker).open()


def worker_exit(server: Arbiter, worker: Worker) -> None:
    """Close the pool, so that PostgreSQL does not log a lost client."""
    if worker.booted:
        _state(worker).close()


def child_exit(server: Arbiter, worker: Worker) -> None:
    """Merge the metrics of a worker that has ended."""
    # An error in this hook would end the master, and with it the service.
    try:
        metrics.mark_process_dead(int(worker.pid))
    except Exception:
        log.exception("the metrics of worker %s are not merged", worker.pid)


def _state(worker: Worker) -> State:
    return cast(State, cast(Flask, worker.wsgi).extensions[EXTENSION])
