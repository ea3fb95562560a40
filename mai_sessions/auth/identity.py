"""Who is calling. Nobody passes without an identity, except to what `_PUBLIC` names."""

import hmac
import ipaddress
import logging
import re
import secrets
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flask import Flask, g, request

from mai_sessions.auth.jwks import PublishedKeys
from mai_sessions.auth.signed_urls import UrlSigner
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError, Unauthenticated

log = logging.getLogger(__name__)

DEFAULT_USER = "default-user"
URL_SIGNER = "mai-sessions.url-signer"

# Rules of routes. `/metrics` looks at the address of its caller by itself.
_PUBLIC = re.compile(r"/|/(?:health|docs)(?:/.*)?|/openapi\.json|/metrics").fullmatch
_ATTACHMENT = "api.get_attachment"
_BEARER = re.compile(r"Bearer +([A-Za-z0-9._~+/=-]+) *", re.IGNORECASE).fullmatch
_MAX_USER_ID = 255

Authenticate = Callable[[], str]


def init_app(app: Flask, settings: Settings) -> None:
    """Let nobody in without an identity. Raises StartupError when the settings do not say clearly who is
    believed.
    """
    authenticate = _MODES[settings.auth](app, settings)

    def identify() -> None:
        rule = request.url_rule
        # OPTIONS, which a browser sends ahead without credentials, is answered with the methods alone and
        # reaches no route.
        if (rule is None or not _PUBLIC(rule.rule)) and request.method != "OPTIONS":
            g.user_id = authenticate()

    app.before_request(identify)


def current_user_id() -> str:
    """The owner of the rows that this request may see."""
    user_id: str = g.user_id
    return user_id


def refuse_public_address(settings: Settings, host: str) -> None:
    """Raise StartupError when everyone who reaches this IP address would be the one user that all chats
    belong to.
    """
    if (
        settings.auth == "none"
        and not settings.allow_anonymous
        and not ipaddress.ip_address(host).is_loopback
    ):
        raise StartupError(
            f"MAI_SESSIONS_AUTH=none asks nobody who they are, so whoever reaches {host} could read and delete every chat: "
            "bind to 127.0.0.1, set MAI_SESSIONS_AUTH to proxy or jwt, or say MAI_SESSIONS_ALLOW_ANONYMOUS=1"
        )


def _everyone(app: Flask, settings: Settings) -> Authenticate:
    return lambda: DEFAULT_USER


def _told_by_proxy(app: Flask, settings: Settings) -> Authenticate:
    if not re.fullmatch(r"[A-Za-z0-9-]+", settings.user_header):
        raise StartupError(
            "MAI_SESSIONS_USER_HEADER must be the name of a header, of letters, digits and hyphens"
        )
    try:
        networks = [ipaddress.ip_network(proxy) for proxy in settings.trusted_proxies if proxy != "unix"]
    except ValueError as error:
        raise StartupError(f"MAI_SESSIONS_TRUSTED_PROXIES: {error}") from None
    if not settings.trusted_proxies:
        raise StartupError(
            "MAI_SESSIONS_AUTH=proxy needs MAI_SESSIONS_TRUSTED_PROXIES: the addresses that may say who calls"
        )
    variable = f"HTTP_{settings.user_header.upper().replace('-', '_')}"

    @lru_cache(maxsize=1024)
    def is_trusted(peer: str) -> bool:
        # A Unix socket's peer has no address.
        if not peer:
            return "unix" in settings.trusted_proxies
        address = ipaddress.ip_address(peer)
        # What an IPv4 peer is on a socket of both families.
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in networks)

    def authenticate() -> str:
        if not is_trusted(request.environ["REMOTE_ADDR"]):
            raise _unauthenticated("Requests come through the proxy", "Proxy")
        # Of two headers WSGI makes one with a comma. Which is the proxy's, nobody can tell.
        header = request.environ.get(variable, "")
        try:
            user_id = "" if "," in header else header.encode("latin-1").decode("utf-8").strip()
        except UnicodeDecodeError:
            user_id = ""
        return _checked(user_id, f"{settings.user_header} names no user", "Proxy")

    return authenticate


