"""The mode `jwt`: a bearer token names the user, or for an attachment a signed URL."""

import hmac
import logging
import re
import secrets
import time
from collections.abc import Callable
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flask import request

from mai_sessions.auth.credentials import check_user_id, unauthenticated
from mai_sessions.auth.jwks import PublishedKeys
from mai_sessions.auth.signed_urls import UrlSigner
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError

log = logging.getLogger(__name__)

# One blank: with more, one token would be several callers for a proxy that counts their requests.
_BEARER = re.compile(r"Bearer ([A-Za-z0-9._~+/=-]+) *", re.IGNORECASE).fullmatch
# How far the clock of the identity provider may be ahead, in seconds.
NOT_BEFORE_LEEWAY = 10.0
_SAFE_ERRORS = (jwt.InvalidAudienceError, jwt.MissingRequiredClaimError, jwt.PyJWKClientError)
_INVALID = 'Bearer error="invalid_token"'


def bearer_token(settings: Settings, signer: UrlSigner) -> Callable[[], str]:
    """Make the function that reads the user id from a token, or from a signed URL. Raises StartupError."""
    key_for, algorithms = _key_source(settings)
    decoder = jwt.PyJWT({"enforce_minimum_key_length": True})
    # `iat` is only information (RFC 7519 §4.1.6): a token of a clock that is slightly ahead must be accepted.
    # PyJWT has one leeway for `nbf` and `exp`, so `nbf` is checked here.
    options: Any = {
        "require": ["exp", "sub"],
        "verify_iat": False,
        "verify_nbf": False,
        "verify_aud": bool(settings.jwt_audience),
    }

    def authenticate() -> str:
        header = request.headers.get("Authorization")
        if header is None and "sha256" in (request.view_args or {}):
            return user_of_signed_url(signer)
        bearer = _BEARER(header or "")
        if bearer is None:
            raise unauthenticated("A bearer token is needed", "Bearer")
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
            if float(claims.get("nbf", 0)) > time.time() + NOT_BEFORE_LEEWAY:
                raise jwt.ImmatureSignatureError
        except jwt.ExpiredSignatureError as error:
            _log_refusal(error)
            raise unauthenticated("The token has expired", _INVALID) from None
        # A token's own text can cause these: JSON of wrong types, an infinite time, a key of another kind,
        # arrays nested a thousand levels deep.
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
            _log_refusal(error)
            raise unauthenticated("The token is not valid", _INVALID) from None
        return check_user_id(claims["sub"], "The token names no user", _INVALID)

    return authenticate


def _log_refusal(error: Exception) -> None:
    """Log why a token was refused. The texts of other errors may quote the token."""
    reason = f": {error}" if isinstance(error, _SAFE_ERRORS) else ""
    log.info("a token is refused: %s%s", type(error).__name__, reason)


def user_of_signed_url(signer: UrlSigner) -> str:
    """Return the user for whom the URL of this request was signed. Raises Unauthenticated."""
    assert request.view_args is not None
    user_id, expires, signature = (request.args.get(name, "") for name in ("user", "expires", "signature"))
    if not signer.verify(user_id, request.view_args["sha256"], expires, signature):
        raise unauthenticated("A bearer token is needed, or a signed URL that has not expired", "Bearer")
    return user_id


def url_signer(settings: Settings) -> UrlSigner:
    """Make the signer of attachment URLs."""
    if secret := settings.url_secret or settings.jwt_secret:
        key = hmac.digest(secret.encode(), b"mai-sessions attachment urls", "sha256")
    else:
        log.warning(
            "signed URLs are valid until this process ends, and on this host only: set "
            "MAI_SESSIONS_URL_SECRET_FILE"
        )
        key = secrets.token_bytes(32)
    return UrlSigner(key, settings.url_lifetime)


def _key_source(settings: Settings) -> tuple[Callable[[dict[str, Any]], Any], list[str]]:
    """Return what finds the key for a token's header, and the algorithms that tokens may use."""
    sources = [settings.jwt_secret, settings.jwt_key, settings.jwt_jwks_url]
    if sum(map(bool, sources)) != 1:
        raise StartupError(
            "MAI_SESSIONS_AUTH=jwt needs exactly one of MAI_SESSIONS_JWT_SECRET_FILE, "
            "MAI_SESSIONS_JWT_KEY_FILE and MAI_SESSIONS_JWT_JWKS_URL"
        )
    algorithms = list(settings.jwt_algorithms) or (
        ["HS256"] if settings.jwt_secret else ["RS256", "ES256", "EdDSA"]
    )
    for name in algorithms:
        # A public key must never serve as the secret of an HMAC.
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
    weaknesses = []
    for name in algorithms:
        algorithm = jwt.get_algorithm_by_name(name)
        try:
            weaknesses.append(algorithm.check_key_length(algorithm.prepare_key(key)))
        except (TypeError, jwt.InvalidKeyError):
            continue
    if not weaknesses:
        raise StartupError(
            f"MAI_SESSIONS_JWT_KEY_FILE holds a key that none of {', '.join(algorithms)} can use"
        )
    if weakness := next(filter(None, weaknesses), None):
        raise StartupError(f"the key of the tokens is too short: {weakness}")
    return key
