"""The private PostgreSQL of `mai-sessions serve`.

Without the `embedded` extra importing this module raises ImportError.
"""

import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psycopg

from mai_sessions.embedded import data_directory
from mai_sessions.embedded.data_directory import PROGRAMS, ROLE, DataDirectory, InUseError
from mai_sessions.errors import StartupError

__all__ = ["PROGRAMS", "postgresql", "reach", "supervised", "upgrade"]

log = logging.getLogger(__name__)

_DATABASE = "mai_sessions"
RESTART_INTERVAL = 5.0  # seconds

# Settings that differ from PostgreSQL's defaults. The defaults keep every acknowledged write.
_OPTIONS: Mapping[str, object] = MappingProxyType(
    {
        # Only a Unix socket, in a directory that no other user can enter, so connections need no password.
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        # Enough for the indexes and the recent messages of some hundred thousand sessions. It is allocated as
        # it fills.
        "shared_buffers": "256MB",
        # On an SSD a random read costs little more than a sequential one.
        "random_page_cost": 1.1,
        # The first change of a page after a checkpoint writes the page to the WAL, and text compresses well.
        "wal_compression": "on",
        # Other requests need the cores, and /dev/shm of a container is too small for parallel workers.
        "max_parallel_workers_per_gather": 0,
        # A log file for each day of the week, overwritten after a week, so that its size is bounded. Without
        # statements and details, which may quote users.
        "logging_collector": "on",
        "log_filename": "postgresql-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": 0,
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
        "log_checkpoints": "off",
        # Shown by `ps`.
        "cluster_name": "mai-sessions",
    }
)
_NOTHING: Mapping[str, object] = MappingProxyType({})


@contextmanager
def postgresql(data_dir: Path | None = None, options: Mapping[str, object] = _NOTHING) -> Generator[str]:
    """Run PostgreSQL with the data of `data_dir`, and yield the URI of its database `mai_sessions`.

    The directory, the cluster and the database are created if missing, and kept afterwards. The default is
    the user's data directory, for root `/var/lib/mai-sessions`. `options` are server settings that override
    those of this module. A server that a killed process left behind is restarted.

    Raises StartupError if the directory cannot be used, is in use by another process or has data of another
    major version, or if PostgreSQL does not start.
    """
    with supervised(data_dir, options) as (uri, _):
        yield uri


@contextmanager
def supervised(
    data_dir: Path | None = None, options: Mapping[str, object] = _NOTHING
) -> Generator[tuple[str, Callable[[], None]]]:
    """Run PostgreSQL as `postgresql` does. Yield its URI, and a function that starts the server again if it
    has ended, as a server does when it is killed or its disk is full. The function is to be called often.
    """
    with DataDirectory(data_dir).locked() as directory:
        server = server_of(directory)
        with server.running(options) as uri:
            yield uri, partial(server.restart_ended, options)


@contextmanager
def reach(data_dir: Path | None = None, *, make: bool = False) -> Generator[str]:
    """Yield the URI of the database in `data_dir`. Start PostgreSQL unless another process runs it.

    Raises StartupError as `postgresql` does, and for a directory without data unless `make`.
    """
    directory = DataDirectory(data_dir)
    if not make and not directory.has(data_directory.MAJOR) and not directory.old_major():
        raise StartupError(f"the data directory {directory.path} holds no data")
    with ExitStack() as stack:
        try:
            uri = stack.enter_context(postgresql(data_dir))
        except InUseError:
            sockets = directory.sockets_in_use(data_directory.MAJOR)
            if not sockets:
                raise
            uri = _uri(sockets)
        yield uri


