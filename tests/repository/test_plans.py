"""Every statement of `repository/`, on a seeded database: no sequential scan, and no sort of more than a
page.
"""

import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.types.json import Json, Jsonb

from mai_sessions import repository
from mai_sessions.content.lexemes import (
    WEEK_SECONDS,
    message_vector,
    substring_query,
    title_vector,
    user_prefix,
)
from mai_sessions.content.message import NewMessage
from mai_sessions.content.query import parse_query
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository import analytics, appends, messages, new_messages, patches, sessions

USERS, SESSIONS, MESSAGES = 100, 50, 10
USER = "user7"
SESSION, MESSAGE = UUID(int=7_007), UUID(int=7_007_007)
# A session of that user with as many messages as 200 others, a tenth of them of the second day.
LONG, LONG_MESSAGES = UUID(int=7_999), 2_000
LONG_MESSAGE = UUID(int=LONG.int * 10_000 + LONG_MESSAGES)
LONG_DAY = datetime(2026, 1, 2, tzinfo=UTC)
# The most of a page, or of the matches that a search ranks.
MOST_SORTED = 200

_NAMES = {
    value: f"{module.name}.{name}"
    for module in pkgutil.iter_modules(repository.__path__)
    for name, value in vars(importlib.import_module(f"{repository.__name__}.{module.name}")).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str) and "/* " in value
}
# Each once, though several modules run it.
STATEMENTS = {name: value for value, name in _NAMES.items()}

