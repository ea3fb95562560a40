"""The running server against its own documentation, with requests that schemathesis generates.

`make fuzz` sends more.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from support.service import running

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CONFIG = Path(__file__).with_name("schemathesis.toml")


def test_responses_match_the_documentation(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    examples = os.environ.get("FUZZ_EXAMPLES", "10")
    # gunicorn itself refuses a long URL; here the application is to see all of them.
    with running(
        make_migrated_database(), tmp_path / "log", GUNICORN_CMD_ARGS="--limit-request-line=0"
    ) as service:
        command = [
            SCHEMATHESIS,
            f"--config-file={CONFIG}",
            "run",
            f"{service.url}/openapi.json",
            "--checks=all",
            "--no-color",
        ]
        command += ["--continue-on-failure", f"--max-examples={examples}"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
