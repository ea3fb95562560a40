"""A search of a user with many sessions reads hardly more rows for a common word than for a rare one."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import psycopg
import pytest

from mai_sessions.content.lexemes import message_vector, title_vector
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
        title = f"note {number}" + " okapi" * (number % 1_000 == 0)
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


@pytest.mark.parametrize(("part", "total", "most"), [("okapi", 3, 20), ("note", SESSIONS, SESSIONS + 100)])
def test_title_search_reads_each_title_and_session_once(
    conn: Connection, part: str, total: int, most: int
) -> None:
    def call() -> None:
        page = session_list.list_sessions(conn, USER, search=part, limit=50, offset=0)
        assert orjson.loads(page.body)["total"] == total

    assert rows_read(conn, call) <= most


def test_common_part_of_titles_pages_through_all(conn: Connection) -> None:
    pages, cursor = [], session_list.START
    while len(pages) < SESSIONS:
        page = session_list.list_sessions(
            conn, USER, search="NOTE", limit=100, offset=0, after=cursor, archived="any"
        )
        found = orjson.loads(page.body)["sessions"]
        pages += [session["id"] for session in found]
        cursor = datetime.fromisoformat(found[-1]["updated_at"]), UUID(found[-1]["id"])
    assert pages == [str(UUID(int=number)) for number in reversed(range(SESSIONS))]
