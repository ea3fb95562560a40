"""docs/deploy.md, word for word: its commands in a bare Debian, as root, with and without systemd."""

import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.roots import (
    RunScript,
    booted,
    copy_tree,
    full,
    full_with_systemd,
    make_wheels,
    run_in,
)
from support.service import TREE

PAGE = (TREE / "docs" / "deploy.md").read_text(encoding="utf-8")
BACKUP_PAGE = (TREE / "docs" / "backup.md").read_text(encoding="utf-8")
FIRST_REQUEST = '{"sessions":[],"total":0'
# The last commit of release 0.1.0.
RELEASE_0_1_0 = "e0b7a59"
NEXT_VERSION = "9.0.0"


def commands(heading: str, page: str = PAGE) -> str:
    """The indented lines below a heading, up to the next one."""
    section = re.split(r"^#+ ", page.partition(f" {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    assert lines, heading
    return "\n".join(lines)


def walk(*headings: str) -> str:
    return "\n".join(map(commands, headings))


def test_units_of_the_page_are_shipped() -> None:
    units = set(re.findall(r"mai-sessions[a-z-]*\.(?:service|socket|timer)", PAGE))
    assert len(units) >= 3
    assert units <= {path.name for path in (TREE / "deploy").iterdir()}


def test_every_fit_is_explained() -> None:
    site = (TREE / "deploy" / "nginx.conf").read_text(encoding="utf-8")
    assert (
        len(re.findall(r"# .*\bFIT\b[:,]", site))
        == PAGE.partition("### Adapt nginx.conf")[2].partition("\n\nOnly")[0].count("\n| ") - 2
    )


@pytest.fixture
def bare_root(bare_debian: Path, wheels: Path, tmp_path: Path) -> Iterator[Path]:
    """A bare Debian in which `pip install mai-sessions` finds this release."""
    root = tmp_path / "root"
    subprocess.run(["cp", "--archive", bare_debian, root], check=True)
    shutil.copytree(wheels, root / "wheels")
    yield root
    subprocess.run(["rm", "--recursive", "--force", "--one-file-system", root], check=True)


@pytest.fixture
def other_releases(tmp_path: Path) -> Path:
    """A directory with the wheel of release 0.1.0 and one of a release after this one."""
    archive = tmp_path / "old.tar"
    git = ["git", "archive", f"--output={archive}", RELEASE_0_1_0]
    if subprocess.run(git, cwd=TREE, check=False, capture_output=True).returncode:
        pytest.skip("needs the history back to release 0.1.0")
    with tarfile.open(archive) as files:
        files.extractall(tmp_path / "old", filter="data")
    copy_tree(tmp_path / "next")
    setup = tmp_path / "next" / "setup.cfg"
    text = setup.read_text(encoding="utf-8")
    setup.write_text(re.sub(r"(?m)^version = .*", f"version = {NEXT_VERSION}", text), encoding="utf-8")
    make_wheels(tmp_path / "wheels", tmp_path / "old", dependencies=True)
    make_wheels(tmp_path / "wheels", tmp_path / "next")
    return tmp_path / "wheels"


@full
def test_page_leads_to_the_first_request_without_systemd(bare_root: Path) -> None:
    checks = """
        test "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1/api/v1/sessions)" = 401
        test "$(curl -s -o /dev/null -w '%{http_code}' -u ann:wrong http://127.0.0.1/api/v1/sessions)" = 401
        curl -sSf -u 'ann:correct horse' -X POST http://127.0.0.1/api/v1/sessions
        curl -sSf http://127.0.0.1/health/ready
        mai-sessions psql check_all.sql
        logrotate --force /etc/logrotate.conf
        test "$(ls /var/log/mai-sessions.log* | wc -l)" = 2
        sh -c "$(sed -n 's/.* root //p' /etc/cron.d/mai-sessions | sed 's/\\\\%/%/g')"
        ls /var/lib/mai-sessions-backup
    """
    walked = [walk("On one host", "Start it without systemd", "The first request"), checks]
    walked += [commands("Rehearse the restore", BACKUP_PAGE), "stat -c %a /run/mai-sessions/http.sock"]
    printed = run_in(bare_root, "\n".join(walked))
    assert FIRST_REQUEST in printed
    assert printed.count("OK: no check found a row") == 2
    assert re.search(r"^chats-[1-7]\.dump$", printed, re.MULTILINE)
    assert printed.endswith("660\n")


@full
def test_service_runs_as_a_role_that_cannot_change_the_schema(bare_root: Path) -> None:
    own_database = """
    runuser -u postgres -- createuser mai-sessions
    runuser -u postgres -- createdb --owner mai-sessions --encoding UTF8 --template template0 mai_sessions
"""
    host = commands("On one host")
    before = "\n".join(line[4:] for line in own_database.splitlines() if line)
    assert before in host
    roles = commands("With roles")
    database, check, rest = roles.partition("echo 'MAI_SESSIONS_MIGRATE=check'")
    migrate, _, _ = rest.partition('psql -X "$ADMIN_URL"')
    checks = """
        ! runuser -u mai-sessions -- psql -X -d mai_sessions -c 'DROP TABLE messages'
        mai-sessions migrate --check
    """
    walked = [host.replace(before, database), check + migrate]
    walked += [walk("Start it without systemd", "The first request"), checks]
    assert FIRST_REQUEST in run_in(bare_root, "\n".join(walked))


@full_with_systemd
def test_page_leads_through_pgbouncer_while_commands_connect_directly(bare_root: Path) -> None:
    with booted(bare_root) as run:
        run(walk("On one host", "Start it with systemd", "The first request"))
        run(commands("Through PgBouncer").partition("export ")[0])
        assert FIRST_REQUEST in run(commands("The first request"))
        run("journalctl -u mai-sessions -o cat | grep 'database mai_sessions on 127.0.0.1'")
        run("systemctl start mai-sessions-backup; test -s /var/lib/mai-sessions-backup/chats-*.dump")
        assert run("mai-sessions psql check_all.sql") == "OK: no check found a row\n"
        run("mai-sessions purge; mai-sessions reindex; mai-sessions check")


@full_with_systemd
def test_page_leads_through_releases_with_systemd(bare_root: Path, other_releases: Path) -> None:
    with booted(bare_root) as run:
        assert FIRST_REQUEST in run(walk("On one host", "Start it with systemd", "The first request"))
        run("systemd-analyze verify /etc/systemd/system/mai-sessions*")
        assert_confined(run("cat /proc/$(systemctl show mai-sessions -p MainPID --value)/status"))
        assert run("stat -c %a:%U:%G /run/mai-sessions/http.sock") == "660:mai-sessions:www-data\n"
        run("systemctl start mai-sessions-backup; test -s /var/lib/mai-sessions-backup/chats-*.dump")
        run("systemctl reload mai-sessions")

        run("systemctl kill --signal=KILL --kill-who=main mai-sessions")
        # The workers of the killed master serve until systemd ends them.
        run('until test "$(systemctl show mai-sessions -p NRestarts --value)" = 1; do sleep 0.1; done')
        run(commands("The first request"))

        for wheel in other_releases.iterdir():
            (bare_root / "wheels" / wheel.name).write_bytes(wheel.read_bytes())
        upgrade = commands("A new release").partition("\nOLD=")[0]
        for version, steps in ((NEXT_VERSION, upgrade), ("0.1.0", commands("A rollback"))):
            assert served_meanwhile(run, steps)
            assert run("/opt/mai-sessions/bin/mai-sessions --version").split()[-1] == version


def assert_confined(status: str) -> None:
    """A process without capabilities, which can get none, and with a filter of system calls."""
    for line in ("CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status


_WHILE_REQUESTING = """
    request() {
        curl -s -o /dev/null -w '%{http_code}\\n' -u 'ann:correct horse' http://127.0.0.1/api/v1/sessions
    }
    rm -f /run/done
    trap 'touch /run/done' EXIT
    ( set +x; while ! test -e /run/done; do request; sleep 0.02; done > /run/statuses ) &
    STEPS
    request
    touch /run/done
    wait
    sort -u /run/statuses
"""


def served_meanwhile(run: RunScript, steps: str) -> bool:
    """Run steps while a client sends requests, and return whether it got 200 for each, and some."""
    return run(_WHILE_REQUESTING.replace("STEPS", steps)).split()[-2:] == ["200", "200"]
