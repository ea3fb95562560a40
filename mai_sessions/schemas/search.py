"""The query of a search, and its results."""

from typing import Any

from marshmallow import Schema, fields

from mai_sessions.content.message import ROLES
from mai_sessions.content.query import MAX_WORDS, split_terms
from mai_sessions.pagination import SearchPosition, parse_search_cursor
from mai_sessions.schemas.fields import Choice, Identifier, Integer, Text, TypedErrors
from mai_sessions.schemas.moments import Moment


class SearchCursor(TypedErrors, fields.Field[SearchPosition]):
    """The cursor of a page of results: keys, and a checksum that detects damage."""

    default_error_messages = {"invalid": "Not a cursor of this service."}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> SearchPosition:
        try:
            return parse_search_cursor(str(value))
        except ValueError:
            raise self.make_error("invalid") from None


class SearchText(Text):
    """The words of a search, at most as many as it can compare."""

    default_error_messages = {"too_many": f"At most {MAX_WORDS} words can be searched for."}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if sum(len(term.groups) for term in split_terms(text)) > MAX_WORDS:
            raise self.make_error("too_many")
        return text


class SearchQuery(Schema):
    """The query and the filters of a search."""

    q = SearchText(
        required=True,
        metadata={
            "description": f"All words must occur, at most {MAX_WORDS}; the last may be a beginning, unless "
            'something other than a letter or digit follows it; `"quoted words"` stand side by side; what '
            "touches must touch (`3.14`, `a->b`). Found are the first 100,000 characters of a message, of "
            "the messages of one request 1,000,000 together, and of a word the first 16 and what is compared "
            "with it, 40"
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
        metadata={"description": "`next_cursor` of the previous page", "type": "string"},
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
    """A page of results. The newest 200 messages and titles that match come first, best match first; then
    older ones.
    """

    results = fields.List(fields.Nested(SearchResult), required=True)
    next_cursor = fields.String(
        required=True, allow_none=True, metadata={"description": "null on the last page"}
    )
    truncated = fields.Boolean(
        required=True,
        metadata={
            "description": "Whether the results end here although there may be more: a very common word"
        },
    )
    detail = fields.String(
        metadata={"description": "Why nothing was searched for: the query has no word or symbol"}
    )
