"""The window of analytics, and their bodies."""

from datetime import UTC, datetime, time, timedelta
from typing import Any

from marshmallow import Schema, ValidationError, fields, post_load

from mai_sessions.schemas.fields import ErrorText
from mai_sessions.schemas.moments import DAY, EndMoment, Moment, shift

DEFAULT_SPAN = 30 * DAY
# Ten years with three leap days, and a day, for both ends belong to the window.
MAX_SPAN = 3654 * DAY


def window(since: datetime | None = None, until: datetime | None = None) -> dict[str, Any]:
    """Return the time from `since` to before `until`, by default the last 30 days, and the days in it.

    Days are those of UTC. Raises ValidationError when it is longer than ten years.
    """
    now = datetime.now(UTC)
    since = since or shift(until or now, -DEFAULT_SPAN)
    # No message is later than now, but the database's clock may be slightly ahead.
    until = until or datetime.combine(now.date(), time(), UTC) + DAY
    if until - since > MAX_SPAN:
        raise ValidationError({"end_date": [ErrorText("More than ten years after start_date.", "range")]})
    last_day = shift(until, -timedelta(microseconds=1)).date()
    days = (last_day - since.date()).days + 1 if since < until else 0
    return {"since": since, "until": until, "first_day": since.date(), "days": days}


class WindowQuery(Schema):
    """The window, which includes both ends."""

    start_date = Moment(
        metadata={
            "type": "string",
            "description": "ISO 8601 date or datetime; 30 days before the end by default",
            "example": "2025-11-08",
        }
    )
    end_date = EndMoment(
        metadata={
            "type": "string",
            "description": "ISO 8601 date or datetime; now by default",
            "example": "2025-12-07",
        }
    )

    @post_load
    def _complete(self, data: dict[str, Any], **_: Any) -> dict[str, Any]:
        return window(data.get("start_date"), data.get("end_date"))


def _count(description: str = "") -> fields.Integer:
    return fields.Integer(required=True, strict=True, metadata={"minimum": 0, "description": description})


def _average() -> fields.Float:
    return fields.Float(
        required=True,
        allow_none=True,
        metadata={
            "minimum": 0,
            "description": "In milliseconds, 2 decimals, of the messages that have one; null for none",
        },
    )


class DailyUsage(Schema):
    """The usage of a day of UTC."""

    date = fields.Date(required=True)
    messages = _count()
    tokens = _count()
    sessions = _count("Sessions with a message on this day")


class Usage(Schema):
    """The usage in total and for each day of the window."""

    total_messages = _count()
    total_tokens = _count()
    total_sessions = _count("Sessions created in the window")
    avg_response_time_ms = _average()
    daily_usage = fields.List(
        fields.Nested(DailyUsage),
        required=True,
        metadata={"description": "Every day of the window, zeros included"},
    )


class AgentUsage(Schema):
    """The usage of an agent."""

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
    """The usage of each agent, most used first."""

    agents = fields.List(fields.Nested(AgentUsage), required=True)
    total_calls = _count()


class ModelUsage(Schema):
    """The usage of a model."""

    model_id = fields.String(required=True)
    model_name = fields.String(
        required=True, metadata={"description": "For people: `Qwen2.5 7B Chat` of `org/qwen2.5-7b_chat.gguf`"}
    )
    usage_count = _count("Messages")
    total_tokens = _count()


class ModelsUsage(Schema):
    """The usage of each model, most used first."""

    models = fields.List(fields.Nested(ModelUsage), required=True)
    total_usage = _count()


class Summary(Schema):
    """A summary of the last 30 days."""

    total_messages = _count()
    active_sessions = _count("Sessions written to within 7 days")
    total_tokens = _count()
    avg_response_time_ms = _average()
