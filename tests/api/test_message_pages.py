"""The pages of messages: contract §3."""

import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

Conn = psycopg.Connection[Any]


def fill(client: FlaskClient, conn: Conn, session: str, kept: list[bool]) -> list[int]:
    """Append messages, and delete those that are not kept. Returns each `seq` that remains."""
    conn.execute("TRUNCATE messages")
    conn.execute("UPDATE sessions SET last_seq = 0, message_count = 0, newest_seq = NULL")
    for number, keep in enumerate(kept):
        body = {"role": "user", "content": str(number)}
        appended = client.post(f"{session}/messages", json=body)
        if not keep:
            client.delete(appended.headers["Location"])
    return [seq for seq, keep in enumerate(kept, 1) if keep]


def seqs(response: TestResponse) -> list[int]:
    assert response.status_code == 200
    return [message["seq"] for message in response.get_json()]


def links(response: TestResponse) -> dict[str, str]:
    return {
        rel: target for target, rel in re.findall(r'<([^>]*)>; rel="(\w+)"', response.headers.get("Link", ""))
    }


def walk(client: FlaskClient, path: str, rel: str) -> Iterator[list[int]]:
    """The pages from this one on, by the links that they carry."""
    while path:
        page = client.get(path)
        yield seqs(page)
        path = links(page).get(rel, "")


_kept = st.lists(st.booleans(), max_size=9)
_limits = st.integers(1, 5)


@given(kept=_kept, limit=_limits)
def test_pages_contain_each_message_once(
    client: FlaskClient, conn: Conn, session: str, kept: list[bool], limit: int
) -> None:
    there = fill(client, conn, session, kept)
    messages = f"{session}/messages"
    assert seqs(client.get(messages)) == there

    offsets = range(0, len(kept) + limit, limit)
    assert [
        seq for offset in offsets for seq in seqs(client.get(f"{messages}?limit={limit}&offset={offset}"))
    ] == there

    after, forward = 0, []
    while page := seqs(client.get(f"{messages}?limit={limit}&after_seq={after}")):
        forward += page
        after = page[-1]
    assert forward == there

    before, backward = len(kept) + 1, []
    while page := seqs(client.get(f"{messages}?limit={limit}&before_seq={before}")):
        backward = page + backward
        before = page[0]
    assert backward == there


@given(kept=_kept, query=st.tuples(_limits, st.integers(0, 10) | st.just(99)))
def test_links_lead_to_each_message_once(
    client: FlaskClient, conn: Conn, session: str, kept: list[bool], query: tuple[int, int]
) -> None:
    limit, start = query
    there = fill(client, conn, session, kept)
    messages = f"{session}/messages?limit={limit}"
    for first in (messages, f"{messages}&offset=0", f"{messages}&after_seq=0"):
        pages = list(walk(client, first, "next"))
        assert list(chain(*pages)) == there
        assert len(pages) == max(1, -(-len(there) // limit))
    # From anywhere, both ways.
    for place in (f"offset={start}", f"after_seq={start}", f"before_seq={start}"):
        before, after = (list(walk(client, f"{messages}&{place}", rel)) for rel in ("prev", "next"))
        assert before[0] == after[0]
        if before[0]:
            assert list(chain(*reversed(before), *after[1:])) == there, place


@pytest.mark.parametrize("name", ["offset", "after_seq", "before_seq"])
def test_place_of_a_page_is_refused_beside_max_tokens(client: FlaskClient, session: str, name: str) -> None:
    response = client.get(f"{session}/messages?max_tokens=5&{name}=2")
    assert response.status_code == 422
    assert [error["loc"] for error in response.get_json()["errors"]] == [["query", name]]
    assert client.get(f"{session}/messages?max_tokens=5&{name}=&limit=1").status_code == 200


def test_after_seq_and_before_seq_bound_a_page(client: FlaskClient, conn: Conn, session: str) -> None:
    fill(client, conn, session, [True] * 9)
    for query, expected in {
        "after_seq=3&before_seq=7": [4, 5, 6],
        "after_seq=3&before_seq=7&limit=2": [5, 6],
        "after_seq=3&limit=2": [4, 5],
        "before_seq=7&limit=2": [5, 6],
        "before_seq=1": [],
        "after_seq=9": [],
        "after_seq=0&limit=1": [1],
        "offset=9": [],
        "offset=8": [9],
    }.items():
        assert seqs(client.get(f"{session}/messages?{query}")) == expected, query


def test_link_header_has_no_trailing_slash(client: FlaskClient, conn: Conn, session: str) -> None:
    fill(client, conn, session, [True] * 3)
    for slash in ("", "/"):
        page = client.get(f"{session}/messages{slash}?limit=1&offset=1")
        assert links(page) == {
            "prev": f"{session}/messages?limit=1&offset=0",
            "next": f"{session}/messages?limit=1&offset=2",
        }


def test_default_page_has_a_hundred_messages(client: FlaskClient, conn: Conn, session: str) -> None:
    conn.execute(
        """ INSERT INTO messages (user_id, session_id, id, created_at, seq, token_count, is_error, role,
        content, images, documents) SELECT user_id, id, gen_random_uuid(), now(), n, 0, false, 'user', '',
        '{}', '{}'
          FROM sessions, generate_series(1, 600) AS n"""
    )
    conn.execute(
        "UPDATE sessions SET message_count = 600, last_seq = 600, newest_seq = 600, last_message_preview = ''"
    )
    assert seqs(client.get(f"{session}/messages")) == list(range(1, 101))
    assert seqs(client.get(f"{session}/messages?limit=500")) == list(range(1, 501))
    assert len(client.get(session).get_json()["messages"]) == 600
