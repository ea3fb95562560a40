"""The command `mai-sessions import`."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mai_sessions.postgres.connection import Connection

FILES = Path(__file__).parent / "files"
PROGRAM = Path(sys.executable).with_name("mai-sessions")


def command(database_url: str, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    environ = {**os.environ, "DATABASE_URL": database_url}
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    return subprocess.Popen([PROGRAM, *arguments], env=environ, text=True, **options)


def run(database_url: str, *arguments: str | Path) -> tuple[int, list[str], list[str]]:
    """The exit code, the lines of the output, and those of the errors without the log."""
    process = command(database_url, *arguments)
    output, errors = process.communicate(timeout=120)
    kept = [line for line in errors.splitlines() if not line.startswith("{")]
    return process.returncode, output.splitlines(), kept


def chats(path: Path, conversations: int, messages: int) -> Path:
    """Make an export of ChatGPT with a number of conversations."""
    listed = []
    for number in range(conversations):
        mapping = {
            f"m{place}": {
                "parent": f"m{place - 1}",
                "message": {
                    "author": {"role": "user" if place % 2 else "assistant"},
                    "create_time": 1e9 + place,
                    "content": {"content_type": "text", "parts": [f"text {place} of {number}"]},
                },
            }
            for place in range(messages)
        }
        listed.append({"id": f"c{number}", "title": f"chat {number}", "mapping": mapping})
    path.write_text(json.dumps(listed))
    return path


def counts(conn: Connection) -> tuple[int, int, int]:
    """Sessions, messages, and distinct messages by their text."""
    [(sessions,)] = conn.execute("SELECT count(*) FROM sessions").fetchall()
    [(messages, texts)] = conn.execute("SELECT count(*), count(DISTINCT content) FROM messages").fetchall()
    return sessions, messages, texts


def test_each_conversation_has_a_line_and_a_refused_one_exits_with_1(
    conn: Connection, database_url: str
) -> None:
    code, lines, errors = run(
        database_url, "import", FILES / "chatgpt.json", FILES / "claude.json", "--user", "ann"
    )
    assert (code, errors) == (1, [])
    assert [line.split()[0] for line in lines[:-1]] == ["new", "new", "refused", "new", "new", "new", "new"]
    assert lines[0] == "new        Names for a cat  (4 messages)"
    assert lines[2] == "refused    No mapping here  (it has no messages (no mapping))"
    assert lines[-1].startswith("6 new, 0 grown, 0 unchanged, 1 refused; 20 messages added in ")
    assert counts(conn)[0] == 6


def test_second_run_ends_with_0_and_changes_nothing(conn: Connection, database_url: str) -> None:
    for word in ("new", "unchanged"):
        code, lines, _ = run(database_url, "import", FILES / "claude.json", "--user", "ann")
        assert code == 0
        assert [line.split()[0] for line in lines[:-1]] == [word] * 3


def test_dry_run_stores_nothing(conn: Connection, database_url: str) -> None:
    code, lines, _ = run(database_url, "import", "--dry-run", FILES / "claude.json", "--user", "ann")
    assert code == 0
    assert lines[-1] == "3 new, 0 grown, 0 unchanged, 0 refused; 7 messages to add; nothing was stored"
    assert counts(conn) == (0, 0, 0)


def test_file_that_cannot_be_read_gets_one_line_and_the_others_go_on(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"PK\3\4 cut off")
    code, lines, errors = run(database_url, "import", bad, tmp_path, FILES / "claude.json", "--user", "ann")
    assert code == 1
    assert errors == [f"{bad}: it is a damaged or incomplete zip file", f"{tmp_path}: it is a directory"]
    assert len(lines) == 4
    assert counts(conn)[0] == 3


def test_truncated_file_stores_nothing(conn: Connection, database_url: str, tmp_path: Path) -> None:
    path = chats(tmp_path / "export", 3, 3)
    path.write_text(path.read_text()[:-20])
    code, lines, errors = run(database_url, "import", path, "--user", "ann")
    assert code == 1
    assert errors == [f"{path}: it ends too early: it was not downloaded or copied completely"]
    assert len(lines) == 1
    assert counts(conn) == (0, 0, 0)


@pytest.mark.parametrize("user", ["", "u" * 256])
def test_user_that_cannot_exist_is_refused(database_url: str, user: str) -> None:
    code, _, errors = run(database_url, "import", FILES / "claude.json", "--user", user)
    assert code == 2
    assert "a user has 1 to 255 characters" in errors[-1]


def test_titles_cannot_control_the_terminal(conn: Connection, database_url: str, tmp_path: Path) -> None:
    path = chats(tmp_path / "export", 1, 1)
    path.write_text(path.read_text().replace("chat 0", "\\u001b[2J\\nx"))
    _, lines, _ = run(database_url, "import", path, "--user", "ann")
    assert lines[0] == "new         [2J x  (1 message)"


def test_terminal_gets_a_progress_bar(conn: Connection, database_url: str) -> None:
    ours, theirs = pty.openpty()
    process = command(database_url, "import", FILES / "claude.json", "--user", "ann", stderr=theirs)
    process.communicate(timeout=60)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "3 of 3" in shown
    assert shown.endswith("\r\033[K")


def test_killed_import_is_completed_by_the_next(conn: Connection, database_url: str, tmp_path: Path) -> None:
    path = chats(tmp_path / "export", 20, 250)
    for kills in range(1, 6):
        process = command(database_url, "import", path, "--user", "ann", start_new_session=True)
        deadline = time.monotonic() + 60
        # Each is killed a little later than the one before.
        while counts(conn)[1] < kills * 550 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    code, _, _ = run(database_url, "import", path, "--user", "ann")
    assert code == 0
    assert counts(conn) == (20, 5000, 5000)
    for table in (b"sessions", b"daily_usage WHERE part = 'total'"):
        assert conn.execute(b"SELECT sum(message_count) FROM " + table).fetchone() == (5000,)


def test_two_imports_at_once_store_everything_once(
    conn: Connection, database_url: str, tmp_path: Path
) -> None:
    path = chats(tmp_path / "export", 20, 150)
    running = [command(database_url, "import", path, "--user", "ann") for _ in range(2)]
    for process in running:
        process.communicate(timeout=120)
    assert [process.returncode for process in running] == [0, 0]
    assert counts(conn) == (20, 3000, 3000)
    assert conn.execute("SELECT session_count FROM users").fetchall() == [(20,)]


def test_memory_does_not_grow_with_the_file(conn: Connection, database_url: str, tmp_path: Path) -> None:
    path = chats(tmp_path / "export", 1, 20)
    one = json.loads(path.read_text())[0]
    with path.open("w") as file:
        file.write("[")
        for number in range(3000):
            file.write(
                ("," if number else "") + json.dumps(one | {"id": f"c{number}", "unused": "x" * 20_000})
            )
        file.write("]")
    # ru_maxrss would include the memory of the process that started this one.
    script = (
        "import re, sys; from mai_sessions.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    status = open('/proc/self/status').read()\n"
        r"    print(re.search(r'VmHWM:\s+(\d+) kB', status)[1], file=sys.stderr)"
    )
    arguments = ["import", "--dry-run", str(path), "--user", "ann"]
    environ = {**os.environ, "DATABASE_URL": database_url}
    found = subprocess.run(
        [sys.executable, "-c", script, *arguments], env=environ, capture_output=True, text=True, check=True
    )
    assert path.stat().st_size > 60_000_000
    assert int(found.stderr.splitlines()[-1]) < 150_000
