"""The private PostgreSQL, with its real programs."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import psutil
import psycopg
import pytest

from mai_sessions.embedded.private_postgres import postgresql
from mai_sessions.errors import StartupError

AS_ROOT = os.geteuid() == 0
HOLD = """
import signal
import sys
from pathlib import Path
from mai_sessions.embedded.private_postgres import postgresql
# Where the tests run in the background, a shell has Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
with postgresql(Path(sys.argv[1])) as uri:
    print(uri, flush=True)
    sys.stdin.read()
"""


def setting(conn: psycopg.Connection, name: str) -> str:
    row = conn.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row
    return str(row[0])


def postmaster(data_dir: Path) -> psutil.Process:
    pid_file = next(data_dir.glob("*/postmaster.pid"))
    return psutil.Process(int(pid_file.read_text().split()[0]))


@contextmanager
def another_process(data_dir: Path, **options: object) -> Iterator[subprocess.Popen[str]]:
    """Run PostgreSQL in the directory by another process, which is killed at the end."""
    command = [sys.executable, "-c", HOLD, str(data_dir)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options
    ) as process:  # type: ignore[call-overload]
        assert process.stdout.readline().startswith("postgresql://")
        yield process
        process.kill()


def test_data_is_kept_and_text_is_unicode(data_dir: Path) -> None:
    with postgresql(data_dir) as uri, psycopg.connect(uri) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 'ÀΣЖ' AS word")
    with postgresql(data_dir) as uri, psycopg.connect(uri) as conn:
        assert conn.execute("SELECT lower(word), word ILIKE 'àσж' FROM kept").fetchone() == ("àσж", True)
        assert conn.info.dbname == "mai_sessions"
        assert setting(conn, "server_encoding") == "UTF8"
        assert setting(conn, "data_checksums") == "on"
        conn.execute("DROP TABLE kept")


def test_only_the_owner_reaches_the_socket(data_dir: Path) -> None:
    with postgresql(data_dir) as uri, psycopg.connect(uri) as conn:
        assert setting(conn, "listen_addresses") == ""
        sockets = Path(unquote(uri.partition("host=")[2]))
        assert sockets == data_dir / "socket"
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
        assert stat.S_IMODE((data_dir / "postgresql.log").stat().st_mode) == 0o600
        assert (postmaster(data_dir).username() == "mai-sessions") == AS_ROOT
    assert not sockets.exists()


def test_log_is_bounded(data_dir: Path) -> None:
    """A file for each day of the week, which is overwritten, without statements."""
    with postgresql(data_dir) as uri, psycopg.connect(uri) as conn:
        assert setting(conn, "logging_collector") == setting(conn, "log_truncate_on_rotation") == "on"
        assert setting(conn, "log_filename") == "postgresql-%a.log"
        assert (setting(conn, "log_rotation_age"), setting(conn, "log_rotation_size")) == ("1d", "0")
        assert setting(conn, "log_error_verbosity") == "terse"
        assert setting(conn, "log_min_error_statement") == "panic"


def test_given_options_override_the_defaults(data_dir: Path) -> None:
    with postgresql(data_dir, {"fsync": "off", "cluster_name": "a 'b'"}) as uri, psycopg.connect(uri) as conn:
        assert setting(conn, "fsync") == "off"
        assert setting(conn, "cluster_name") == "a 'b'"


def test_wrong_option_is_refused_in_one_line(data_dir: Path) -> None:
    with (
        pytest.raises(StartupError, match=r"\APostgreSQL's pg_ctl failed: .*no_such.*log\)\Z"),
        postgresql(data_dir, {"no_such": 1}),
    ):
        pass


def test_killed_server_recovers(data_dir: Path) -> None:
    with postgresql(data_dir) as uri:
        with psycopg.connect(uri) as conn:
            conn.execute("CREATE TABLE survivor AS SELECT 1 AS one")
        server = postmaster(data_dir)
        server.kill()
        psutil.wait_procs([server])
    with postgresql(data_dir) as uri, psycopg.connect(uri) as conn:
        conn.execute("DROP TABLE survivor")


def test_directory_in_use_is_refused_and_left_server_is_replaced(data_dir: Path) -> None:
    with another_process(data_dir) as process:
        with pytest.raises(StartupError, match="is in use by another"), postgresql(data_dir):
            pass
        process.kill()
    left = postmaster(data_dir)
    assert left.is_running()
    with postgresql(data_dir) as uri, psycopg.connect(uri):
        assert postmaster(data_dir) != left


def test_stale_pid_file_harms_no_other_process(data_dir: Path) -> None:
    with postgresql(data_dir):
        cluster = Path(postmaster(data_dir).cwd())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        (cluster / "postmaster.pid").write_text(f"{other.pid}\n{cluster}\n")
        with postgresql(data_dir) as uri, psycopg.connect(uri):
            assert other.poll() is None
        other.kill()


def test_incomplete_cluster_is_replaced(data_dir: Path) -> None:
    fresh = data_dir.with_name("half")
    (fresh / "18.new").mkdir(parents=True)
    (fresh / "18.new" / "PG_VERSION").touch()
    with postgresql(fresh) as uri, psycopg.connect(uri):
        pass


def test_cluster_of_another_major_version_is_refused(data_dir: Path) -> None:
    other = data_dir.with_name("other")
    (other / "17").mkdir(parents=True)
    (other / "17" / "PG_VERSION").touch()
    with pytest.raises(StartupError, match="is of PostgreSQL 17, and this is 18"), postgresql(other):
        pass


def test_long_path_gets_a_temporary_socket_directory(data_dir: Path) -> None:
    long = data_dir.with_name("with a space, a comma and " + "x" * 100)
    with postgresql(long) as uri, psycopg.connect(uri):
        sockets = Path(unquote(uri.partition("host=")[2]))
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()


@pytest.mark.parametrize("place", ["/dev/null/data", "/proc/data"])
def test_directory_that_cannot_be_made_is_refused(place: str) -> None:
    with (
        pytest.raises(StartupError, match=f"\\Acannot use the data directory {place}: [^\n]+\\Z"),
        postgresql(Path(place)),
    ):
        pass


@pytest.mark.skipif(not AS_ROOT, reason="only under root does the server run as another user")
def test_directory_that_the_server_cannot_reach_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(StartupError, match="user mai-sessions cannot reach"), postgresql(tmp_path / "data"):
        pass


@pytest.mark.skipif(not AS_ROOT, reason="only root can become another user")
def test_private_postgres_runs_as_an_ordinary_user(data_dir: Path) -> None:
    home = data_dir.with_name("home")
    home.mkdir()
    os.chown(home, 65534, 65534)
    try:
        subprocess.run([sys.executable, "-c", "import mai_sessions"], check=True, user=65534, cwd="/")
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip("the interpreter is out of another user's reach")
    with another_process(home / "data", user=65534, group=65534, extra_groups=[], cwd="/") as process:
        assert postmaster(home / "data").uids().real == 65534
        process.stdin.close()
        assert process.wait() == 0
    assert not list(home.glob("data/*/postmaster.pid"))
    assert stat.S_IMODE((home / "data").stat().st_mode) == 0o700


def test_ctrl_c_does_not_reach_the_server(data_dir: Path) -> None:
    with another_process(data_dir, start_new_session=True) as process:
        server = postmaster(data_dir)
        assert os.getsid(server.pid) != os.getsid(process.pid)
        os.killpg(process.pid, signal.SIGINT)
        # The process itself unwinds, and stops the server on its way.
        assert process.wait() != 0
        psutil.wait_procs([server])
    assert not list(data_dir.glob("*/postmaster.pid"))
