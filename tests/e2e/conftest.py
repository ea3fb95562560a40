"""The real server for the tests of it."""

from collections.abc import Callable, Iterator

import pytest
from support.pgbouncer import pgbouncer
from support.service import Service, running


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
