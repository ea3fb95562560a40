"""The service, asked directly and through nginx."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from attackers import MAX_BODY
from support.nginx import UNLIMITED, behind_nginx
from support.service import Service, running, wait_until, workers_of

from mai_sessions.config import Settings

# Short, so that who is slow is told so in a test's time.
CLIENT_TIMEOUT = "2"
SETTINGS = {"MAI_SESSIONS_CLIENT_TIMEOUT": CLIENT_TIMEOUT, "MAI_SESSIONS_MAX_BODY": str(MAX_BODY)}
REPLACED = {
    **UNLIMITED,
    "client_max_body_size 64m;": f"client_max_body_size {MAX_BODY};",
    "client_header_timeout 15s;": "client_header_timeout 2s;",
}


@pytest.fixture(scope="module", params=["direct", "nginx"])
def service(
    request: pytest.FixtureRequest,
    make_migrated_database: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """The service, with less patience than the shipped one."""
    if request.param == "nginx" and shutil.which("nginx") is None:
        pytest.skip("nginx is not installed")
    directory = tmp_path_factory.mktemp(request.param)
    with ExitStack() as stack:
        if request.param == "nginx":
            service: Service = stack.enter_context(
                behind_nginx(make_migrated_database(), directory, REPLACED, **SETTINGS)
            )
        else:
            service = stack.enter_context(running(make_migrated_database(), directory / "log", **SETTINGS))
        wait_until(lambda: len(workers_of(service.process.pid)) == Settings().workers)
        yield service
