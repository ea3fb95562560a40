"""Searches of a user with many sessions: what they find, and how many rows they read. A word in most sessions
takes hardly more rows than a rare one.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest

from mai_sessions.content.lexemes import message_vector, title_vector
from mai_sessions.pagination import SessionPosition, parse_search_cursor, parse_session_cursor
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.session_settings import PLANS
from mai_sessions.repository import search, session_list

USER = "user"
SESSIONS, MESSAGES = 3_000, 2


@pytest.fixture(scope="module")
def conn(make_database: Callable[[str], str]) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database of one user, planned for any user as the service does."""
    dsn = make_database("mai_sessions_template")
    with psycopg.connect(dsn, autocommit=True) as seeding:
        _seed(seeding)
    options = " ".join(f"-c {name}={value}" for name, value in {"timezone": "UTC", **PLANS}.items())
    with Connection.connect(dsn, options=options) as own:
        yield own


def _seed(conn: psycopg.Connection[Any]) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    chats, titles, texts = [], [], []
    for number in range(SESSIONS):
        session_id, when = UUID(int=number), start + timedelta(hours=number)
        age = "elderly" if number < SESSIONS / 2 else "recent"
        title = f"note {number} {age}" + " okapi" * (number % 1_000 == 0) + " tenth" * (number % 10 == 0)
        chats.append((USER, session_id, title, "chat", session_id, MESSAGES, MESSAGES, MESSAGES, when, when))
        titles.append((USER, session_id, when, title, title_vector(USER, session_id, title)))
        for seq in range(1, MESSAGES + 1):
            content = f"perhaps {number}" + " quetzal" * (number % 1_000 == 0)
            vector = message_vector(USER, session_id, when, content)
            message_id = UUID(int=number * MESSAGES + seq)
            texts.append((USER, session_id, message_id, seq, "user", content, 2, False, [], [], vector, when))
    for target, rows in {
        "users (user_id, session_count)": [(USER, SESSIONS)],
        """sessions (user_id, id, title, agent_name, version, message_count, last_seq, newest_seq, created_at,
                     updated_at)""": chats,
        "session_titles (user_id, session_id, created_at, title, words)": titles,
        """messages (user_id, session_id, id, seq, role, content, token_count, is_error, images, documents,
                     words, created_at)""": texts,
    }.items():
        with conn.cursor().copy(f"COPY {target} FROM STDIN") as copy:  # type: ignore[call-overload]
            for row in rows:
                copy.write_row(row)
    # VACUUM marks a page as visible to all only after the commit of its rows has been flushed.
    conn.execute("VACUUM ANALYZE")
    while conn.execute(
        "SELECT FROM pg_class WHERE relname = 'session_titles' AND relallvisible < relpages"
    ).fetchall():
        conn.execute("SELECT pg_sleep(0.1)")
        conn.execute("VACUUM ANALYZE")


def rows_read(conn: psycopg.Connection[Any], call: Callable[[], object]) -> int:
    """Return how many rows a call reads of the table of which it reads the most."""
    with conn.transaction(force_rollback=True):
        before = _counts(conn)
        call()
        return max((_counts(conn) - before).values(), default=0)


def _counts(conn: psycopg.Connection[Any]) -> Counter[str]:
    rows = conn.execute(
        """SELECT relname, coalesce(idx_tup_fetch, 0) + seq_tup_read
             FROM pg_stat_xact_user_tables WHERE relname = ANY (%s)""",
        [["sessions", "session_titles", "messages"]],
    ).fetchall()
    return Counter(dict(rows))


@pytest.mark.parametrize(
    ("q", "results"), [("quetzal", 6), ("okapi", 3), ("nothing", 0), ("perhaps", 20), ("note", 20)]
)
def test_search_of_a_user_with_many_sessions_reads_few_rows(conn: Connection, q: str, results: int) -> None:
    def call() -> None:
        found = orjson.loads(search.search(conn, USER, q=q, limit=20))["results"]
        assert len(found) == results

    assert rows_read(conn, call) <= 3 * search.WINDOW


LAYOUTS = {
    "in order": "sessions SET archived = false",
    "archived": "sessions SET archived = true",
    "partly archived": "sessions SET archived = right(id::text, 1) > '5'",
    "written at one time": "sessions SET updated_at = '2026-09-01'",
    "little out of order": "sessions SET updated_at = created_at + interval '1h' * ascii(reverse(id::text))",
    "in another order": "sessions SET updated_at = created_at + interval '99h' * ascii(reverse(id::text))",
    "with long ones": "sessions SET message_count = 5000, last_seq = 5000 WHERE right(id::text, 1) = '7'",
    "said to be few": "users SET session_count = 20",
}


