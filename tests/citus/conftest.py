"""The tests of a real cluster, skipped where CITUS_URL names none."""

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support import citus
from support.scripts import DBA, RunScript


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a cluster."""
    if not citus.CITUS_URL:
        for item in items:
            if "citus" in item.path.parts:
                item.add_marker(pytest.mark.skip("no CITUS_URL names a cluster"))


@pytest.fixture
def new_cluster_database(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database of the test's own on all nodes."""
    name = "test_of_citus"
    citus.drop_database(name)
    yield citus.create_database(name)
    citus.drop_database(name)


@pytest.fixture
def run_script(run_program: Callable[..., str], database_url: str) -> RunScript:
    """Run a script as the superuser, and return the lines that it printed, errors too."""

    def run(script: str, url: str = database_url, **variables: Any) -> list[str]:
        sets = [f"--set={name}={value}" for name, value in variables.items()]
        command = ["psql", "-XqAt", *sets, "-f", str(DBA / script), url]
        return [line for line in run_program(*command, stderr=subprocess.STDOUT).split("\n") if line]

    return run
