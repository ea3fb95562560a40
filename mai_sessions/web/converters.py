"""The identifiers in paths.

They are converted in a hook of the blueprint and not by werkzeug's converters: those are registered for a
whole application, and what they raise is handled by the application's error pages.
"""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import request

from mai_sessions.errors import NotFound
from mai_sessions.ids import parse_id

_SHA256 = re.compile("[0-9a-f]{64}").fullmatch


def convert_path_arguments() -> None:
    """Convert the arguments of the matched path. Raises NotFound for a malformed one."""
    arguments: dict[str, Any] = request.view_args or {}
    for name, text in arguments.items():
        arguments[name] = _CONVERTERS[name](text)


def _session_id(text: str) -> UUID:
    session_id = parse_id(text)
    if session_id is None:
        raise NotFound("Session not found")
    return session_id


def _message_id(text: str) -> UUID:
    message_id = parse_id(text)
    if message_id is None:
        raise NotFound("Message not found")
    return message_id


def _sha256(text: str) -> str:
    if not _SHA256(text):
        raise NotFound("Attachment not found")
    return text


_CONVERTERS: dict[str, Callable[[str], Any]] = {
    "session_id": _session_id,
    "message_id": _message_id,
    "sha256": _sha256,
}
