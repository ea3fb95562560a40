"""The commands of the coordinator to the nodes for each read: one command to one node."""

import json
from urllib.parse import urlencode

import pytest
from support.chats import SESSIONS
from support.remote_commands import Wire

PINNED = json.dumps({"pinned": True})
LISTS = [
    {},
    {"search": "tri"},
    {"archived": "any"},
    {"archived": "true"},
    {"metadata": PINNED},
    {"metadata": PINNED, "search": "tri", "archived": "any", "limit": 1},
    {"offset": 3},
]
SEARCHES = [
    {"q": "lighthouse"},
    {"q": "light*", "role": "assistant", "limit": 3},
    {"q": '"It shines"', "agent_name": "coder", "model_id": "opus"},
    {"q": "l"},
    {"q": "it", "since": "2024-01-01", "until": "2050-01-01"},
]
# A read of a session with branches, or of a message that may be in one.
BRANCHED = [
    {},
    {"head_id": "{first_id}"},
    {"branches": "all"},
]
PAGES = [
    *BRANCHED,
    {"limit": 1},
    {"limit": 1, "offset": 1},
    {"after_seq": 1},
    {"before_seq": 9, "limit": 2},
    {"max_tokens": 3},
    {"max_tokens": 3, "head_id": "{first_id}"},
    {"max_tokens": 3, "branches": "all"},
]


@pytest.fixture(params=["linear", "branched"])
def path(request: pytest.FixtureRequest, wire: Wire) -> str:
    """The path of a session, without branches or with some."""
    if request.param == "linear":
        wire.request("DELETE", wire.message("other"))
        wire.request("DELETE", wire.message("head"))
    return wire.session


def assert_reads_once(wire: Wire, path: str, at_most: int = 1) -> None:
    assert set(wire.commands.verbs) <= {"SELECT", "WITH"}, path
    assert 1 <= len(wire.commands.verbs) <= at_most, path


@pytest.mark.parametrize("query", LISTS)
def test_list_is_one_command(wire: Wire, query: dict[str, str]) -> None:
    for _ in range(3):
        wire.request("POST", SESSIONS, {"title": "Trip", "metadata": {"pinned": True}})
    path = f"{SESSIONS}?{urlencode(query)}"
    cursor = wire.request("GET", path)["next_cursor"]
    assert_reads_once(wire, path)
    if cursor:
        wire.request("GET", f"{path}&cursor={cursor}")
        assert_reads_once(wire, path)


@pytest.mark.parametrize("query", PAGES)
def test_page_of_messages_is_one_command(wire: Wire, path: str, query: dict[str, str]) -> None:
    wire.request("GET", f"{path}/messages?{urlencode(wire.filled(query))}")
    # The statement for sessions without branches finds that it has some.
    assert_reads_once(wire, path, at_most=2)


@pytest.mark.parametrize("query", [*BRANCHED, {"messages_limit": 2}, {"messages_limit": 0}])
def test_session_is_one_command(wire: Wire, path: str, query: dict[str, str]) -> None:
    wire.request("GET", f"{path}?{urlencode(wire.filled(query))}")
    assert_reads_once(wire, path, at_most=2)
    version = wire.request("GET", path)["version"]
    wire.request("GET", path, None, 304, If_None_Match=f'"{version}"')
    assert_reads_once(wire, path)


def test_message_and_image_are_one_command(wire: Wire) -> None:
    for path in (wire.message("first"), wire.message("head"), wire.ids["image"]):
        wire.request("GET", path)
        assert_reads_once(wire, path)


@pytest.mark.parametrize("query", SEARCHES)
def test_search_is_one_command(wire: Wire, query: dict[str, str]) -> None:
    for filters in (query, {**query, "session_id": wire.ids["session_id"]}):
        wire.request("GET", f"/api/v1/search?{urlencode(filters)}")
        assert_reads_once(wire, str(filters))


@pytest.mark.parametrize("name", ["usage", "agents", "models", "summary"])
def test_analysis_is_one_command(wire: Wire, name: str) -> None:
    for query in ("", "?start_date=2024-01-01&end_date=2024-03-01", "?start_date=2024-01-01T10:00:00Z"):
        wire.request("GET", f"/api/v1/analytics/{name}{query}")
        assert_reads_once(wire, name + query)


@pytest.mark.parametrize("query", [{}, {"session_id": "{session_id}"}])
def test_export_stays_on_one_node(wire: Wire, query: dict[str, str]) -> None:
    wire.request("GET", f"/api/v1/export?{urlencode(wire.filled(query))}")
    assert set(wire.commands.verbs) <= {"SELECT", "WITH"}
