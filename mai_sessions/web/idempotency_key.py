"""Safe retries: the Idempotency-Key header."""

import re
from hashlib import sha256
from typing import Any

import orjson
from flask import request

from mai_sessions.content.long_text import LongText, as_json
from mai_sessions.content.message import NewMessage
from mai_sessions.content.metadata import Metadata
from mai_sessions.errors import Invalid, broken_rule
from mai_sessions.idempotency import IdempotencyKey

HEADER = "Idempotency-Key"
_WELL_FORMED = re.compile(r"[\x21-\x7e]{1,255}").fullmatch


def idempotency_key(path: str, payload: Any) -> IdempotencyKey | None:
    """Return the key of this request with the fingerprint of its loaded body, or None. Raises Invalid."""
    key = request.environ.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    if not _WELL_FORMED(key):
        text = "Must be 1 to 255 visible characters."
        raise Invalid(broken_rule(["header", HEADER], text, "invalid"), detail=f"{HEADER}: {text}")
    body = orjson.dumps(payload, default=_fingerprint, option=orjson.OPT_SORT_KEYS)
    return IdempotencyKey(path, key, sha256(body).digest())


# The fields that release 0.1 knows. A message of these alone has the same fingerprint in both releases.
_FIRST_FIELDS = frozenset(
    {
        "role",
        "content",
        "token_count",
        "model_id",
        "agent_name",
        "response_time_ms",
        "is_error",
        "images",
        "documents",
    }
)


def _fingerprint(value: Any) -> Any:
    """Return the form of a value in the fingerprint. That of an attachment is its hash."""
    if isinstance(value, NewMessage):
        given = value._replace(attachments=(), words=None)._asdict()
        defaults = NewMessage._field_defaults
        return {
            name: field for name, field in given.items() if name in _FIRST_FIELDS or field != defaults[name]
        }
    if isinstance(value, Metadata):
        return value.value.decode()
    if isinstance(value, LongText):
        return as_json(value)
    assert isinstance(value, bytes)
    return value.decode()
