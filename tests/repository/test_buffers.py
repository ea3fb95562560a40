"""The rows and buffers of a read depend on its result, not on the size of sessions and lists.

With the generic plan, which the service asks for, and with a custom one.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
import pytest

from mai_sessions.content.lexemes import title_vector
from mai_sessions.pagination import SessionPosition
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.session_settings import PLANS
from mai_sessions.repository import messages, session_list, sessions

MESSAGES = 5_000
LINEAR, FORKED, REGENERATED, SYSTEMS = (UUID(int=number) for number in range(1, 5))
# Three sessions of 5,000 messages: without branches; with one fork near the end; and with a second answer to
# every tenth question, and a message of the system at the start. And one of nothing but those of the system.
CHATS = f"""
    INSERT INTO sessions (user_id, id, title, agent_name, version, message_count, last_seq, newest_seq,
                          is_branched, head_seq, head_id)
    SELECT 'reader', s.id, 'chat', 'chat', s.id, {MESSAGES}, {MESSAGES}, {MESSAGES}, s.id <> '{LINEAR}',
           {MESSAGES}, s.id
      FROM unnest(ARRAY['{LINEAR}', '{FORKED}', '{REGENERATED}', '{SYSTEMS}']::uuid[]) AS s (id);
    INSERT INTO messages (user_id, session_id, id, created_at, seq, parent_seq, token_count, is_error, role,
                          content, images, documents)
    SELECT 'reader', s.id, gen_random_uuid(), now(), m.seq,
           CASE WHEN s.id = '{FORKED}' AND m.seq = {MESSAGES} - 5 THEN m.seq - 3
                WHEN s.id = '{REGENERATED}' AND m.seq % 10 = 0 THEN m.seq - 2 END,
           10, false, CASE WHEN m.seq = 1 OR s.id = '{SYSTEMS}' THEN 'system'
                           WHEN m.seq % 2 = 0 THEN 'user' ELSE 'assistant' END,
           repeat('some words ', 30), '{{}}', '{{}}'
      FROM sessions AS s
     CROSS JOIN generate_series(1, {MESSAGES}) AS m (seq)
     WHERE s.user_id = 'reader'
     ORDER BY s.id, m.seq;"""
MANY, FEW = 50_000, 50
LISTED_AT = datetime(2026, 1, 1, tzinfo=UTC)
# A user with many archived sessions and few open ones, another the other way round. Five sessions of each are
# pinned, and have a rare title. They stand in the table in another order than they were written last.
NEEDLE, CHAT = (title_vector("tidy", LINEAR, title).replace("'", "''") for title in ("needle", "chat 1"))
LISTS = f"""
    INSERT INTO users (user_id, session_count, archived_count)
    VALUES ('tidy', {MANY + FEW}, {MANY}), ('busy', {MANY + FEW}, {FEW});
    INSERT INTO sessions (user_id, id, title, agent_name, version, archived, has_metadata, created_at,
                          updated_at)
    SELECT u.user_id, gen_random_uuid(), CASE WHEN n % 10000 = 0 THEN 'needle' ELSE 'chat ' || n END, 'chat',
           gen_random_uuid(),
           (n > {FEW}) = (u.user_id = 'tidy'), true, '{LISTED_AT}'::timestamptz - n * interval '1 s',
           '{LISTED_AT}'::timestamptz - n * interval '1 s'
      FROM users AS u
     CROSS JOIN generate_series(1, {MANY + FEW}) AS n
     WHERE u.user_id IN ('tidy', 'busy')
     ORDER BY md5(n::text);
    INSERT INTO session_titles (user_id, session_id, created_at, title, words, metadata)
    SELECT s.user_id, s.id, s.created_at, s.title,
           CASE WHEN s.user_id = 'busy' THEN '' WHEN s.title = 'needle' THEN '{NEEDLE}'
                ELSE '{CHAT}' END::tsvector,
           jsonb_build_object('project', s.id, 'pinned', s.title = 'needle')
      FROM sessions AS s
     WHERE s.user_id IN ('tidy', 'busy');"""
FOUND = MANY // 10_000


class Reads(NamedTuple):
    """What a call touched of the tables of users: rows, and buffers of tables and indexes."""

    rows: int
    buffers: int


Read = Callable[[Callable[[Connection], object]], Reads]


@pytest.fixture(scope="module")
def seeded_url(make_migrated_database: Callable[[], str]) -> str:
    url = make_migrated_database()
    with psycopg.connect(url, autocommit=True) as conn:
        # A GIN index of many rows is built faster than it is written.
        indexes = conn.execute("""
            SELECT indexname, indexdef FROM pg_indexes
             WHERE tablename = 'session_titles' AND indexdef LIKE '%USING gin%'""").fetchall()
        drops = [f"DROP INDEX {name}" for name, _ in indexes]
        for statement in (*drops, CHATS, LISTS, *(make for _, make in indexes), "VACUUM ANALYZE"):
            conn.execute(statement)  # type: ignore[call-overload]
    return url


@pytest.fixture(params=["force_generic_plan", "force_custom_plan"])
def read(seeded_url: str, request: pytest.FixtureRequest) -> Iterator[Read]:
    """Calls a repository function and counts what it reads."""
    plans = {**PLANS, "plan_cache_mode": request.param}
    options = " ".join(f"-c {name}={value}" for name, value in {"timezone": "UTC", **plans}.items())
    with Connection.connect(seeded_url, autocommit=True, options=options) as conn:

        def counted(call: Callable[[Connection], object]) -> Reads:
            call(conn)
            before = _totals(conn)
            call(conn)
            after = _totals(conn)
            return Reads(*(now - then for now, then in zip(after, before, strict=True)))

        yield counted


def _totals(conn: Connection) -> tuple[Any, ...]:
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute("""
        SELECT sum(coalesce(t.idx_tup_fetch, 0) + t.seq_tup_read)::int,
               sum(io.heap_blks_read + io.heap_blks_hit
                   + coalesce(io.idx_blks_read + io.idx_blks_hit, 0))::int
          FROM pg_stat_user_tables AS t
          JOIN pg_statio_user_tables AS io USING (relid)""").fetchone()
    assert row
    return row


PAGES: dict[str, dict[str, Any]] = {
    "the newest": {"before_seq": 2**31 - 1},
    "before another": {"before_seq": MESSAGES // 2},
    "after another": {"after_seq": MESSAGES - 100},
    "from the beginning": {},
    "an offset": {"offset": 20},
    "within a budget": {"max_tokens": 500},
}


def page(session_id: UUID, name: str) -> Callable[[Connection], object]:
    return lambda conn: messages.list_messages(conn, "reader", session_id, limit=50, **PAGES[name])


@pytest.mark.parametrize("name", PAGES)
def test_page_of_a_branch_touches_at_most_three_times_the_buffers_of_a_range(read: Read, name: str) -> None:
    linear, forked = read(page(LINEAR, name)), read(page(FORKED, name))
    assert forked.buffers <= 3 * linear.buffers
    assert forked.rows <= linear.rows + 50


@pytest.mark.parametrize("limit", [50, None])
def test_detail_of_a_branch_touches_at_most_three_times_the_buffers_of_a_range(
    read: Read, limit: int | None
) -> None:
    def detail(session_id: UUID) -> Reads:
        return read(lambda conn: sessions.get_session(conn, "reader", session_id, messages_limit=limit))

    assert detail(FORKED).buffers <= 3 * detail(LINEAR).buffers


@pytest.mark.parametrize("name", PAGES)
def test_walk_costs_a_few_buffers_for_each_fork_that_it_passes(read: Read, name: str) -> None:
    linear, regenerated = read(page(LINEAR, name)), read(page(REGENERATED, name))
    assert regenerated.buffers <= 3 * linear.buffers + 5 * MESSAGES // 10
    assert regenerated.rows <= linear.rows + 100 + MESSAGES // 10


def test_window_reads_no_more_than_its_tokens_allow(read: Read) -> None:
    for session_id in (LINEAR, FORKED):
        assert read(page(session_id, "within a budget")).rows <= 4 * 50


def test_messages_of_the_system_are_read_once(read: Read) -> None:
    assert read(page(SYSTEMS, "within a budget")).rows <= MESSAGES + 100


@pytest.mark.parametrize("after", [0, MANY // 2])
@pytest.mark.parametrize("user_id", ["tidy", "busy"])
@pytest.mark.parametrize("archived", ["false", "true", "any"])
def test_list_reads_one_range_or_merges_two(read: Read, user_id: str, archived: str, after: int) -> None:
    listed = read(
        lambda conn: session_list.list_sessions(
            conn,
            user_id,
            search="",
            limit=50,
            offset=0,
            after=SessionPosition(LISTED_AT - timedelta(seconds=after), UUID(int=0)),
            archived=archived,
        )
    )
    # The sessions of the page in each range, their metadata, and the first session after them.
    assert listed.rows <= 3 * 50 + 10
    assert listed.buffers <= 8 * 50


FILTERS: dict[str, dict[str, Any]] = {
    "metadata": {"search": "", "metadata": b'{"pinned":true}'},
    "title": {"search": "needle"},
    "both": {"search": "needle", "metadata": b'{"pinned":true}'},
}


@pytest.mark.parametrize("name", FILTERS)
@pytest.mark.parametrize("archived", ["false", "true", "any"])
def test_filter_reads_only_matching_rows(read: Read, archived: str, name: str) -> None:
    found = []
    filtered = read(
        lambda conn: found.append(
            session_list.list_sessions(
                conn, "tidy", limit=50, offset=0, archived=archived, **FILTERS[name]
            ).body
        )
    )
    assert found[0].count(b'"title":"needle"') == (0 if archived == "false" else FOUND)
    # A sample of at most 48 titles tells that the part is not common. It begins at other rows in each run.
    assert filtered.rows <= 10 * FOUND + 48
    assert filtered.buffers <= 20 * FOUND + 2 * 48
