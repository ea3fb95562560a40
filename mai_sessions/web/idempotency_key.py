"""Safe retries: the Idempotency-Key header."""

import re
from hashlib import sha256
from typing import Any

import orjson
from flask import request

from mai_sessions.errors import Invalid
from mai_sessions.idempotency import IdempotencyKey

HEADER = "Idempotency-Key"
_WELL_FORMED = re.compile(r"[\x21-\x7e]{1,255}").fullmatch


def idempotency_key(path: str, payload: dict[str, Any]) -> IdempotencyKey | None:
    """The key of this request, with the fingerprint of its body as it was understood; None without one.
    Raises Invalid.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return None
    if not _WELL_FORMED(key):
        text = "Must be 1 to 255 visible characters."
        raise Invalid(f"{HEADER}: {text}", [{"loc": ["header", HEADER], "msg": text, "type": "invalid"}])
    body = orjson.dumps(payload, default=_fingerprint, option=orjson.OPT_SORT_KEYS)
    return IdempotencyKey(path, key, sha256(body).digest())


def _fingerprint(value: Any) -> str:
    """An image stands for itself by its hash."""
    sha256: str = value.sha256
    return sha256
