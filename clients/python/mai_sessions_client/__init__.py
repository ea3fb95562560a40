"""A typed client of mai-sessions."""

from mai_sessions_client._async import AsyncClient
from mai_sessions_client._http import UNSET
from mai_sessions_client._sync import Client
from mai_sessions_client.bodies import NewMessage, SessionAction, SessionChanges
from mai_sessions_client.errors import Invalid, NotFound, ProblemError, Stale, Unauthorized, Unavailable
from mai_sessions_client.models import (
    AgentsUsage,
    AgentUsage,
    AppendedMessages,
    Attachment,
    BatchResult,
    DailyUsage,
    FoundSession,
    Message,
    ModelsUsage,
    ModelUsage,
    Role,
    SearchPage,
    SearchResult,
    Session,
    SessionDetail,
    SessionPage,
    Status,
    Summary,
    Usage,
)

__all__ = [
    "UNSET",
    "AgentUsage",
    "AgentsUsage",
    "AppendedMessages",
    "AsyncClient",
    "Attachment",
    "BatchResult",
    "Client",
    "DailyUsage",
    "FoundSession",
    "Invalid",
    "Message",
    "ModelUsage",
    "ModelsUsage",
    "NewMessage",
    "NotFound",
    "ProblemError",
    "Role",
    "SearchPage",
    "SearchResult",
    "Session",
    "SessionAction",
    "SessionChanges",
    "SessionDetail",
    "SessionPage",
    "Stale",
    "Status",
    "Summary",
    "Unauthorized",
    "Unavailable",
    "Usage",
]
