"""Over which time the analytics go, and what goes out."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load

from mai_sessions.schemas.fields import ErrorText, TypedErrors

_DAY = timedelta(days=1)
DEFAULT_SPAN = 30 * _DAY
# Ten years with three leap days, and a day, for both ends belong to the window.
MAX_SPAN = 3654 * _DAY


class _Start(TypedErrors, fields.Field[datetime]):
    """An ISO 8601 date or datetime, in UTC unless it says otherwise: its first moment."""

    default_error_messages = {"invalid": "Not an ISO 8601 date or datetime."}  # noqa: RUF012 - the form that marshmallow asks for
    length_of_date, length_of_datetime = timedelta(0), timedelta(0)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            if not value.isprintable():  # Python takes a U+0000 at the end for the end.
                raise ValueError
            if len(value) == len("2025-11-08"):
                return datetime.combine(date.fromisoformat(value), time(), UTC) + self.length_of_date
            moment = datetime.fromisoformat(value)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(
                UTC
            ) + self.length_of_datetime
        except (ValueError, OverflowError):
            raise self.make_error("invalid") from None


class _End(_Start):
    """The same: the first moment after it."""

    length_of_date, length_of_datetime = _DAY, timedelta(microseconds=1)


def window(since: datetime | None = None, until: datetime | None = None) -> dict[str, Any]:
    """The time from `since`, before `until`, and the days of UTC that it touches; the last 30 days by
    default.

    Raises OverflowError when it begins before the year 1, and ValidationError when it is longer than ten
    years."""
    now = datetime.now(UTC)
    since = since or (until or now) - DEFAULT_SPAN
    # Nothing is later than now, but the database's clock may be a little ahead.
    until = until or datetime.combine(now.date(), time(), UTC) + _DAY
    if until - since > MAX_SPAN:
        raise ValidationError({"end_date": [ErrorText("More than ten years after start_date.", "range")]})
    last_day = (until - timedelta(microseconds=1)).date()
    days = (last_day - since.date()).days + 1 if since < until else 0
    return {"since": since, "until": until, "first_day": since.date(), "days": days}


class WindowQuery(Schema):
    """Over which time; both ends belong to it."""

    start_date = _Start(
        metadata={
            "type": "string",
            "description": "ISO 8601 date or datetime; 30 days before the end by default",
            "example": "2025-11-08",
        }
    )
    end_date = _End(
        metadata={
            "type": "string",
            "description": "ISO 8601 date or datetime; now by default",
            "example": "2025-12-07",
        }
    )

    @post_load
    def _complete(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        try:
            return window(data.get("start_date"), data.get("end_date"))
        except OverflowError:
            raise ValidationError({"end_date": [ErrorText("Before the first year.", "range")]}) from None


def _count(description: str = "") -> fields.Integer:
    return fields.Integer(required=True, strict=True, metadata={"minimum": 0, "description": description})


def _average() -> fields.Float:
    return fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "minimum": 0,
            "description": "Of the messages that have one, in milliseconds; null for none",
        },
    )


class DailyUsage(Schema):
    """What was used on a day of UTC."""

    date = fields.Date(required=True)
    messages = _count()
    tokens = _count()
    sessions = _count("Sessions with a message on this day")


class Usage(Schema):
    """What was used, in all and on each day of the window."""

    total_messages = _count()
    total_tokens = _count()
    total_sessions = _count("Sessions created in the window")
    avg_response_time_ms = _average()
    daily_usage = fields.List(
        fields.Nested(DailyUsage), required=True, metadata={"description": "Every day, both ends inclusive"}
    )


class AgentUsage(Schema):
    """How much an agent answered."""

    name = fields.String(required=True, metadata={"description": "`unknown` for none"})
    usage_count = _count("Assistant messages")
    total_tokens = _count()
    avg_response_time_ms = _average()
    error_count = _count()
    error_rate = fields.Float(
        required=True,
        metadata={
            "minimum": 0,
            "maximum": 100,
            "description": "Errors in percent of the messages, 2 decimals",
        },
    )


class AgentsUsage(Schema):
    """How much each agent answered, most used first."""

    agents = fields.List(fields.Nested(AgentUsage), required=True)
    total_calls = _count()


class ModelUsage(Schema):
    """How much a model wrote."""

    model_id = fields.String(required=True)
    model_name = fields.String(
        required=True, metadata={"description": "For people: `Qwen2.5 7B Chat` of `org/qwen2.5-7b_chat.gguf`"}
    )
    usage_count = _count("Messages")
    total_tokens = _count()


class ModelsUsage(Schema):
    """How much each model wrote, most used first."""

    models = fields.List(fields.Nested(ModelUsage), required=True)
    total_usage = _count()


class Summary(Schema):
    """What was used in the last 30 days."""

    total_messages = _count()
    active_sessions = _count("Sessions written to within 7 days")
    total_tokens = _count()
    avg_response_time_ms = _average()
