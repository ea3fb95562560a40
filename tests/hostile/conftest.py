"""The service, reached directly and through nginx."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from typing import Any

import pytest
from attackers import MAX_BODY, Fault, beside_another
from measured import Measured
from support.adversarial import TEXTS
from support.chats import SESSIONS
from support.costs import Meter
from support.figures import Figures
from support.nginx import UNLIMITED, Site, behind_nginx
from support.service import Service, call, most_memory, running, wait_until, workers_of

from mai_sessions.config import Settings

# Short: a slow client gets its 408 within the test.
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
    """The service, with shorter timeouts than by default."""
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


@pytest.fixture
def fault(service: Service, record_property: Callable[[str, Any], None]) -> Fault:
    """A context in which another client reads and writes. It checks that this client has its responses and
    that no worker is lost, and records the figures for `make faults`.

    `memory` is what a worker may need, in bytes, beside four of the largest bodies. With `refusals` the other
    client may receive 503.
    """

    @contextmanager
    def fault(name: str, memory: int = 16 * 1024 * 1024, *, refusals: bool = False) -> Iterator[Figures]:
        workers = workers_of(service.process.pid)
        front = "through nginx" if isinstance(service, Site) else "directly"
        before = most_memory(workers)
        with beside_another(service, f"{name}, {front}") as figures:
            yield figures
        assert workers_of(service.process.pid) == workers
        assert refusals or figures.retried == 0
        assert most_memory(workers) - before < 4 * MAX_BODY + memory
        record_property("figures", {**asdict(figures), "statuses": dict(figures.statuses)})

    return fault


@pytest.fixture(scope="module")
def measured(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Measured]:
    """One thread serves, so that what it costs is the request's own.

    Texts of each kind are there to be found.
    """
    log = tmp_path_factory.mktemp("growth") / "log"
    settings = {
        "MAI_SESSIONS_WORKERS": "1",
        "MAI_SESSIONS_THREADS": "1",
        "MAI_SESSIONS_STATEMENT_TIMEOUT": "60",
        "MAI_SESSIONS_GRACEFUL_TIMEOUT": "70",
    }
    with running(make_migrated_database(), log, **settings) as service, closing(service.connect()) as http:
        session = call(http, "POST", SESSIONS, {"title": "x"})[1]["id"]
        path = f"{SESSIONS}/{session}/messages"
        for make in TEXTS.values():
            for size in (4_000, 48_000):
                assert call(http, "POST", path, {"role": "user", "content": make(size)})[0] == 201
        message = call(http, "POST", path, {"role": "user", "content": "x"})[1]["id"]
        ids = {"{session_id}": session, "{message_id}": message, "{sha256}": "0" * 64}
        appended = call(http, "POST", SESSIONS, {"title": "x"})[1]["id"]
        yield Measured(service, Meter(service, http), ids, appended)
