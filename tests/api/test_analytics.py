"""The analytics, compared with a computation in Python over the same rows."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row
from support.races import at_once

from mai_sessions.api.analytics import model_name
from mai_sessions.schemas.messages import MAX_RESPONSE_TIME_MS

USER = "default-user"
Conn = psycopg.Connection[Any]
Row = dict[str, Any]
MICROSECOND = timedelta(microseconds=1)

# Moments right before and after midnight at the end of a month, a leap day and the end of a year.
MIDNIGHTS = [
    datetime(2024, 2, 29, tzinfo=UTC),
    datetime(2024, 3, 1, tzinfo=UTC),
    datetime(2024, 12, 31, tzinfo=UTC),
]
moments = st.builds(
    lambda midnight, offset: midnight + offset,
    st.sampled_from(MIDNIGHTS),
    st.sampled_from([timedelta(0), -MICROSECOND, MICROSECOND])
    | st.timedeltas(timedelta(hours=-30), timedelta(hours=30)),
)
messages = st.fixed_dictionaries(
    {
        "session": st.integers(0, 3),
        "created_at": moments,
        "role": st.sampled_from(["user", "assistant", "assistant", "system", "tool"]),
        "token_count": st.integers(0, 2**31 - 1),
        "model_id": st.sampled_from([None, "", "org/qwen2.5-7b_chat.gguf", "gpt-4o"]),
        "agent_name": st.sampled_from([None, "", "unknown", "chat"]),
        "response_time_ms": st.none() | st.floats(0, 1e300) | st.floats(0, 5000),
        "is_error": st.booleans(),
    }
)
patches = st.fixed_dictionaries(
    {},
    optional={
        "token_count": st.integers(0, 1000),
        "model_id": st.sampled_from(["gpt-4o", "other"]),
        "agent_name": st.sampled_from(["chat", "other"]),
        "response_time_ms": st.floats(0, 5000),
        "is_error": st.booleans(),
        "content": st.sampled_from(["one", "two words"]),
    },
)
writes = st.one_of(
    st.tuples(st.just("patch"), st.integers(0, 30), patches),
    st.tuples(st.just("delete"), st.integers(0, 30), st.none()),
    st.tuples(st.just("append"), st.integers(0, 3), patches),
    st.tuples(st.just("clear"), st.integers(0, 3), st.none()),
    st.tuples(st.just("delete session"), st.integers(0, 3), st.none()),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(messages, max_size=30),
    st.lists(writes, max_size=8),
    st.lists(st.tuples(moments, moments), min_size=1, max_size=4),
)
def test_analytics_equal_a_recomputation(
    client: FlaskClient,
    conn: Conn,
    rows: list[Row],
    changes: list[tuple[str, int, Any]],
    windows: list[tuple[datetime, datetime]],
) -> None:
    conn.execute("TRUNCATE users, sessions CASCADE")
    sessions, ids = put(conn, rows)
    for kind, number, fields in changes:
        session_id = sessions[number % len(sessions)]
        if kind == "append":
            client.post(
                f"/api/v1/sessions/{session_id}/messages",
                json={"role": "assistant", "content": "hi", **fields},
            )
        elif kind == "clear":
            client.delete(f"/api/v1/sessions/{session_id}/messages")
        elif kind == "delete session":
            client.delete(f"/api/v1/sessions/{session_id}")
        elif ids:
            path = "/api/v1/sessions/{}/messages/{}".format(*ids[number % len(ids)])
            client.open(path, method=kind.upper(), json=fields)
    now = datetime.now(UTC)
    assert_same(client, conn, None, now)
    for start, end in windows:
        assert_same(client, conn, start, end)


def put(conn: Conn, rows: list[Row]) -> tuple[list[UUID], list[tuple[UUID, UUID]]]:
    """Store the messages with their times. Return the sessions, and the session and id of each message."""
    conn.execute("INSERT INTO users (user_id, session_count) VALUES (%s, 4)", [USER])
    sessions, ids = [uuid4() for _ in range(4)], []
    for number, session_id in enumerate(sessions):
        moments = sorted(row["created_at"] for row in rows if row["session"] == number) or [MIDNIGHTS[0]]
        count = sum(row["session"] == number for row in rows)
        conn.execute(
            """INSERT INTO sessions (user_id, id, title, agent_name, version, message_count, last_seq,
                                     newest_seq, created_at, updated_at)
               VALUES (%s, %s, '', '', %s, %s, %s, %s, %s, %s)""",
            [USER, session_id, uuid4(), count, count, count or None, moments[0], moments[-1]],
        )
    seqs: Counter[int] = Counter()
    for row in sorted(rows, key=lambda row: row["created_at"]):
        seqs[row["session"]] += 1
        ids.append((sessions[row["session"]], uuid4()))
        conn.execute(
            """INSERT INTO messages (user_id, session_id, id, created_at, response_time_ms, seq, token_count,
                                     is_error, role, content, model_id, agent_name, images, documents)
               VALUES (%(user_id)s, %(session_id)s, %(id)s, %(created_at)s, %(response_time_ms)s, %(seq)s,
                       %(token_count)s, %(is_error)s, %(role)s, '', %(model_id)s, %(agent_name)s, '{}',
                       '{}')""",
            {**row, "user_id": USER, "session_id": ids[-1][0], "id": ids[-1][1], "seq": seqs[row["session"]]},
        )
    recount(conn)
    return sessions, ids


def recount(conn: Conn) -> None:
    """Fill daily_usage from the messages of USER, as its migration does. Citus refuses that for all users."""
    migration = (
        files("mai_sessions.sql").joinpath("migrations/0006_create_daily_usage.sql").read_text("utf-8")
    )
    statement = migration[migration.index("INSERT INTO daily_usage") :]
    of_user = f"FROM (SELECT * FROM messages WHERE user_id = '{USER}') AS m"
    conn.execute(statement.replace("FROM messages AS m", of_user).encode())


def assert_same(client: FlaskClient, conn: Conn, start: datetime | None, end: datetime) -> None:
    """Compare the three calls for a window with what Python computes from the rows."""
    query = {
        "end_date": end.isoformat().replace("+00:00", "Z"),
        **({"start_date": start.isoformat()} if start else {}),
    }
    since = start or end + MICROSECOND - timedelta(days=30)
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "SELECT * FROM messages WHERE created_at >= %s AND created_at <= %s", [since, end]
        ).fetchall()
        sessions = cursor.execute("SELECT created_at FROM sessions").fetchall()
    created = sum(since <= session["created_at"] <= end for session in sessions)
    for path, expected in {
        "usage": {**expected_usage(rows, since, end), "total_sessions": created},
        "agents": expected_agents(rows),
        "models": expected_models(rows),
    }.items():
        assert client.get(f"/api/v1/analytics/{path}", query_string=query).get_json() == expected


def expected_usage(rows: list[Row], since: datetime, end: datetime) -> Row:
    days = (
        []
        if since > end
        else [since.date() + timedelta(n) for n in range((end.date() - since.date()).days + 1)]
    )
    by_day: dict[date, list[Row]] = defaultdict(list)
    for row in rows:
        by_day[row["created_at"].date()].append(row)
    return {
        "total_messages": len(rows),
        "total_tokens": sum(row["token_count"] for row in rows),
        "avg_response_time_ms": average(rows),
        "daily_usage": [
            {
                "date": str(day),
                "messages": len(by_day[day]),
                "tokens": sum(row["token_count"] for row in by_day[day]),
                "sessions": len({row["session_id"] for row in by_day[day]}),
            }
            for day in days
        ],
    }


def expected_agents(rows: list[Row]) -> Row:
    calls = grouped((row["agent_name"] or "unknown", row) for row in rows if row["role"] == "assistant")
    return {
        "agents": [
            {
                "name": name,
                "usage_count": len(group),
                "total_tokens": sum(row["token_count"] for row in group),
                "avg_response_time_ms": average(group),
                "error_count": sum(row["is_error"] for row in group),
                "error_rate": pytest.approx(
                    100 * sum(row["is_error"] for row in group) / len(group), rel=1e-12, abs=0.00501
                ),
            }
            for name, group in calls
        ],
        "total_calls": sum(len(group) for _, group in calls),
    }


def expected_models(rows: list[Row]) -> Row:
    models = grouped((row["model_id"], row) for row in rows if row["model_id"])
    return {
        "models": [
            {
                "model_id": model_id,
                "model_name": model_name(model_id),
                "usage_count": len(group),
                "total_tokens": sum(row["token_count"] for row in group),
            }
            for model_id, group in models
        ],
        "total_usage": sum(len(group) for _, group in models),
    }


def average(rows: list[Row]) -> Any:
    times = [row["response_time_ms"] for row in rows if row["response_time_ms"] is not None]
    return pytest.approx(sum(times) / len(times), rel=1e-12, abs=0.00501) if times else None


def grouped(pairs: Any) -> list[tuple[str, list[Row]]]:
    groups = defaultdict(list)
    for name, row in pairs:
        groups[name].append(row)
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))


USAGE = """
    SELECT session_id, day, part, agent_name, model_id, message_count, token_count, error_count, timed_count
      FROM daily_usage"""


def test_sums_of_the_largest_numbers_are_returned(client: FlaskClient) -> None:
    session = client.post("/api/v1/sessions", json={}).get_json()["id"]
    largest = {
        "role": "assistant",
        "content": "",
        "model_id": "m",
        "token_count": 2**31 - 1,
        "response_time_ms": MAX_RESPONSE_TIME_MS,
    }
    body = {"messages": [largest] * 100}
    for _ in range(3):
        assert client.post(f"/api/v1/sessions/{session}/messages", json=body).status_code == 201
    for name in ("usage", "agents", "models", "summary"):
        sums = client.get(f"/api/v1/analytics/{name}")
        assert sums.status_code == 200
        assert str(300 * (2**31 - 1)) in sums.text
        assert name == "models" or f"{MAX_RESPONSE_TIME_MS:.0f}" in sums.text


def test_concurrent_writers_keep_the_sums_true(client: FlaskClient, conn: Conn) -> None:
    session = client.post("/api/v1/sessions", json={}).get_json()["id"]
    path = f"/api/v1/sessions/{session}/messages"
    ids = [client.post(path, json={"role": "assistant", "content": "a"}).get_json()["id"] for _ in range(6)]

    def write(number: int) -> None:
        own = client.application.test_client()
        for n in range(12):
            change = {"token_count": n * number, "agent_name": f"agent{n % 3}"}
            assert own.patch(f"{path}/{ids[0]}", json=change).status_code == 200
            message = {"role": "user", "content": "b c", "model_id": "m"}
            assert own.post(path, json=message).status_code == 201
        assert own.delete(f"{path}/{ids[number + 1]}").status_code == 204

    at_once(4, write)
    counted = sorted(conn.execute(USAGE + " WHERE message_count > 0").fetchall())
    conn.execute("DELETE FROM daily_usage")
    recount(conn)
    assert counted == sorted(conn.execute(USAGE).fetchall())
    client.delete(f"/api/v1/sessions/{session}")
    assert conn.execute(USAGE).fetchall() == []


def test_default_window_is_the_last_30_days(client: FlaskClient, conn: Conn) -> None:
    now = datetime.now(UTC)
    row = {
        "session": 0,
        "role": "user",
        "token_count": 1,
        "model_id": None,
        "agent_name": None,
        "response_time_ms": None,
        "is_error": False,
    }
    put(
        conn,
        [
            {**row, "created_at": now - timedelta(days=30, minutes=1)},
            {**row, "created_at": now - timedelta(days=29)},
        ],
    )
    usage = client.get("/api/v1/analytics/usage?").get_json()
    assert usage["total_messages"] == 1
    assert [day["date"] for day in usage["daily_usage"]] == [
        str(now.date() - timedelta(n)) for n in range(30, -1, -1)
    ]
    assert client.get("/api/v1/analytics/summary?").get_json() == {
        "total_messages": 1,
        "active_sessions": 0,
        "total_tokens": 1,
        "avg_response_time_ms": None,
    }


def test_window_contains_whole_days(client: FlaskClient) -> None:
    usage = client.get(
        "/api/v1/analytics/usage?start_date=2025-11-08T00:00:00.000Z&end_date=2025-11-10"
    ).get_json()
    assert [day["date"] for day in usage["daily_usage"]] == ["2025-11-08", "2025-11-09", "2025-11-10"]


@pytest.mark.parametrize(
    ("query", "first", "last"),
    [
        ("start_date=20251108&end_date=20251110", "2025-11-08", "2025-11-10"),
        ("start_date=2025-W45-6&end_date=2025W461", "2025-11-08", "2025-11-10"),
        ("start_date=2025-312&end_date=2025314", "2025-11-08", "2025-11-10"),
        (
            "start_date=2025-11-08T00:00:00+00:00&end_date=2025-11-10T23:00:00+00:00",
            "2025-11-08",
            "2025-11-10",
        ),
        (
            "start_date=2025-11-08T00:00:00-02:00&end_date=2025-11-10T23:00:00 00:00",
            "2025-11-08",
            "2025-11-10",
        ),
        ("start_date=&end_date=9999-12-31&", "9999-12-01", "9999-12-31"),
        ("start_date=0001-01-01T00:00:00%2B14:00&end_date=0001-01-02", "0001-01-01", "0001-01-02"),
        ("end_date=0001-01-01&", "0001-01-01", "0001-01-01"),
    ],
)
def test_window_of_every_form_of_date(client: FlaskClient, query: str, first: str, last: str) -> None:
    days = client.get(f"/api/v1/analytics/usage?{query}").get_json()["daily_usage"]
    assert (days[0]["date"], days[-1]["date"]) == (first, last)


@pytest.mark.parametrize("path", ["usage", "agents", "models"])
def test_inverted_window_is_empty(client: FlaskClient, path: str) -> None:
    body = client.get(f"/api/v1/analytics/{path}?start_date=2025-11-10&end_date=2025-11-08").get_json()
    assert not any(body.values())


@pytest.mark.parametrize(
    "query",
    [
        "start_date=yesterday",
        "start_date=2025-13-01",
        "end_date=2025-11",
        "start_date=2025-11-08&end_date=9999-12-31",
        "start_date=0001-01-01T00:00:00%2B14:00",
        "start_date=2010-01-01&end_date=2025-01-01",
        "start_date=2025-11-08T00:00:00%00",
    ],
)
def test_wrong_window_is_refused(client: FlaskClient, query: str) -> None:
    response = client.get(f"/api/v1/analytics/usage?{query}")
    assert response.status_code == 422
    assert response.get_json()["errors"][0]["loc"][0] == "query"


def test_window_of_ten_years_is_accepted(client: FlaskClient) -> None:
    usage = client.get("/api/v1/analytics/usage?start_date=2015-01-01&end_date=2025-01-01").get_json()
    assert len(usage["daily_usage"]) == 3654


@pytest.mark.parametrize(
    ("model_id", "name"),
    [
        ("org/qwen2.5-7b_chat.gguf", "Qwen2.5 7B Chat"),
        ("llama.bin", "Llama"),
        ("gpt-4o", "Gpt 4O"),
        ("a/b/", "B"),
        ("x.gguf.txt", "X.Gguf.Txt"),
    ],
)
def test_model_name_is_written_for_people(model_id: str, name: str) -> None:
    assert model_name(model_id) == name