@pytest.fixture(params=LAYOUTS)
def layout_conn(conn: Connection, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """The connection, in a transaction in which the sessions are another way round."""
    with conn.transaction(force_rollback=True):
        conn.execute(f"UPDATE {LAYOUTS[request.param]}".encode())
        yield conn


@pytest.mark.parametrize(
    ("q", "words"),
    [
        ("note", ["note"]),
        ("perhaps", ["perhaps"]),
        ("tenth", ["tenth"]),
        ("perhaps 1", ["perhaps", r"\m1"]),
        ('"recent tenth"', ["recent tenth"]),
    ],
)
def test_search_pages_find_every_match_once(layout_conn: Connection, q: str, words: list[str]) -> None:
    expected = {
        row
        for (row,) in layout_conn.execute(
            """SELECT id FROM sessions WHERE title ~ ALL (%s)
                UNION ALL
               SELECT id FROM messages WHERE content ~ ALL (%s)""",
            [words, words],
        )
    }
    found = []
    after = search.START
    while True:
        page = orjson.loads(search.search(layout_conn, USER, q=q, limit=150, after=after))
        found += [UUID(result["message_id"] or result["session"]["id"]) for result in page["results"]]
        if page["next_cursor"] is None:
            break
        after = parse_search_cursor(page["next_cursor"])
    assert len(found) == len(set(found))
    assert set(found) == expected
    assert not page["truncated"]


# Parts of titles: of a few, of the newest and the oldest half, of every tenth, and of all.
PARTS = ("okapi", "recent", "elderly", "tenth", "NOTE", "o", "e 1", "nothing")
ARCHIVED = {
    "no session": "false",
    "every session": "true",
    "two sessions": "id IN ('00000000-0000-0000-0000-000000000001', '00000000-0000-0000-0000-000000000bb0')",
    "two of three sessions": "right(id::text, 1) > '5'",
    "the newest sessions": "created_at > '2026-03-01'",
}


@pytest.fixture(params=ARCHIVED)
def archived_conn(conn: Connection, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """The connection, in a transaction in which some of the sessions are archived."""
    with conn.transaction(force_rollback=True):
        conn.execute(f"UPDATE sessions SET archived = {ARCHIVED[request.param]}".encode())
        conn.execute("UPDATE users SET archived_count = (SELECT count(*) FROM sessions WHERE archived)")
        yield conn


@pytest.mark.parametrize("archived", ["false", "true", "any"])
@pytest.mark.parametrize("part", PARTS)
def test_title_search_finds_and_counts_every_title(
    archived_conn: Connection, part: str, archived: str
) -> None:
    states = {"false": [False], "true": [True], "any": [False, True]}[archived]
    expected = [
        str(session_id)
        for (session_id,) in archived_conn.execute(
            """SELECT id FROM sessions
                WHERE archived = ANY (%s) AND strpos(title, lower(%s)) > 0
                ORDER BY updated_at DESC, id DESC""",
            [states, part],
        )
    ]

    def read(**place: Any) -> list[str]:
        body = session_list.list_sessions(
            archived_conn, USER, search=part, limit=100, archived=archived, **{"offset": 0, **place}
        ).body
        page = orjson.loads(body)
        assert page["total"] == len(expected)
        ids = [session["id"] for session in page["sessions"]]
        assert (page["next_cursor"] is None) == (ids == [] or ids[-1] == expected[-1])
        if page["next_cursor"]:
            cursors.append(parse_session_cursor(page["next_cursor"]))
        return ids

    cursors: list[SessionPosition] = []
    found = read()
    while cursors:
        found += read(after=cursors.pop())
    assert found == expected
    for offset in (1, 350, len(expected), 2**15 - 1, 2**29, 2**31 - 1, 2**63 - 1):
        assert read(offset=offset) == expected[offset : offset + 100]


@pytest.mark.parametrize(("part", "most"), [("okapi", 20), ("NOTE", 400), ("tenth", SESSIONS / 3)])
def test_title_search_reads_few_rows(conn: Connection, part: str, most: int) -> None:
    def call() -> None:
        session_list.list_sessions(conn, USER, search=part, limit=50, offset=0)

    # The index tells which titles have a common part, and how many.
    assert rows_read(conn, call) <= most
