"""Cursors, in both directions."""

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from mai_sessions.pagination import (
    SearchPosition,
    SessionPosition,
    parse_search_cursor,
    parse_session_cursor,
    search_cursor,
    session_cursor,
)

MOMENTS = st.datetimes(timezones=st.just(UTC))
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@given(microseconds=st.integers(-(10**15), 10**15), id=st.uuids())
def test_session_cursor_is_read_back(microseconds: int, id: UUID) -> None:
    position = SessionPosition(EPOCH + timedelta(microseconds=microseconds), id)
    assert parse_session_cursor(session_cursor(f"{microseconds}.{id}")) == position


@given(rank=st.floats(allow_nan=False), created_at=MOMENTS, id=st.uuids(), read_at=MOMENTS)
def test_search_cursor_is_read_back(rank: float, created_at: datetime, id: UUID, read_at: datetime) -> None:
    position = SearchPosition(rank, created_at, id, read_at=read_at)
    assert parse_search_cursor(search_cursor(position)) == position


def test_cursor_of_a_page_holds_the_keys_of_its_last_session(client: FlaskClient) -> None:
    for _ in range(2):
        client.post("/api/v1/sessions")
    page = client.get("/api/v1/sessions?limit=1").get_json()
    [session] = page["sessions"]
    assert parse_session_cursor(page["next_cursor"]) == SessionPosition(
        datetime.fromisoformat(session["updated_at"]), UUID(session["id"])
    )


@pytest.mark.parametrize(
    "cursor", ["", ".", "..", "x", "1.2.3", "~", "~~~~~~~~", "1.x.d41d8cd9", "💥", "x" * 5000]
)
def test_malformed_cursor_is_refused(cursor: str) -> None:
    for parse in (parse_session_cursor, parse_search_cursor):
        with pytest.raises(ValueError, match=r".*"):
            parse(cursor)


def test_changed_character_is_detected() -> None:
    cursor = session_cursor(f"1795000000000000.{uuid4()}")
    for place in range(len(cursor)):
        changed = cursor[:place] + ("0" if cursor[place] != "0" else "1") + cursor[place + 1 :]
        with pytest.raises(ValueError, match=r".*"):
            parse_session_cursor(changed)


def test_moment_before_or_after_the_calendar_is_refused() -> None:
    for microseconds in (-(10**18), 10**18):
        with pytest.raises(ValueError, match=r".*"):
            parse_session_cursor(session_cursor(f"{microseconds}.{uuid4()}"))
