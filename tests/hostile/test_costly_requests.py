"""Costly requests do not keep others from their responses."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from attackers import MAX_BODY, Fault
from support.adversarial import TEXTS
from support.chats import SESSIONS
from support.service import Service, call

CLIENTS = 8
MEGABYTE = 1024**2

Ask = Callable[[str, str, Any], int]


@pytest.fixture
def ask(service: Service) -> Ask:
    """A function that sends a request over a connection of its own, and returns the status."""

    def ask(method: str, path: str, body: Any = None) -> int:
        with closing(service.connect()) as http:
            return call(http, method, path, body)[0]

    return ask


@pytest.fixture
def messages(service: Service) -> str:
    """The path of a new session's messages."""
    with closing(service.connect()) as http:
        return f"{SESSIONS}/{call(http, 'POST', SESSIONS, {})[1]['id']}/messages"


def together(ask: Ask, method: str, path: str, body: Any = None) -> list[int]:
    """Send a request from many clients at once."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(lambda _: ask(method, path, body), range(CLIENTS)))


@pytest.mark.parametrize(
    "kind", ["descending marks", "ligatures that become 18 letters", "words of one letter", "CJK"]
)
def test_costly_messages_do_not_block_others(ask: Ask, messages: str, fault: Fault, kind: str) -> None:
    content = TEXTS[kind](min(2_000_000, MAX_BODY - 1000))
    with fault(f"{CLIENTS} messages of 2 MB: {kind}", 100 * MEGABYTE, refusals=True) as figures:
        figures.statuses.update(
            map(str, together(ask, "POST", messages, {"role": "user", "content": content}))
        )
    assert set(figures.statuses) == {"201"}


QUERIES = {
    "one CJK character": "中",
    "300 terms of two letters": " ".join(TEXTS["words of two letters"](900).split()),
    "quotes that occur nowhere": '"ab cd" ' * 100,
    "16 terms": " ".join(TEXTS["words of two letters"](48).split()),
}


@pytest.mark.parametrize("name", QUERIES)
def test_costly_searches_do_not_block_others(ask: Ask, messages: str, fault: Fault, name: str) -> None:
    for kind in ("CJK", "words of two letters", "quotes"):
        for _ in range(10):
            assert ask("POST", messages, {"role": "user", "content": TEXTS[kind](50_000)}) == 201
    with fault(f"{CLIENTS} searches: {name}", 100 * MEGABYTE, refusals=True) as figures:
        path = f"/api/v1/search?limit=50&q={quote(QUERIES[name])}"
        figures.statuses.update(map(str, together(ask, "GET", path)))
    assert set(figures.statuses) <= {"200", "422"}


def test_readers_of_a_large_session_are_served_or_refused(ask: Ask, messages: str, fault: Fault) -> None:
    for _ in range(20):
        assert ask("POST", messages, {"role": "user", "content": "x" * 1_000_000}) == 201
    # All together less than a worker holds for its clients: above that it refuses some.
    with fault(f"{CLIENTS} readers of a session of 20 MB", 400 * MEGABYTE, refusals=True) as figures:
        figures.statuses.update(map(str, together(ask, "GET", messages.removesuffix("/messages"))))
    assert set(figures.statuses) <= {"200", "503"}


@pytest.mark.parametrize(
    "suffix", ["", "?messages_limit=40", "?branches=all", "/messages", "/messages?before_seq=41"]
)
def test_reads_above_the_limit_of_a_response_are_refused(
    service: Service, ask: Ask, messages: str, fault: Fault, suffix: str
) -> None:
    """A session of 157 MB is refused, and not read."""
    batch = [{"role": "user", "content": "x"}] * 40
    assert ask("POST", messages, {"messages": batch}) == 201
    session = messages.removesuffix("/messages")
    with psycopg.connect(service.database_url) as conn:
        conn.execute(
            "UPDATE messages SET content = repeat('x', 3925000) WHERE session_id = %s",
            [session.rpartition("/")[2]],
        )
    # PostgreSQL reads as much of each as fits into a response, so a slow machine may refuse some.
    with fault(f"{CLIENTS} readers of a session of 157 MB: {suffix or 'whole'}", refusals=True) as figures:
        figures.statuses.update(map(str, together(ask, "GET", f"{session}{suffix}")))
    assert set(figures.statuses) - {"503"} == {"422"}
    assert ask("GET", f"{session}?messages_limit=1") == 200
