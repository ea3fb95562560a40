"""The bodies of requests."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict

from mai_sessions_client.models import Role, Status

SessionAction = Literal["delete", "archive", "unarchive"]


class NewMessage(TypedDict, total=False):
    """A message of a batch. `images` are bytes, base64, data URLs or URLs of attachments."""

    id: str
    role: Role
    content: str
    parts: Sequence[Mapping[str, Any]]
    images: Sequence[str | bytes]
    documents: Sequence[str]
    metadata: Mapping[str, Any]
    model_id: str | None
    agent_name: str | None
    response_time_ms: float | None
    token_count: int
    is_error: bool
    status: Status
    parent_id: str | None
    created_at: datetime


class SessionChanges(TypedDict, total=False):
    """The changes that a batch of messages makes to its session."""

    title: str
    agent_name: str
    model_id: str
    metadata: Mapping[str, Any]
    archived: bool
    head_id: str
