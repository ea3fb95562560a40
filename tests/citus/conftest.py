"""Fixtures for the tests on a Citus cluster, which are skipped without CITUS_URL."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from support import citus
from support.chats import SESSIONS
from support.remote_commands import RemoteCommands, Wire
from support.samples import data_url, png


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip all tests of this folder without a cluster."""
    if not citus.CITUS_URL:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip("no CITUS_URL names a cluster"))


@pytest.fixture
def new_cluster_database() -> Iterator[str]:
    """The URL of an empty database of the test's own on all nodes."""
    name = f"test_of_citus_{os.getpid()}"
    citus.drop_database(name)
    yield citus.create_database(name)
    citus.drop_database(name)


@pytest.fixture
def wire(make_app: Callable[..., Any]) -> Wire:
    """A client of an application with one connection, and a session of two branches, which share a first
    message with images.
    """
    app = make_app(threads=1)
    # Without the thread that removes what expires, which would use the connection, too.
    app.extensions["mai_sessions"].database.primary.on_open = None
    with app.extensions["mai_sessions"].database.connection() as conn:
        wire = Wire(app.test_client(), RemoteCommands(conn))
    first_id, other_id, head_id = (str(uuid4()) for _ in range(3))
    images = [data_url(png()), data_url(png(noise=b"2"))]
    messages = [
        {"role": "user", "content": "A lighthouse", "images": images, "id": first_id},
        {"role": "assistant", "content": "It shines", "id": other_id, "parent_id": first_id},
        {"role": "assistant", "content": "It burns", "id": head_id, "parent_id": first_id},
    ]
    session = wire.request("POST", SESSIONS, {"title": "Trip", "messages": messages})
    wire.ids |= {"session_id": session["id"], "first_id": first_id, "other_id": other_id}
    wire.ids["head_id"] = head_id
    wire.ids["image"] = wire.request("GET", wire.message("first"))["images"][0]
    return wire
