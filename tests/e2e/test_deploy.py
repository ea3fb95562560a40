"""docs/deploy.md, word for word: its commands in a bare Debian, as root and without systemd; and the steps of
the Dockerfile.

A root takes debootstrap, apt and minutes, so these run only with DEPLOY=full (`make deploy-test`).
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.service import TREE

PAGE = (TREE / "docs" / "deploy.md").read_text(encoding="utf-8")
MIRROR = "http://deb.debian.org/debian"
full = pytest.mark.skipif(
    os.environ.get("DEPLOY") != "full" or os.geteuid() != 0 or shutil.which("debootstrap") is None,
    reason="needs DEPLOY=full, root and debootstrap",
)


def commands(heading: str) -> str:
    """The indented lines below a heading, up to the next one."""
    section = re.split(r"^#+ ", PAGE.partition(f" {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    assert lines, heading
    return "\n".join(lines)


@pytest.mark.parametrize("heading", ["Start it with systemd", "A new release", "A rollback"])
def test_commands_name_units_and_programs_that_are_shipped(heading: str) -> None:
    units = {path.name for path in (TREE / "deploy").glob("mai-sessions*")}
    for unit in re.findall(r"mai-sessions[a-z-]*\.(?:service|socket|timer)", commands(heading)):
        assert unit in units


def test_every_fit_is_explained() -> None:
    site = (TREE / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    assert (
        len(re.findall(r"# .*\bFIT\b[:,]", site))
        == PAGE.partition("### What to fit")[2].partition("\n\nThe name")[0].count("\n| ") - 2
    )


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service and all it needs, so that `pip install mai-sessions` finds it."""
    directory = tmp_path_factory.mktemp("wheels")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    subprocess.run([*pip, "--wheel-dir", directory, TREE], check=True)
    return directory


@pytest.fixture
def bare_root(tmp_path: Path, wheels: Path) -> Iterator[Path]:
    """A bare Debian 12, with the network configuration of this host and the wheels."""
    root = tmp_path / "root"
    base = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root, MIRROR]
    subprocess.run(base, check=True, stdout=subprocess.DEVNULL)
    for path in (Path("/etc/resolv.conf"), Path("/etc/hosts"), *Path("/etc/apt/apt.conf.d").glob("99*")):
        shutil.copy(path, root / path.relative_to("/"))
    shutil.copytree(wheels, root / "wheels")
    mounts = [root / "proc", root / "dev"]
    try:
        subprocess.run(["mount", "-t", "proc", "proc", mounts[0]], check=True)
        subprocess.run(["mount", "--rbind", "/dev", mounts[1]], check=True)
        subprocess.run(["mount", "--make-rslave", mounts[1]], check=True)
        yield root
    finally:
        for mount in mounts:
            subprocess.run(["umount", "--recursive", "--lazy", mount], check=False)


def run_in(root: Path, script: str) -> str:
    """Run a script by bash in a root, in a network and process namespace of its own, and return what it
    printed.
    """
    environ = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "PIP_FIND_LINKS": "/wheels",
        "PIP_NO_INDEX": "1",
    }
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "chroot", root, "bash", "-ex"],
        input=script,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]
    return done.stdout


@full
def test_page_leads_to_the_first_request(bare_root: Path) -> None:
    headings = ("On one host", "Start it without systemd", "The first request")
    checks = """
        test "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/api/v1/sessions)" = 401
        test "$(curl -s -o /dev/null -w '%{http_code}' -u ann:wrong http://127.0.0.1/api/v1/sessions)" = 401
        curl -sSf -u 'ann:correct horse' -X POST http://127.0.0.1/api/v1/sessions
        curl -sSf http://127.0.0.1/health/ready
        runuser -u mai-sessions -- env DATABASE_URL=postgresql:///mai_sessions \\
            /opt/mai-sessions/bin/mai-sessions psql check_all.sql
        stat -c %a /run/mai-sessions/http.sock
    """
    printed = run_in(bare_root, "\n".join([*map(commands, headings), checks]))
    assert '{"sessions":[],"total":0' in printed
    assert "OK: no check found a row" in printed
    assert printed.endswith("660\n")


@full
def test_steps_of_the_dockerfile(bare_root: Path) -> None:
    """No container engine runs here: the RUN and COPY steps of both stages, in one root."""
    text = re.sub(r"\\\n", " ", (TREE / "Dockerfile").read_text(encoding="utf-8"))
    shutil.copytree(
        TREE, bare_root / "src", ignore=shutil.ignore_patterns(".git", ".venv", "node_modules", "*.egg-info")
    )
    steps = [
        f"( {line.removeprefix('RUN ')} ) || exit 1" for line in text.splitlines() if line.startswith("RUN ")
    ]
    checks = """
        ! test -e /opt/mai-sessions/bin/pip
        ! command -v gcc
        runuser -u mai-sessions -- /opt/mai-sessions/bin/mai-sessions --version
        runuser -u mai-sessions -- /opt/mai-sessions/bin/mai-sessions config
    """
    assert "MAI_SESSIONS_AUTH=none" in run_in(bare_root, "\n".join([*steps, checks]))
    assert re.search(r"^USER mai-sessions$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*/health/ready", text, re.MULTILINE)
