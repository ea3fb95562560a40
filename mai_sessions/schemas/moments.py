"""Dates and times in queries."""

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from marshmallow import fields

from mai_sessions.pagination import EARLIEST, LATEST
from mai_sessions.schemas.fields import TypedErrors

DAY = timedelta(days=1)
# The calendar, week and ordinal dates of ISO 8601, with hyphens and without.
_DATE = re.compile(
    r"\d{4}-\d\d-\d\d|\d{8}|\d{4}-W\d\d-\d|\d{4}W\d{3}|(?P<ordinal>\d{4}-\d{3}|\d{7})", re.ASCII
).fullmatch
# A blank before the offset is a plus that was not encoded in the URL.
_BLANK = re.compile(r"(?<=[0-9]) (?=\d\d(?::?\d\d)?$)", re.ASCII)
_HAS_TIME = re.compile(r".+[T ]\d\d.* ", re.ASCII).match


class Moment(TypedErrors, fields.Field[datetime]):
    """An ISO 8601 date or date and time, in UTC unless it has an offset: its first moment.

    A time outside of the years 1 to 9999 in UTC becomes the first or last moment of them.
    """

    default_error_messages = {"invalid": "Not an ISO 8601 date or date and time."}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            return self._read(value)
        except ValueError:
            raise self.make_error("invalid") from None

    def _read(self, text: str) -> datetime:
        return parse_date(text) or parse_datetime(text)


class EndMoment(Moment):
    """An ISO 8601 date or date and time: the first moment after it, because a window includes its end."""

    def _read(self, text: str) -> datetime:
        if day := parse_date(text):
            return shift(day, DAY)
        return shift(parse_datetime(text), timedelta(microseconds=1))


def parse_date(text: str) -> datetime | None:
    """Return the first moment of a date, or None for what is not in the form of one. Raises ValueError."""
    match = _DATE(text)
    if match is None:
        return None
    if match["ordinal"]:
        year, day = int(text[:4]), int(text[-3:])
        first = date(year, 1, 1)
        if not 1 <= day <= (date(year, 12, 31) - first).days + 1:
            raise ValueError
        parsed = first + timedelta(days=day - 1)
    else:
        parsed = date.fromisoformat(text)
    return datetime.combine(parsed, time(), UTC)


def parse_datetime(text: str) -> datetime:
    """Return a moment of a date and time in UTC. Raises ValueError."""
    # Python would ignore a U+0000 at the end.
    if not text.isprintable() or len(text) <= len("2026-W48"):
        raise ValueError
    text = text.upper()  # RFC 3339 §5.6 also allows t and z.
    if _HAS_TIME(text):
        text = _BLANK.sub("+", text)
    moment = datetime.fromisoformat(text)
    offset = moment.utcoffset() or timedelta(0)
    return shift(moment.replace(tzinfo=UTC), -offset)


def shift(moment: datetime, by: timedelta) -> datetime:
    """Add a span of time to a moment of UTC, limited to the first and last moment."""
    try:
        return moment + by
    except OverflowError:
        return LATEST if by > timedelta(0) else EARLIEST
