"""The mode `proxy`: a trusted proxy has authenticated the user and names them in a header."""

import ipaddress
import re
from collections.abc import Callable
from functools import lru_cache

from flask import request

from mai_sessions.auth.credentials import check_user_id, unauthenticated
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError


def trusted_proxy(settings: Settings) -> Callable[[], str]:
    """Make the function that reads the user id from the proxy's header. Raises StartupError.

    The user id is the header's value byte for byte. Names that look alike are other users, and a name with a
    control character, an invisible character or a blank at an end is refused.
    """
    if not re.fullmatch(r"[A-Za-z0-9-]+", settings.user_header):
        raise StartupError(
            "MAI_SESSIONS_USER_HEADER must be the name of a header, of letters, digits and hyphens"
        )
    is_trusted = _peer_check(settings.trusted_proxies)
    variable = f"HTTP_{settings.user_header.upper().replace('-', '_')}"
    detail = f"{settings.user_header} names no user"

    def authenticate() -> str:
        if not is_trusted(request.environ["REMOTE_ADDR"]):
            raise unauthenticated("Requests come through the proxy", "Proxy")
        header = request.environ.get(variable, "")
        try:
            user_id = header.encode("latin-1").decode("utf-8")
        except UnicodeDecodeError:
            raise unauthenticated(detail, "Proxy") from None
        # WSGI joins two headers with a comma, and nothing shows which of them is the proxy's.
        if "," in user_id or not user_id.isprintable() or user_id != user_id.strip():
            raise unauthenticated(detail, "Proxy")
        return check_user_id(user_id, detail, "Proxy")

    return authenticate


def _peer_check(trusted_proxies: tuple[str, ...]) -> Callable[[str], bool]:
    if not trusted_proxies:
        raise StartupError(
            "MAI_SESSIONS_AUTH=proxy needs MAI_SESSIONS_TRUSTED_PROXIES: the addresses that may name the user"
        )
    try:
        networks = [ipaddress.ip_network(proxy) for proxy in trusted_proxies if proxy != "unix"]
    except ValueError as error:
        raise StartupError(f"MAI_SESSIONS_TRUSTED_PROXIES: {error}") from None

    @lru_cache(maxsize=1024)
    def is_trusted(peer: str) -> bool:
        # The peer of a Unix socket has no address.
        if not peer:
            return "unix" in trusted_proxies
        address = ipaddress.ip_address(peer)
        # A socket of both families gives the address of an IPv4 peer as IPv6.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in networks)

    return is_trusted
