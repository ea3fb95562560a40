"""Bare Debian systems in directories, made by debootstrap: in one a script runs by chroot, another boots its
systemd.

Making one takes apt and minutes, so these tests run only with DEPLOY=full (`make deploy-test`).
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.service import TREE, wait_until

RunScript = Callable[[str], str]

MIRROR = "http://deb.debian.org/debian"
_FULL = os.environ.get("DEPLOY") == "full" and os.geteuid() == 0
full = pytest.mark.skipif(
    not _FULL or shutil.which("debootstrap") is None, reason="needs DEPLOY=full, root and debootstrap"
)
full_with_systemd = pytest.mark.skipif(
    not _FULL or not all(map(shutil.which, ("debootstrap", "systemd-nspawn"))),
    reason="needs DEPLOY=full, root, debootstrap and systemd-nspawn (Debian: systemd-container)",
)
full_with_buildah = pytest.mark.skipif(
    not _FULL or not all(map(shutil.which, ("debootstrap", "buildah"))),
    reason="needs DEPLOY=full, root, debootstrap and buildah",
)
_ENVIRON = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_FIND_LINKS": "/wheels",
    "PIP_NO_INDEX": "1",
}
# A process namespace and mounts of its own, which end with the script.
_CHROOT = """
    mount -t proc proc "$1/proc" && mount --rbind /dev "$1/dev" && exec chroot "$1" bash -exc "$2"
"""


def make_base(root: Path) -> None:
    """Make a bare Debian 12 with the network configuration of this host."""
    base = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root, MIRROR]
    subprocess.run(base, check=True, stdout=subprocess.DEVNULL)
    for path in (Path("/etc/resolv.conf"), Path("/etc/hosts"), *Path("/etc/apt/apt.conf.d").glob("99*")):
        shutil.copy(path, root / path.relative_to("/"))


def make_wheels(directory: Path, source: str | Path, *, dependencies: bool = False) -> None:
    """Build the wheel of a checkout."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    options = [] if dependencies else ["--no-deps"]
    subprocess.run([*pip, *options, "--wheel-dir", directory, source], check=True)


def copy_tree(target: Path) -> None:
    """Copy the files of this checkout that git does not ignore."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=TREE, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (TREE / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TREE / name, target / name, follow_symlinks=False)


def run_in(root: Path, script: str) -> str:
    """Run a script by bash in a root without systemd, and return what it printed."""
    return _run(_chroot(root, script))


@contextmanager
def running_in(root: Path, script: str) -> Iterator[None]:
    """Run a script by bash in a root without systemd for the length of a `with`."""
    with subprocess.Popen(_chroot(root, script), stdin=subprocess.DEVNULL, env=_ENVIRON, cwd="/") as process:
        try:
            yield
        finally:
            # `unshare --fork` ignores SIGTERM; its end kills what it runs.
            process.kill()


def _chroot(root: Path, script: str) -> list[str]:
    namespaces = ["unshare", "--pid", "--fork", "--kill-child", "--mount"]
    return [*namespaces, "sh", "-c", _CHROOT, "sh", str(root), script]


@contextmanager
def booted(root: Path) -> Iterator[RunScript]:
    """Boot systemd in a root, with cgroups and processes of its own and this host's network, and yield a
    function that runs a script there.
    """
    run_in(root, "apt-get update; apt-get install --yes --no-install-recommends dbus systemd-sysv")
    nspawn = [
        "systemd-nspawn",
        f"--directory={root}",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--console=pipe",
        "--resolv-conf=off",
        "--machine=mai-sessions-test",
    ]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with psutil.Popen(nspawn, **quiet) as container:
        try:
            wait_until(container.children)
            enter = [
                "nsenter",
                f"--target={container.children()[0].pid}",
                *("--mount", "--uts", "--ipc", "--pid", "--cgroup"),
            ]
            is_up = [*enter, "systemctl", "is-system-running", "--quiet"]
            wait_until(lambda: subprocess.run(is_up, check=False, stderr=subprocess.DEVNULL).returncode == 0)
            yield lambda script: _run([*enter, "bash", "-exc", script])
        finally:
            # systemd takes this signal as a request to halt.
            container.terminate()


def _run(command: list[str]) -> str:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, env=_ENVIRON, capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout
