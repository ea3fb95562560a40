"""What a search is asked with, and what it answers."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from marshmallow import Schema, fields

from mai_sessions.ids import parse_id
from mai_sessions.schemas.fields import Choice, Identifier, Integer, Text, TypedErrors, is_sealed, moment_of
from mai_sessions.schemas.messages import ROLES


class Moment(TypedErrors, fields.Field[datetime]):
    """An ISO 8601 date or date and time; UTC unless it says otherwise."""

    default_error_messages = {"invalid": "Not an ISO 8601 date or date and time."}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise self.make_error("invalid") from None
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class SearchCursor(TypedErrors, fields.Field[tuple[float, datetime, UUID, datetime]]):
    """Where a page of results begins: keys, and a checksum by which a damaged one is told."""

    default_error_messages = {"invalid": "Not a cursor that this service gave."}  # noqa: RUF012

    def _deserialize(
        self, value: Any, attr: str | None, data: Any, **kwargs: Any
    ) -> tuple[float, datetime, UUID, datetime]:
        keys, _, checksum = str(value).rpartition("~")
        if not is_sealed(keys, checksum):
            raise self.make_error("invalid")
        try:
            rank, created_at, identifier, read_at = keys.split("~")
            result = float.fromhex(rank), moment_of(created_at), parse_id(identifier), moment_of(read_at)
        except (ValueError, OverflowError):
            raise self.make_error("invalid") from None
        if result[2] is None:
            raise self.make_error("invalid")
        return result[0], result[1], result[2], result[3]


class SearchQuery(Schema):
    """What to search for, and where."""

    q = Text(
        required=True,
        metadata={
            "description": 'All words must occur, the last may be a beginning; `"quoted words"` stand side by side'
        },
    )
    limit = Integer(min=1, max=50, load_default=20)
    role = Choice(*ROLES)
    agent_name = Text(metadata={"description": "Of the message; for titles, of the session"})
    model_id = Text(metadata={"description": "Of the message; for titles, of the session"})
    session_id = Identifier()
    since = Moment(metadata={"description": "The first moment, ISO 8601", "type": "string"})
    until = Moment(metadata={"description": "The first moment that is too late, ISO 8601", "type": "string"})
    after = SearchCursor(
        data_key="cursor",
        metadata={"description": "Where the page begins: `next_cursor` of the page before", "type": "string"},
    )


class FoundSession(Schema):
    """The session that a result belongs to."""

    id = fields.UUID(required=True)
    title = fields.String(required=True)


class SearchResult(Schema):
    """A message that was found, or a session by its title: then it has no `message_id`."""

    session = fields.Nested(FoundSession, required=True)
    message_id = fields.UUID(required=True, allow_none=True)
    seq = fields.Integer(required=True, strict=True, allow_none=True)
    role = fields.String(required=True, allow_none=True)
    snippet = fields.String(
        required=True, metadata={"description": "HTML: escaped text, hits in `<mark>`", "maxLength": 300}
    )
    created_at = fields.AwareDateTime(required=True, format="iso")


class SearchResults(Schema):
    """A page of results, best match first."""

    results = fields.List(fields.Nested(SearchResult), required=True)
    next_cursor = fields.String(
        required=True, allow_none=True, metadata={"description": "null on the last page"}
    )
