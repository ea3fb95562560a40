"""Tokens and settings of the modes of MAI_SESSIONS_AUTH."""

import json
import re
import time
from base64 import urlsafe_b64encode
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

SECRET = "correct horse battery staple, and as many more as HS512 wants, 64 bytes"
# Some tokens are made when the tests are collected, and used when the suite comes to them.
HOUR = 3600
PNG = b"\x89PNG\r\n\x1a\n" + b"pixels"
PUBLIC = re.compile(r"/|/health(/.*)?|/docs(/.*)?|/openapi\.json|/metrics")
RSA, OTHER_RSA = (rsa.generate_private_key(65537, 2048) for _ in range(2))
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()


def pem(key: Any) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def token(
    key: Any = SECRET, algorithm: str = "HS256", headers: dict[str, Any] | None = None, **claims: Any
) -> str:
    claims = {"sub": "ann", "exp": time.time() + HOUR, **claims}
    return jwt.encode(
        {name: value for name, value in claims.items() if value is not None}, key, algorithm, headers
    )


def bearer(*args: Any, **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(*args, **claims)}"}


def b64(part: object) -> str:
    return (
        urlsafe_b64encode(part if isinstance(part, bytes) else json.dumps(part).encode())
        .rstrip(b"=")
        .decode()
    )


PROXY = {"auth": "proxy", "trusted_proxies": ("127.0.0.1", "10.1.0.0/16")}
JWT = {"auth": "jwt", "jwt_secret": SECRET, "jwt_audience": "mai", "jwt_issuer": "idp"}
WITH_SECRET = {"auth": "jwt", "jwt_secret": SECRET}
WITH_KEY = {"auth": "jwt", "jwt_key": pem(RSA)}