def upgrade(
    data_dir: Path | None, old_programs: Path | None, copy: Callable[[str, Path, str], None]
) -> tuple[str, Path] | None:
    """Move data of an older major version to this one.

    While both servers run, `copy` is called with the URI and the programs of the old one, and the URI of the
    new one. `old_programs` is the directory of the old `pg_ctl`, by default the copy in the data directory.
    Returns the old version and the path of its data, or None if there is nothing to move. A failure changes
    nothing. Raises StartupError.
    """
    with DataDirectory(data_dir).locked() as directory:
        old, new = directory.old_major(), f"{data_directory.MAJOR}.moving"
        if directory.has(data_directory.MAJOR) or not old:
            return None
        old_programs = old_programs or directory.old_programs(old)
        directory.remove(new)
        try:
            directory.make_cluster(new)
            source = Server(directory, old, old_programs)
            target = Server(directory, new, directory.programs())
            with source.running() as source_uri, target.running() as target_uri:
                copy(source_uri, old_programs, target_uri)
            # The new one first: without any cluster the next start would create an empty one.
            directory.rename(new, data_directory.MAJOR)
        finally:
            directory.remove(new)
        return old, directory.rename(old, f"{old}.old")


class Server:
    """The server of a cluster, controlled by pg_ctl."""

    def __init__(self, directory: DataDirectory, cluster: str, programs: Path) -> None:
        self._directory = directory
        self._cluster = cluster
        self._programs = programs
        self._sockets = directory.make_socket_dir(cluster)
        self._next_restart = 0.0

    @contextmanager
    def running(self, options: Mapping[str, object] = _NOTHING) -> Generator[str]:
        """Run the server, and yield the URI of its database."""
        try:
            self.start(options)
            yield self.uri()
        finally:
            if os.getpid() == self._directory.process:
                self.stop()

    def start(self, options: Mapping[str, object] = _NOTHING) -> None:
        """Start the server, wait until it accepts connections, and create the database if it is missing."""
        if self._directory.is_running(self._cluster):
            self.pg_ctl("stop", "--mode=fast")
        self._launch(options, "--wait")
        with psycopg.connect(self.uri("postgres"), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone():
                conn.execute(f"CREATE DATABASE {_DATABASE}")

    def _launch(self, options: Mapping[str, object], wait: str) -> None:
        # A killed server leaves this file. PostgreSQL would not start if another process has that id now.
        (self._directory.path / self._cluster / "postmaster.pid").unlink(missing_ok=True)
        settings = {**_OPTIONS, "unix_socket_directories": self._sockets, **options}
        arguments = shlex.join(f"-c{name}={value}" for name, value in settings.items())
        self.pg_ctl("start", wait, "--options", arguments)

    def restart_ended(self, options: Mapping[str, object]) -> None:
        """Start the server again if it has ended, at most once in RESTART_INTERVAL. Does not wait for it: it
        may have to recover first.
        """
        if self._directory.is_running(self._cluster) or time.monotonic() < self._next_restart:
            return
        self._next_restart = time.monotonic() + RESTART_INTERVAL
        log.error("the private PostgreSQL has ended, and is started again")
        try:
            self._launch(options, "--no-wait")
        except (OSError, StartupError) as error:
            log.error("the private PostgreSQL cannot be started: %s", error)

    def stop(self) -> None:
        """Stop the server, and abort open connections."""
        if self._directory.is_running(self._cluster):
            self.pg_ctl("stop", "--mode=fast")
        if self._sockets.exists():
            shutil.rmtree(self._sockets)

    def pg_ctl(self, *arguments: str) -> None:
        """Run pg_ctl for the cluster. It waits by default. Raises StartupError if it fails."""
        path = self._directory.path / self._cluster
        self._directory.run(self._programs, "pg_ctl", "-D", path, "--silent", *arguments)

    def uri(self, database: str = _DATABASE) -> str:
        """Return the URI of a database of the server."""
        return _uri(self._sockets, database)


def _uri(sockets: Path | str, database: str = _DATABASE) -> str:
    return f"postgresql://{ROLE}@/{database}?host={quote(str(sockets), safe='')}"


def server_of(directory: DataDirectory) -> Server:
    """Return the server of this major version, and create its cluster if the directory is empty.

    Raises StartupError if the data are of another version.
    """
    major = data_directory.MAJOR
    if not directory.has(major):
        if old := directory.old_major():
            raise StartupError(
                f"the data directory {directory.path} is of PostgreSQL {old}, and this is {major}: "
                "`mai-sessions upgrade` moves the data"
            )
        directory.make_cluster(major)
    return Server(directory, major, directory.programs())
