"""The tests of a real cluster, skipped where CITUS_URL names none."""

from collections.abc import Iterator

import pytest
from support import citus


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