_query = parse_query(USER, "rare")
assert _query
NEW_ROW = {
    "place": 1,
    "role": "user",
    "content": "words",
    "token_count": 1,
    "is_error": False,
    "images": [],
    "documents": [],
    "part_attachments": [],
    "metadata": {},
    "status": "complete",
    "words": "word:1",
}
# The type of each parameter, and a value.
PARAMETERS: dict[str, tuple[str, Any]] = {
    "after_created_at": ("timestamptz", datetime.max.replace(tzinfo=UTC)),
    "after_id": ("uuid", UUID(int=2**128 - 1)),
    "after_rank": ("float8", float("inf")),
    "after_seq": ("int", 0),
    "after_updated_at": ("timestamptz", datetime.max.replace(tzinfo=UTC)),
    "agent_name": ("text", None),
    "all_branches": ("bool", False),
    "archived": ("bool", False),
    "before_seq": ("int", 2**31 - 1),
    "child_ids": ("uuid[]", [MESSAGE]),
    "claimed": ("uuid", None),
    "clear_model_id": ("bool", False),
    "content": ("text", "words"),
    "content_types": ("text[]", ["image/png"]),
    "contents": ("bytea[]", [b"png"]),
    "count": ("int", 1),
    "created_at": ("timestamptz", None),
    "day_parts": ("text[]", ["total"]),
    "days": ("int", 30),
    "documents": ("text[]", None),
    "epoch": ("date", date(1970, 1, 1)),
    "expected_version": ("uuid", SESSION),
    "file_names": ("text[]", [None]),
    "fingerprint": ("bytea", b"fingerprint"),
    "first_day": ("date", date(2026, 1, 1)),
    "folded_title": ("text", "title"),
    "folded_titles": ("text[]", ["title 1 "]),
    "has_metadata": ("bool", False),
    "has_origin": ("bool", True),
    "head_id": ("uuid", None),
    "head_seq": ("int", 1),
    "if_match": ("uuid[]", None),
    "images": ("text[]", None),
    "is_batch": ("bool", True),
    "is_branched": ("bool", False),
    "is_error": ("bool", False),
    "key": ("text", "new"),
    "known_versions": ("uuid[]", []),
    "last_seq": ("int", 11),
    "limit": ("int", 50),
    "max_bytes": ("bigint", 64 * 1024**2),
    "max_characters": ("int", 100_000),
    "max_compared": ("bigint", 1_000_000),
    "max_metadata": ("int", 16_384),
    "max_stored_bytes": ("bigint", 1024**2),
    "max_tokens": ("int", 100),
    "may_be_common": ("bool", True),
    "members": ("jsonb", None),
    "message_before": ("uuid", UUID(int=0)),
    "message_id": ("uuid", MESSAGE),
    "message_ids": ("uuid[]", [MESSAGE]),
    "messages": ("json", Json([{**NEW_ROW, "id": str(UUID(int=1))}])),
    "messages_before": ("timestamptz", datetime.max.replace(tzinfo=UTC)),
    "messages_limit": ("int", 10),
    "messages_paths": ("text[]", [f"sessions/{SESSION}/messages"]),
    "metadata": ("jsonb", Jsonb({"kind": "rare"})),
    "model_id": ("text", None),
    "named_sha256s": ("text[]", ["7" * 64]),
    "needed_ids": ("uuid[]", [MESSAGE]),
    "needed_sha256s": ("text[]", []),
    "new_head_id": ("uuid", None),
    "ngrams": ("text", substring_query(USER, "rare")),
    "offset": ("int", 0),
    "origin": ("jsonb", Json({"import": {}})),
    "parent_ids": ("uuid[]", [MESSAGE]),
    "part_attachments": ("text[]", None),
    "parts": ("json", None),
    "path": ("text", "sessions"),
    "preview": ("text", "words"),
    "query": ("text", _query.tsquery),
    "recent_query": ("text", _query.recent_tsquery),
    "removed": ("text[]", []),
    "removed_keys": ("text[]", []),
    "reply": ("json", Json({})),
    "response_time_ms": ("float8", 1.5),
    "role": ("text", "user"),
    "roles": ("text[]", ["user", "assistant", "system", "tool"]),
    "seqs": ("int[]", [1]),
    "session_id": ("uuid", SESSION),
    "session_ids": ("uuid[]", [SESSION]),
    "sha256": ("text", "7" * 64),
    "sha256s": ("text[]", ["a" * 64]),
    "since": ("timestamptz", datetime.min.replace(tzinfo=UTC)),
    "states": ("bool[]", [False, True]),
    "status": ("text", None),
    "substring": ("text", "rare"),
    "title": ("text", "title"),
    "title_before": ("uuid", UUID(int=0)),
    "titles": ("text[]", ["title 1 "]),
    "titles_before": ("timestamptz", datetime.max.replace(tzinfo=UTC)),
    "token_count": ("int", 1),
    "until": ("timestamptz", datetime.max.replace(tzinfo=UTC)),
    "updated_at": ("timestamptz", datetime(2026, 1, 1, tzinfo=UTC)),
    "user_id": ("text", USER),
    "user_prefix": ("text", user_prefix(USER)),
    "vectors": ("tsvector[]", ["_2 word"]),
    "version": ("uuid", SESSION),
    "week_days": ("int", 8),
    "week_seconds": ("int", WEEK_SECONDS),
    "with_titles": ("bool", True),
    "words": ("text", "word:1"),
}
# Rows that are not there yet, and a search everywhere.
OTHERWISE: dict[str, dict[str, Any]] = {
    "exports.LIST_SESSIONS": {"after_created_at": datetime.min.replace(tzinfo=UTC), "after_id": UUID(int=0)},
    "imports.CREATE_SESSION": {
        "session_id": UUID(int=1),
        "agent_name": "chat",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    },
    "imports.INSERT_MESSAGES": {
        "messages": Json(
            [{**NEW_ROW, "id": str(UUID(int=1)), "created_at": "2026-01-01Z", "seq": MESSAGES + 1}]
        )
    },
    "creations.CREATE_SESSION": {"session_id": UUID(int=1), "agent_name": "chat"},
    "creations.CREATE_SESSION_OF_KEY": {"session_id": UUID(int=1), "agent_name": "chat"},
    "creations.CREATE_TITLE": {"version": UUID(int=1)},
    # A session of another version: nothing is inserted.
    "plain_appends.INSERT_PLAIN_MESSAGE": {"version": UUID(int=1)},
    "search_statement.SEARCH": {"session_id": None},
    "session_changes.MERGE_METADATA": {"members": Jsonb({"a": 1})},
}


