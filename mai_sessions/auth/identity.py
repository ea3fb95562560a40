"""Who is calling: the modes of MAI_SESSIONS_AUTH, or a function of the application around."""

import ipaddress
from collections.abc import Callable

from flask import g

from mai_sessions.auth.bearer import bearer_token, url_signer
from mai_sessions.auth.credentials import check_user_id, unauthenticated
from mai_sessions.auth.proxy import trusted_proxy
from mai_sessions.auth.signed_urls import UrlSigner
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError

DEFAULT_USER = "default-user"

# Returns the user id of the present request, or raises Unauthenticated.
Authenticate = Callable[[], str]


def authentication(settings: Settings) -> tuple[Authenticate, UrlSigner | None]:
    """Make the authentication of MAI_SESSIONS_AUTH, and the signer of attachment URLs where tokens are used.

    Raises StartupError unless the settings say clearly whom to believe.
    """
    if settings.auth == "proxy":
        return trusted_proxy(settings), None
    if settings.auth == "jwt":
        signer = url_signer(settings)
        return bearer_token(settings, signer), signer
    return anonymous, None


def anonymous() -> str:
    """Return the one user that exists without authentication."""
    return DEFAULT_USER


def identified_by(identify: Callable[[], str | None]) -> Authenticate:
    """Make the authentication of an application that knows its users: None means nobody."""

    def authenticate() -> str:
        user_id = identify()
        if user_id is None:
            raise unauthenticated("Log in first", "Application")
        if not isinstance(user_id, str):
            raise TypeError(f"identify() must return a str or None, not {type(user_id).__name__}")
        return check_user_id(user_id, "The user id is empty, too long or not text", "Application")

    return authenticate


def current_user_id() -> str:
    """Return the owner of the rows that this request may see."""
    user_id: str = g.mai_sessions_user_id
    return user_id


def refuse_public_address(settings: Settings, host: str) -> None:
    """Raise StartupError if anyone who reaches this IP address would be the one user who owns all sessions."""
    if (
        settings.auth == "none"
        and not settings.allow_anonymous
        and not ipaddress.ip_address(host).is_loopback
    ):
        raise StartupError(
            f"MAI_SESSIONS_AUTH=none authenticates nobody: anyone who reaches {host} could read and delete "
            "everything. Bind to 127.0.0.1, set MAI_SESSIONS_AUTH to proxy or jwt, or set "
            "MAI_SESSIONS_ALLOW_ANONYMOUS=1"
        )