def _bearer(app: Flask, settings: Settings) -> Authenticate:
    key_for, algorithms = _key_source(settings)
    signer = app.extensions[URL_SIGNER] = UrlSigner(_url_key(settings), settings.url_lifetime)
    decoder = jwt.PyJWT({"enforce_minimum_key_length": True})
    # `iat` is information (RFC 7519 §4.1.6): a clock that is a moment ahead of ours must not refuse its
    # tokens.
    options: Any = {"require": ["exp", "sub"], "verify_iat": False, "verify_aud": bool(settings.jwt_audience)}

    def authenticate() -> str:
        header = request.headers.get("Authorization")
        if header is None and request.endpoint == _ATTACHMENT:
            return signed_for()
        bearer = _BEARER(header or "")
        if bearer is None:
            raise _unauthenticated("A bearer token is needed", "Bearer")
        try:
            key = key_for(jwt.get_unverified_header(bearer[1]))
            claims = decoder.decode(
                bearer[1],
                key,
                algorithms=algorithms,
                options=options,
                audience=settings.jwt_audience or None,
                issuer=settings.jwt_issuer or None,
            )
        except jwt.ExpiredSignatureError:
            raise _unauthenticated("The token has expired", 'Bearer error="invalid_token"') from None
        # What a token's own text brings about: JSON of the wrong types, a key of another kind, arrays a
        # thousand deep.
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise _unauthenticated("The token is not valid", 'Bearer error="invalid_token"') from None
        return _checked(claims["sub"], "The token names no user", 'Bearer error="invalid_token"')

    def signed_for() -> str:
        assert request.view_args is not None
        user_id, expires, signature = (
            request.args.get(name, "") for name in ("user", "expires", "signature")
        )
        if not signer.verify(user_id, request.view_args["sha256"], expires, signature):
            raise _unauthenticated("A bearer token is needed, or a signed URL that has not expired", "Bearer")
        return user_id

    return authenticate


_MODES: dict[str, Callable[[Flask, Settings], Authenticate]] = {
    "none": _everyone,
    "proxy": _told_by_proxy,
    "jwt": _bearer,
}


def _key_source(settings: Settings) -> tuple[Callable[[dict[str, Any]], Any], list[str]]:
    """The key for a token's header, and the algorithms that tokens may use."""
    sources = [settings.jwt_secret, settings.jwt_key, settings.jwt_jwks_url]
    if sum(map(bool, sources)) != 1:
        raise StartupError(
            "MAI_SESSIONS_AUTH=jwt needs exactly one of MAI_SESSIONS_JWT_SECRET_FILE, MAI_SESSIONS_JWT_KEY_FILE and "
            "MAI_SESSIONS_JWT_JWKS_URL"
        )
    algorithms = list(settings.jwt_algorithms) or (
        ["HS256"] if settings.jwt_secret else ["RS256", "ES256", "EdDSA"]
    )
    for name in algorithms:
        # The one kind of key must never serve the other kind of algorithm: a public key is no secret.
        if (
            name not in jwt.algorithms.get_default_algorithms()
            or name == "none"
            or name.startswith("HS") != bool(settings.jwt_secret)
        ):
            raise StartupError(
                f"MAI_SESSIONS_JWT_ALGORITHMS: {name} is not an algorithm for this kind of key"
            )
    if settings.jwt_jwks_url:
        published = PublishedKeys(settings.jwt_jwks_url)
        return lambda header: published.key(header.get("kid")), algorithms
    key = _fixed_key(settings, algorithms)
    return lambda header: key, algorithms


def _fixed_key(settings: Settings, algorithms: list[str]) -> Any:
    if settings.jwt_secret:
        key: Any = settings.jwt_secret.encode()
    else:
        try:
            key = load_pem_public_key(settings.jwt_key.encode())
        except ValueError:
            raise StartupError("MAI_SESSIONS_JWT_KEY_FILE must hold a public key in PEM") from None
    fitting = []
    for name in algorithms:
        algorithm = jwt.get_algorithm_by_name(name)
        try:
            fitting.append(algorithm.check_key_length(algorithm.prepare_key(key)))
        except (TypeError, jwt.InvalidKeyError):
            continue
    if not fitting:
        raise StartupError(
            f"MAI_SESSIONS_JWT_KEY_FILE holds a key that none of {', '.join(algorithms)} can use"
        )
    if weakness := next(filter(None, fitting), None):
        raise StartupError(f"the key of the tokens is too short: {weakness}")
    return key


def _url_key(settings: Settings) -> bytes:
    if secret := settings.url_secret or settings.jwt_secret:
        return hmac.digest(secret.encode(), b"mai-sessions attachment urls", "sha256")
    log.warning(
        "signed URLs end with this process, and hold on no other host: set MAI_SESSIONS_URL_SECRET_FILE"
    )
    return secrets.token_bytes(32)


def _checked(user_id: str, detail: str, challenge: str) -> str:
    """Refuse what is no user's name: the database takes 1 to 255 characters of UTF-8, without U+0000."""
    if not 1 <= len(user_id) <= _MAX_USER_ID or re.search("[\0\ud800-\udfff]", user_id):
        raise _unauthenticated(detail, challenge)
    return user_id


def _unauthenticated(detail: str, challenge: str) -> Unauthenticated:
    scheme, _, parameters = challenge.partition(" ")
    return Unauthenticated(detail, ", ".join(filter(None, [f'{scheme} realm="mai-sessions"', parameters])))
