"""Authentication: the modes of MAI_SESSIONS_AUTH, or the function of the host application."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import fields
from functools import lru_cache

from flask import g, request

from mai_sessions.auth.bearer import bearer_token, url_signer
from mai_sessions.auth.credentials import check_user_id, unauthenticated
from mai_sessions.auth.proxy import trusted_proxy
from mai_sessions.auth.signed_urls import UrlSigner
from mai_sessions.config import Settings
from mai_sessions.errors import Forbidden, StartupError

DEFAULT_USER = "default-user"

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::\d*)?").fullmatch
# The beginnings of the names of settings that only one mode reads.
_SETTINGS_OF_MODE = {"proxy": ("user_header", "trusted_proxies"), "jwt": ("jwt_", "url_")}

# Returns the user id of the present request, or raises Unauthenticated.
Authenticate = Callable[[], str]


def authentication(settings: Settings) -> tuple[Authenticate, UrlSigner | None]:
    """Make the authentication of MAI_SESSIONS_AUTH, and the signer of attachment URLs where tokens are used.

    Raises StartupError unless the settings say clearly whom to believe.
    """
    refuse_settings_of_other_modes(settings)
    if settings.auth == "proxy":
        return trusted_proxy(settings), None
    if settings.auth == "jwt":
        signer = url_signer(settings)
        return bearer_token(settings, signer), signer
    return anonymous(settings), None


def anonymous(settings: Settings) -> Authenticate:
    """Make the authentication of the mode `none`, in which all callers are one user.

    A page of any origin can call the service on its visitor's machine by a name that resolves to 127.0.0.1
    (DNS rebinding). Its requests carry that name as their Host, so they are refused. Raises Forbidden.
    """

    def authenticate() -> str:
        host = request.environ.get("HTTP_HOST", "")
        if not settings.allow_anonymous and host and not is_loopback_host(host):
            raise Forbidden(
                "Under MAI_SESSIONS_AUTH=none the Host of a request must be a loopback name or address, "
                "unless MAI_SESSIONS_ALLOW_ANONYMOUS=1"
            )
        return DEFAULT_USER

    return authenticate


@lru_cache(maxsize=64)
def is_loopback_host(host: str) -> bool:
    """Return whether a Host header, with a port or without, names the loopback."""
    match = _HOST(host)
    if match is None:
        return False
    name = (match[1] or match[2]).rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return match[1] is None and (name == "localhost" or name.endswith(".localhost"))


def refuse_settings_of_other_modes(settings: Settings) -> None:
    """Raise StartupError for a setting that is without effect under MAI_SESSIONS_AUTH: it may be misspelt."""
    for field in fields(settings):
        mode = next((mode for mode, names in _SETTINGS_OF_MODE.items() if field.name.startswith(names)), None)
        if mode not in (None, settings.auth) and getattr(settings, field.name) != field.default:
            raise StartupError(
                f"{field.metadata['env']} is set, but MAI_SESSIONS_AUTH is {settings.auth} and not {mode}"
            )


def identified_by(identify: Callable[[], str | None]) -> Authenticate:
    """Make the authentication of an application that knows its users: None means that nobody is logged in."""

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
    """Raise StartupError if anyone who reaches this IP address would own all sessions."""
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