@pytest.fixture(scope="module")
def seeded(make_database: Callable[[str], str]) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database with rows of many users, which one word in a thousand tells apart."""
    with psycopg.connect(make_database("mai_sessions_template"), autocommit=True) as conn:
        _seed(conn)
        yield conn


# What the rows of _seed are copied into.
_USERS = "users (user_id, session_count)"
_SESSIONS = """sessions (user_id, id, title, agent_name, version, message_count, last_seq, newest_seq,
                         created_at, updated_at)"""
_TITLES = "session_titles (user_id, session_id, created_at, title, words)"
_MESSAGES = """messages (user_id, session_id, id, seq, role, content, token_count, is_error, images,
                         documents, words, created_at)"""
_DAYS = """daily_usage (user_id, session_id, day, part, agent_name, model_id, first_at, last_at, first_seq,
                        last_seq, message_count, token_count, error_count, timed_count, response_time_ms)"""
_ATTACHMENTS = "attachments (user_id, sha256, content_type, size, reference_count, content)"
_KEYS = "idempotency_keys (user_id, path, key, fingerprint, id, created_at)"
_START = datetime(2026, 1, 1, tzinfo=UTC)
_Rows = dict[str, list[tuple[Any, ...]]]


def _seed(conn: psycopg.Connection[Any]) -> None:
    rows: _Rows = {
        _USERS: [(f"user{user}", SESSIONS) for user in range(20 * USERS)],
        **{table: [] for table in (_SESSIONS, _TITLES, _MESSAGES, _DAYS)},
        _ATTACHMENTS: [
            (f"user{n % USERS}", f"{n:x}" * 64 if n < 10 else f"{n:064x}", "image/png", 3, 1, b"png")
            for n in range(20 * USERS)
        ],
        _KEYS: [
            (f"user{n % USERS}", "sessions", str(n), b"fingerprint", SESSION, _START)
            for n in range(20 * USERS)
        ],
    }
    for user in range(USERS):
        for number in range(SESSIONS):
            _add_session(rows, user, number)
    _add_long_session(rows)
    for target, added in rows.items():
        with conn.cursor().copy(f"COPY {target} FROM STDIN") as copy:  # type: ignore[call-overload]
            for row in added:
                copy.write_row(row)
    # Without VACUUM, as after recent writes: no plan can use an index alone, which would hide a bad choice.
    conn.execute("ANALYZE")


def _add_session(rows: _Rows, user: int, number: int) -> None:
    user_id, session_id = f"user{user}", UUID(int=user * 1_000 + number)
    when = _START + timedelta(minutes=user + 100 * number)
    title = f"title {number} " + "rare" * (number == 3)
    rows[_SESSIONS].append((user_id, session_id, title, "chat", session_id, *[MESSAGES] * 3, when, when))
    rows[_TITLES].append((user_id, session_id, when, title, title_vector(user_id, session_id, title)))
    for seq in range(1, MESSAGES + 1):
        message_id = UUID(int=session_id.int * 1_000 + seq)
        content = f"common words {number} {seq} " + "rare" * (number == 3) + " and more" * 30
        vector = message_vector(user_id, session_id, when, content)
        row = (user_id, session_id, message_id, seq, "user", content, 9, False, [], [], vector, when)
        rows[_MESSAGES].append(row)
    counts = (1, MESSAGES, MESSAGES, 9 * MESSAGES, 0, 0, 0)
    rows[_DAYS].append((user_id, session_id, when.date(), "total", "", "", when, when, *counts))


def _add_long_session(rows: _Rows) -> None:
    rows[_SESSIONS].append((USER, LONG, "long", "chat", LONG, *[LONG_MESSAGES] * 3, _START, _START))
    for seq in range(1, LONG_MESSAGES + 1):
        when = _START + timedelta(days=seq > LONG_MESSAGES * 9 // 10, seconds=seq)
        message_id = UUID(int=LONG.int * 10_000 + seq)
        rows[_MESSAGES].append(
            (USER, LONG, message_id, seq, "user", f"long {seq}", 2, False, [], [], "", when)
        )
    last_at, counts = LONG_DAY + timedelta(hours=1), (1_801, 2_000, 200, 400, 0, 0, 0)
    rows[_DAYS].append((USER, LONG, LONG_DAY.date(), "total", "", "", LONG_DAY, last_at, *counts))


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", []):
        yield from _nodes(child)


def _explain(
    conn: psycopg.Connection[Any], options: str, statement: str, params: dict[str, Any] | None
) -> list[dict[str, Any]]:
    (plan,) = conn.execute(f"EXPLAIN ({options}, FORMAT JSON) {statement}", params).fetchone()  # type: ignore[arg-type,misc]
    return list(_nodes(json.loads(plan)[0]["Plan"] if isinstance(plan, str | bytes) else plan[0]["Plan"]))


def test_other_values_are_those_of_statements() -> None:
    assert OTHERWISE.keys() <= STATEMENTS.keys()


@pytest.mark.parametrize("name", STATEMENTS)
def test_plan_for_given_values_reads_no_whole_table(seeded: psycopg.Connection[Any], name: str) -> None:
    params = {**{key: value for key, (_, value) in PARAMETERS.items()}, **OTHERWISE.get(name, {})}
    with seeded.transaction(force_rollback=True):
        nodes = _explain(seeded, "ANALYZE", STATEMENTS[name], params)
    assert [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"] == []
    assert [
        node
        for node in nodes
        if node["Node Type"] == "Sort" and node["Plans"][0]["Actual Rows"] > MOST_SORTED
    ] == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_generic_plan_reads_no_whole_table(seeded: psycopg.Connection[Any], name: str) -> None:
    """The plan that a prepared statement keeps."""
    if seeded.info.server_version < 160000:
        pytest.skip("EXPLAIN (GENERIC_PLAN) is of PostgreSQL 16")
    places = {key: f"${place}::{kind}" for place, (key, (kind, _)) in enumerate(PARAMETERS.items(), 1)}
    statement = re.sub(r"%\((\w+)\)[sbt]", lambda match: places[match[1]], STATEMENTS[name]).replace(
        "%%", "%"
    )
    nodes = _explain(seeded, "GENERIC_PLAN", statement, None)
    assert [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"] == []


CALLS: dict[str, Callable[[Connection], object]] = {
    "the first page": lambda conn: messages.list_messages(conn, USER, LONG, limit=10),
    "a page after others": lambda conn: messages.list_messages(conn, USER, LONG, limit=10, after_seq=1_000),
    "the last page": lambda conn: messages.list_messages(conn, USER, LONG, limit=10, before_seq=2**31 - 1),
    "the newest": lambda conn: sessions.get_session(conn, USER, LONG, messages_limit=10),
    "a message": lambda conn: messages.get_message(conn, USER, LONG, LONG_MESSAGE),
    "an append": lambda conn: appends.append_messages(conn, USER, LONG, [NewMessage("user", "more", 1)]),
    "a patch": lambda conn: patches.patch_message(
        conn, USER, LONG, LONG_MESSAGE, content="other", count_tokens=len
    ),
    "a removal": lambda conn: messages.delete_message(conn, USER, LONG, LONG_MESSAGE, if_match=None),
    "the hours of a day": lambda conn: analytics.get_usage(
        conn,
        USER,
        since=LONG_DAY + timedelta(seconds=1),
        until=LONG_DAY + timedelta(days=1),
        first_day=LONG_DAY.date(),
        days=1,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_page_reads_only_its_part_of_a_long_session(seeded: psycopg.Connection[Any], name: str) -> None:
    options = "-c timezone=UTC -c plan_cache_mode=force_generic_plan"
    with Connection.connect(seeded.info.dsn, options=options) as conn, conn.transaction(force_rollback=True):
        CALLS[name](conn)
        row = conn.execute(
            "SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'messages'"
        ).fetchone()
    assert row is not None
    assert row[0] <= LONG_MESSAGES // 10 + 20


def test_files_of_a_batch_are_counted_in_one_pass(seeded: psycopg.Connection[Any]) -> None:
    sha256s = [f"f{seq:063d}" for seq in range(1, LONG_MESSAGES + 1)]
    params = {key: value for key, (_, value) in PARAMETERS.items()} | {
        "session_id": LONG,
        "sha256s": sha256s,
        "content_types": ["a/b"] * LONG_MESSAGES,
        "contents": [b"x"] * LONG_MESSAGES,
        "file_names": [None] * LONG_MESSAGES,
    }
    with seeded.transaction(force_rollback=True):
        seeded.execute(
            "UPDATE sessions SET message_count = 0, last_seq = 0, newest_seq = NULL WHERE id = %s", [LONG]
        )
        seeded.execute(
            "UPDATE messages SET images = ARRAY['f' || lpad(seq::text, 63, '0')] WHERE session_id = %s",
            [LONG],
        )
        nodes = _explain(seeded, "ANALYZE", new_messages.STORE_ATTACHMENTS, params)
        stored = seeded.execute(
            "SELECT count(*) FROM attachments WHERE sha256 = ANY (%s)", [sha256s]
        ).fetchone()
    assert stored == (LONG_MESSAGES,)
    rows = [
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in nodes
    ]
    assert max(rows) <= 2 * LONG_MESSAGES
