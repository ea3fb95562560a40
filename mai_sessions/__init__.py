"""Sessions and messages of chats with language models, over REST, in PostgreSQL."""

from flask import Flask

from mai_sessions.config import Settings
from mai_sessions.extension import MaiSessions

__all__ = ["MaiSessions", "create_app"]


def create_app(settings: Settings | None = None) -> Flask:
    """Make the whole application, with the settings of the environment unless they are passed.

    Raises StartupError when a setting is wrong, or the database cannot be reached or used.
    """
    # What only a whole application needs is not imported with MaiSessions.
    from mai_sessions import application  # noqa: PLC0415

    return application.create_app(settings)
