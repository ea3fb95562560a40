"""The list of sessions, its search and its pages: contract §2."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from support.chats import SESSIONS

from mai_sessions.content.lexemes import title_vector

Conn = psycopg.Connection[Any]


def titles(client: FlaskClient, **query: Any) -> list[str]:
    page = client.get(SESSIONS, query_string=query).get_json()
    assert page["total"] == len(page["sessions"])
    return [session["title"] for session in page["sessions"]]


# Search


def test_search_is_literal(client: FlaskClient) -> None:
    names = [
        "100%_done",
        "100 is done",
        "100xydone",
        "a\\b",
        "a\\\\b",
        "ab",
        "<b>",
        "it's",
        '"q"',
        "a.b",
        "a*b",
        "two  blanks",
        "[a]",
    ]
    for title in names:
        client.post(SESSIONS, json={"title": title})
    for search, expected in {
        "%": {"100%_done"},
        "_": {"100%_done"},
        "%_": {"100%_done"},
        "100": {"100%_done", "100 is done", "100xydone"},
        "0%d": set(),
        "\\": {"a\\b", "a\\\\b"},
        "\\\\": {"a\\\\b"},
        "a\\": {"a\\b", "a\\\\b"},
        "\\%": set(),
        "<b>": {"<b>"},
        "'": {"it's"},
        '"q"': {'"q"'},
        ".": {"a.b"},
        "a*": {"a*b"},
        "  ": set(names),
        "o  b": {"two  blanks"},
        " is ": {"100 is done"},
        "[a]": {"[a]"},
        "zzz": set(),
    }.items():
        assert set(titles(client, search=search)) == expected, search


@pytest.mark.parametrize(
    ("title", "search"),
    [
        ("Hello World", "hELLO w"),
        ("ÄRGER über Öl", "ärger ÜBER ö"),
        ("Привет, Мир", "ПРИВЕТ, мир"),
        ("Καλημέρα Κόσμε", "καλημέρα ΚΌΣΜΕ"),
        ("Ընկեր", "ընԿԵՐ"),
        ("日本語のチャット", "のチャ"),
        ("😀 smile", "😀 SMILE"),
    ],
)
def test_search_ignores_case(client: FlaskClient, title: str, search: str) -> None:
    client.post(SESSIONS, json={"title": title})
    client.post(SESSIONS, json={"title": "another"})
    for text in (search, search.lower(), search.upper(), title):
        assert titles(client, search=text) == [title]


@pytest.mark.parametrize("blank", ["", " ", "\t\n", "\u3000"])
def test_blank_search_does_not_filter(client: FlaskClient, blank: str) -> None:
    for title in ("one", "t w o"):
        client.post(SESSIONS, json={"title": title})
    assert titles(client, search=blank) == ["t w o", "one"]


@pytest.mark.parametrize(
    ("title", "search"),
    [
        ("Cafe\u0301 plans", "caf\u00e9"),
        ("Caf\u00e9 plans", "cafe\u0301 p"),
        ("\u1112\u1161\u11ab글", "\ud55c"),
        ("\u304b\u3099 kana", "\u304c"),
        ("Trip to Rome", "Trip to "),
        ("Trip", "trip \t"),
        ("Trip", "trip\u3000"),
    ],
)
def test_search_compares_in_nfc_and_without_blanks_at_the_end(
    client: FlaskClient, title: str, search: str
) -> None:
    client.post(SESSIONS, json={"title": title})
    assert titles(client, search=search) == [title]


# Any text that PostgreSQL can hold. Of the letters only those of ASCII: the case of the others is the
# database's own knowledge.
_titles = st.text(
    st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["L", "M", "Nl", "So"])
    | st.sampled_from("aB%_\\")
)


@given(texts=st.lists(_titles, min_size=1, max_size=5), search=_titles)
def test_search_is_a_substring(client: FlaskClient, conn: Conn, texts: list[str], search: str) -> None:
    conn.execute("TRUNCATE users, sessions CASCADE")
    stored = [client.post(SESSIONS, json={"title": title}).get_json()["title"] for title in texts]
    expected = [title for title in reversed(stored) if not search.strip() or search.lower() in title.lower()]
    assert titles(client, search=search, limit=100) == expected


# Pages


def insert_sessions(conn: Conn, minutes: list[int]) -> list[str]:
    """Make the default user's sessions those updated at these minutes; returns their ids in the order of the
    list.
    """
    conn.execute("TRUNCATE users, sessions CASCADE")
    conn.execute("INSERT INTO users (user_id, session_count) VALUES ('default-user', %s)", [len(minutes)])
    rows = [
        (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute, microseconds=1), uuid4())
        for minute in minutes
    ]
    with conn.cursor() as cursor:
        cursor.executemany(
            """
            WITH s AS (
                INSERT INTO sessions (user_id, id, title, agent_name, version, updated_at)
                VALUES ('default-user', %(id)s, 'x', 'chat', gen_random_uuid(), %(updated_at)s)
                RETURNING user_id, id, created_at, title)
            INSERT INTO session_titles (user_id, session_id, created_at, title, words)
            SELECT user_id, id, created_at, title, %(words)s::tsvector FROM s""",
            [
                {
                    "id": session_id,
                    "updated_at": updated_at,
                    "words": title_vector("default-user", session_id, "x"),
                }
                for updated_at, session_id in rows
            ],
        )
    return [str(session_id) for _, session_id in sorted(rows, reverse=True)]


def walk_offsets(client: FlaskClient, query: dict[str, Any], total: int) -> Iterator[str]:
    limit = query["limit"]
    for offset in range(0, total + 2 * limit, limit):
        page = client.get(SESSIONS, query_string={**query, "offset": offset}).get_json()
        assert (page["total"], page["limit"], page["offset"]) == (total, limit, offset)
        assert (page["next_cursor"] is None) == (offset + limit >= total)
        yield from (session["id"] for session in page["sessions"])


def walk_cursors(
    client: FlaskClient, query: dict[str, Any], between: Callable[[list[str]], None]
) -> Iterator[str]:
    cursor: dict[str, str] = {}
    while True:
        page = client.get(SESSIONS, query_string={**query, **cursor}).get_json()
        seen = [session["id"] for session in page["sessions"]]
        yield from seen
        if page["next_cursor"] is None:
            return
        assert len(seen) == query["limit"]
        cursor = {"cursor": page["next_cursor"]}
        between(seen)


# Few values, so that many are equal.
_minutes = st.lists(st.integers(0, 2), max_size=12)
_page_queries = st.fixed_dictionaries({"limit": st.integers(1, 5)}, optional={"search": st.just("X")})


@given(minutes=_minutes, query=_page_queries)
def test_pages_contain_each_session_once(
    client: FlaskClient, conn: Conn, minutes: list[int], query: dict[str, Any]
) -> None:
    ids = insert_sessions(conn, minutes)
    assert list(walk_offsets(client, query, len(ids))) == ids
    assert list(walk_cursors(client, query, lambda seen: None)) == ids


@given(minutes=_minutes, query=_page_queries)
def test_cursors_contain_each_session_once_while_others_are_added(
    client: FlaskClient, conn: Conn, minutes: list[int], query: dict[str, Any]
) -> None:
    ids = insert_sessions(conn, minutes)

    def add_and_touch(seen: list[str]) -> None:
        client.post(SESSIONS, json={"title": "x"})
        client.patch(f"{SESSIONS}/{seen[0]}", json={})
        client.post(f"{SESSIONS}/{seen[-1]}/messages", json={"role": "user", "content": ""})

    assert list(walk_cursors(client, query, add_and_touch)) == ids


def test_cursor_of_a_deleted_session_is_accepted(client: FlaskClient, conn: Conn) -> None:
    ids = insert_sessions(conn, [1, 1, 1, 1])
    cursor = client.get(SESSIONS, query_string={"limit": 2}).get_json()["next_cursor"]
    client.delete(f"{SESSIONS}/{ids[1]}")
    rest = client.get(SESSIONS, query_string={"limit": 2, "cursor": cursor}).get_json()
    assert [session["id"] for session in rest["sessions"]] == ids[2:]
    assert rest["total"] == 3


def test_page_past_the_end_is_empty(client: FlaskClient, conn: Conn) -> None:
    insert_sessions(conn, [1, 2, 3])
    page = client.get(SESSIONS, query_string={"offset": 99, "limit": 7}).get_json()
    assert page == {"sessions": [], "total": 3, "limit": 7, "offset": 99, "next_cursor": None}


@given(data=st.data())
def test_damaged_cursor_is_refused(client: FlaskClient, conn: Conn, data: st.DataObject) -> None:
    insert_sessions(conn, [1, 2])
    cursor = client.get(SESSIONS, query_string={"limit": 1}).get_json()["next_cursor"]
    place = data.draw(st.integers(0, len(cursor) - 1))
    character = data.draw(st.characters(codec="utf-8").filter(lambda c: c.lower() != cursor[place].lower()))
    for damaged in (
        cursor[:place] + character + cursor[place + 1 :],
        cursor[:place],
        cursor + character,
        cursor[place + 1 :],
    ):
        # An empty parameter is not given.
        if not damaged:
            continue
        response = client.get(SESSIONS, query_string={"limit": 1, "cursor": damaged})
        assert response.status_code == 422, damaged
        assert response.get_json()["errors"][0]["loc"] == ["query", "cursor"]


@pytest.mark.parametrize(
    "moment", ["", "x", "1.5", "9" * 18, "-" + "9" * 18, "9" * 40, "9" * 5000, "NaN", "²"]
)
def test_forged_cursor_is_refused(client: FlaskClient, moment: str) -> None:
    keys = f"{moment}.{uuid4()}"
    checksum = md5(keys.encode(), usedforsecurity=False).hexdigest()[:8]
    assert client.get(SESSIONS, query_string={"cursor": f"{keys}.{checksum}"}).status_code == 422
