"""The state that the routes of one application share."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flask import current_app

from mai_sessions.auth.identity import Authenticate
from mai_sessions.auth.signed_urls import UrlSigner
from mai_sessions.config import Settings
from mai_sessions.content.long_text import Content
from mai_sessions.expiry import Expiry
from mai_sessions.postgres.database import Database

if TYPE_CHECKING:
    from mai_sessions.telemetry.metrics import Metrics

EXTENSION = "mai_sessions"


@dataclass(slots=True)
class State:
    """The one entry of `MaiSessions` in `app.extensions`.

    `url_prefix` is the path of the API without SCRIPT_NAME. `metrics` and `openapi` belong to the application
    that `create_app` makes, and are empty in any other.
    """

    settings: Settings
    url_prefix: str
    database: Database
    authenticate: Authenticate
    url_signer: UrlSigner | None
    count_tokens: Callable[[Content], int]
    expiry: Expiry
    metrics: "Metrics | None" = None
    openapi: dict[str, Any] = field(default_factory=dict)

    @property
    def is_whole_application(self) -> bool:
        """Whether `create_app` made the application, with its middleware around all routes."""
        return self.metrics is not None

    def open(self) -> None:
        """Connect to PostgreSQL, without waiting for it. Call it in the process that serves, after any
        fork.
        """
        self.database.open()
        if self.metrics:
            self.metrics.start(self.database.pools())

    def close(self) -> None:
        """Close every connection to PostgreSQL for good, and end the threads."""
        self.database.close()


def current_state() -> State:
    """Return the state of the application that serves this request."""
    state: State = current_app.extensions[EXTENSION]
    return state
