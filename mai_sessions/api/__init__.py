"""The routes: `blueprint` has those of the API, `service_blueprint` the public ones at the root."""

from mai_sessions.api import analytics, attachments, export, health, messages, metrics, search, sessions
from mai_sessions.web.blueprint import api as blueprint
from mai_sessions.web.blueprint import service as service_blueprint

__all__ = [
    "analytics",
    "attachments",
    "blueprint",
    "export",
    "health",
    "messages",
    "metrics",
    "search",
    "service_blueprint",
    "sessions",
]
