"""The real server for the tests of it."""

from collections.abc import Callable, Iterator

import pytest
from service import Service, running


@pytest.fixture(scope="module")
def service(make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A server over a database of its own."""
    with running(make_migrated_database(), tmp_path_factory.mktemp("service") / "log") as service:
        yield service
