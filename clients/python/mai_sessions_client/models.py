"""The results of calls. Members that a newer service adds are ignored."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from types import NoneType, UnionType
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

Json = dict[str, Any]
Role = Literal["user", "assistant", "system", "tool"]
Status = Literal["complete", "streaming", "interrupted"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Model:
    @classmethod
    def from_json(cls, data: Mapping[str, Any], **more: Any) -> Self:
        """Build the value from a JSON object."""
        converters = _converters(cls)
        known = {name: converters[name](value) for name, value in data.items() if name in converters}
        return cls(**{**known, **more})


@dataclass(frozen=True, slots=True)
class Message(_Model):
    """A message. `etag` is for `if_match`; it is None unless the message was read or written by itself."""

    id: str
    session_id: str
    role: Role
    content: str
    created_at: datetime
    seq: int
    token_count: int = 0
    model_id: str | None = None
    agent_name: str | None = None
    response_time_ms: float | None = None
    is_error: bool = False
    images: list[str] = field(default_factory=list)
    documents: list[str] = field(default_factory=list)
    parts: list[Json] | None = None
    metadata: Json = field(default_factory=dict)
    status: Status = "complete"
    updated_at: datetime | None = None
    parent_id: str | None = None
    etag: str | None = None


class MessagePage(list[Message]):
    """Messages, oldest first. `has_older` and `has_newer` tell whether the branch has messages before and
    after them. `etag` is for `known`.
    """

    def __init__(
        self, messages: Iterable[Message], *, etag: str | None, has_older: bool, has_newer: bool
    ) -> None:
        super().__init__(messages)
        self.etag = etag
        self.has_older = has_older
        self.has_newer = has_newer


@dataclass(frozen=True, slots=True)
class Session(_Model):
    """A session without its messages. `etag` is for `if_match`."""

    id: str
    title: str
    agent_name: str
    created_at: datetime
    updated_at: datetime
    message_count: int
    model_id: str | None = None
    last_message_preview: str | None = None
    metadata: Json = field(default_factory=dict)
    archived: bool = False
    head_id: str | None = None
    version: str | None = None

    @property
    def etag(self) -> str | None:
        """The version, written as an entity tag."""
        return f'"{self.version}"' if self.version else None


@dataclass(frozen=True, slots=True)
class SessionDetail(Session):
    """A session with the messages of its shown branch, oldest first."""

    messages: list[Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class SessionPage(_Model):
    """A page of the list. `next_cursor` is None on the last page. `etag` is for `known`."""

    sessions: list[Session]
    total: int
    limit: int
    offset: int
    next_cursor: str | None = None
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class AppendedMessages(_Model):
    """The messages of a batch, and the session after it."""

    messages: list[Message]
    session: Session


@dataclass(frozen=True, slots=True)
class BatchResult(_Model):
    """The ids of a batch: those that were changed, and those that are not sessions of the user."""

    done: list[str]
    not_found: list[str]


@dataclass(frozen=True, slots=True)
class FoundSession(_Model):
    """The session of a search result."""

    id: str
    title: str


@dataclass(frozen=True, slots=True)
class SearchResult(_Model):
    """A match. `snippet` is HTML with the hits in `<mark>`. Without `message_id`, the title matched."""

    session: FoundSession
    snippet: str
    created_at: datetime
    message_id: str | None = None
    seq: int | None = None
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class SearchPage(_Model):
    """A page of search results. If `truncated`, older matches were left out."""

    results: list[SearchResult]
    next_cursor: str | None = None
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class DailyUsage(_Model):
    """The usage of a day in UTC."""

    date: date
    messages: int
    tokens: int
    sessions: int


@dataclass(frozen=True, slots=True)
class Usage(_Model):
    """The usage of a range of days."""

    total_messages: int
    total_tokens: int
    total_sessions: int
    avg_response_time_ms: float | None
    daily_usage: list[DailyUsage]


@dataclass(frozen=True, slots=True)
class AgentUsage(_Model):
    """The usage of an agent. `error_rate` is in percent."""

    name: str
    usage_count: int
    total_tokens: int
    error_count: int
    error_rate: float
    avg_response_time_ms: float | None = None


@dataclass(frozen=True, slots=True)
class AgentsUsage(_Model):
    """The agents, most used first."""

    agents: list[AgentUsage]
    total_calls: int


@dataclass(frozen=True, slots=True)
class ModelUsage(_Model):
    """The usage of a model."""

    model_id: str
    model_name: str
    usage_count: int
    total_tokens: int


@dataclass(frozen=True, slots=True)
class ModelsUsage(_Model):
    """The models, most used first."""

    models: list[ModelUsage]
    total_usage: int


@dataclass(frozen=True, slots=True)
class Summary(_Model):
    """The totals of the last 30 days. `active_sessions` are those changed in the last 7."""

    total_messages: int
    active_sessions: int
    total_tokens: int
    avg_response_time_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """The bytes of an image or file, and their media type."""

    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class ServiceInfo(_Model):
    """The service. `docs` is the path of its documentation."""

    name: str
    version: str
    docs: str


@dataclass(frozen=True, slots=True)
class Health(_Model):
    """A sign of life."""

    status: str
    timestamp: datetime


@dataclass(frozen=True, slots=True)
class DetailedHealth(_Model):
    """The state of the service and of what it needs: `services["postgres"]`."""

    status: Literal["healthy", "degraded", "unhealthy"]
    services: dict[str, Json]
    total_latency_ms: float
    timestamp: datetime
    version: str


_known_converters: dict[type[_Model], dict[str, Callable[[Any], Any]]] = {}


def _converters(cls: type[_Model]) -> dict[str, Callable[[Any], Any]]:
    """Return the converter of each field of a class. They are cached."""
    if cls not in _known_converters:
        hints = get_type_hints(cls)
        _known_converters[cls] = {member.name: _converter(hints[member.name]) for member in fields(cls)}
    return _known_converters[cls]


def _converter(hint: Any) -> Callable[[Any], Any]:
    """Return the function that converts a JSON value to the type `hint`."""
    if get_origin(hint) in (Union, UnionType):
        inner = _converter(next(argument for argument in get_args(hint) if argument is not NoneType))
        return lambda value: None if value is None else inner(value)
    if get_origin(hint) is list:
        each = _converter(get_args(hint)[0])
        return lambda value: [each(item) for item in value]
    if hint is datetime:
        return datetime.fromisoformat
    if hint is date:
        return date.fromisoformat
    if isinstance(hint, type) and issubclass(hint, _Model):
        return hint.from_json
    return lambda value: value
