"""The real server for the tests of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.pgbouncer import pgbouncer
from support.roots import make_base, make_wheels
from support.service import TREE, Service, running


@pytest.fixture(scope="module")
def service(
    request: pytest.FixtureRequest,
    make_migrated_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """A server over a database of its own; `direct` or, where a module asks for it, through `pgbouncer`."""
    url, log = make_migrated_database(), tmp_path_factory.mktemp("service") / "log"
    if getattr(request, "param", "direct") == "pgbouncer":
        with (
            pgbouncer(url) as pooler,
            running(pooler.url, log, MAI_SESSIONS_PREPARE="off", MAI_SESSIONS_MIGRATE="check") as service,
        ):
            yield service
    else:
        with running(url, log) as service:
            yield service


@pytest.fixture(scope="session")
def bare_debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare Debian 12, to be copied."""
    root = tmp_path_factory.mktemp("debian") / "root"
    make_base(root)
    return root


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of this release and of what it needs and is built with, and a pip.conf that allows no others
    in a root where they are /wheels.
    """
    directory = tmp_path_factory.mktemp("wheels")
    for requirement in (f"{TREE}[tokens]", "setuptools"):
        make_wheels(directory, requirement, dependencies=True)
    (directory / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    return directory
