"""Dates and times in queries."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from mai_sessions.pagination import EARLIEST, LATEST
from mai_sessions.schemas.moments import EndMoment, Moment

DAY = datetime(2026, 11, 25, tzinfo=UTC)


@pytest.mark.parametrize("text", ["2026-11-25", "20261125", "2026-W48-3", "2026W483", "2026-329", "2026329"])
def test_every_form_of_a_date_is_a_whole_day(text: str) -> None:
    assert Moment().deserialize(text) == DAY
    assert EndMoment().deserialize(text) == DAY + timedelta(days=1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-25T10:00", DAY.replace(hour=10)),
        ("2026-11-25 10:00", DAY.replace(hour=10)),
        ("20261125T1000", DAY.replace(hour=10)),
        ("20261125 1000", DAY.replace(hour=10)),
        ("2026-11-25T10:00:00Z", DAY.replace(hour=10)),
        ("2026-11-25T10:00:00.000Z", DAY.replace(hour=10)),
        ("2026-11-25t10:00:00z", DAY.replace(hour=10)),
        ("2026-11-25t10:00:00 02:00", DAY.replace(hour=8)),
        ("2026-11-25T10:00:00+02:00", DAY.replace(hour=8)),
        ("2026-11-25T10:00:00 02:00", DAY.replace(hour=8)),
        ("2026-11-25 10:00:00 02:00", DAY.replace(hour=8)),
        ("2026-11-25T10:00:00 0200", DAY.replace(hour=8)),
        ("2026-11-25T10:00:00-02:00", DAY.replace(hour=12)),
        ("2026-11-25T10:00:00.123456 00:00", DAY.replace(hour=10, microsecond=123456)),
        ("9999-12-31T23:59:59-14:00", LATEST),
        ("0001-01-01T00:00:00+14:00", EARLIEST),
    ],
)
def test_date_and_time_is_read(text: str, expected: datetime) -> None:
    assert Moment().deserialize(text) == expected


def test_last_day_ends_with_the_calendar() -> None:
    assert EndMoment().deserialize("9999-12-31") == LATEST
    assert EndMoment().deserialize("9999-12-31T23:59:59.999999") == LATEST


@pytest.mark.parametrize(
    "text",
    [
        *(
            "yesterday",
            "2026",
            "2026-11",
            "2026-W48",
            "2026W48",
            "2026-13-01",
            "20261131",
            "2026-366",
            "2026-000",
        ),
        *("2026-1-1", "2026-11-25T", "2026-11-25T25:00", "2026-11-25T10:00\0", "+2026-11-25", " 2026-11-25"),
        *("\uff12026-11-25", "2026-11-25T10:00:00  00:00", "0000-01-01", "10000-01-01", "1764028800"),
    ],
)
def test_text_that_is_no_moment_is_refused(text: str) -> None:
    for field in (Moment(), EndMoment()):
        with pytest.raises(ValidationError):
            field.deserialize(text)


@given(st.text(max_size=40))
def test_any_text_is_a_moment_or_invalid(text: str) -> None:
    try:
        moment = Moment().deserialize(text)
    except ValidationError:
        return
    assert moment.tzinfo is UTC


@given(st.datetimes(timezones=st.just(UTC)))
def test_isoformat_is_read_back(moment: datetime) -> None:
    assert Moment().deserialize(moment.isoformat()) == moment
    assert Moment().deserialize(moment.isoformat().replace("+", " ")) == moment
