"""Checks of settings that fit their type but cannot work. Each error says what to write instead."""

import os
import re
from pathlib import Path

from mai_sessions.errors import StartupError

# Bytes of the address of a Unix socket on Linux, without the NUL at its end.
_SOCKET_PATH_MAX = 107


def check_database_url(variable: str, url: str) -> None:
    """Raise StartupError for the URL of another database, or with a character that libpq takes for the end of
    the password.
    """
    scheme, separator, rest = url.partition("://")
    if separator and scheme not in ("postgresql", "postgres"):
        raise StartupError(f"{variable}: the scheme is {scheme}, and has to be postgresql")
    authority = re.split(r"[/?]", rest)[0] if separator else ""
    if authority.count("@") > 1:
        raise StartupError(f"{variable}: an @ in the user name or password is written %40")
    # Several hosts are separated by commas, and the address of IPv6 has colons in brackets.
    for host in authority.rpartition("@")[2].split(","):
        if not re.fullmatch(r"(\[.*\]|[^:]*)(:\d*)?", host):
            raise StartupError(
                f"{variable}: a port is a number, and a / or ? in the user name or password is written %2F "
                "or %3F"
            )


def check_bind(bind: str) -> None:
    """Raise StartupError for what is neither `host:port` nor `unix:path`."""
    if not re.fullmatch(r"(unix:|fd://).+|(\[.+\]|[^:\s]*):\d+", bind):
        example = f"127.0.0.1:{bind}" if bind.isdigit() else "127.0.0.1:8000"
        raise StartupError(
            f"MAI_SESSIONS_BIND: {bind} is not an address: write host:port, as {example}, or unix:path"
        )


def check_graceful_timeout(graceful: float, pool: float, statement: float) -> None:
    """Raise StartupError when a stop waits for a shorter time than a request may take. All are in seconds."""
    if graceful < pool + statement:
        raise StartupError(
            f"MAI_SESSIONS_GRACEFUL_TIMEOUT: {graceful:g} is less than MAI_SESSIONS_POOL_TIMEOUT and "
            f"MAI_SESSIONS_STATEMENT_TIMEOUT together, {pool + statement:g}: a stop would break requests off"
        )


def refuse_unusable_socket(bind: str) -> None:
    """Raise StartupError for a Unix socket whose directory is missing, or whose path is too long or another
    kind of file, and for a descriptor that is not open.
    """
    if bind.startswith("fd://"):
        _refuse_closed_descriptor(bind)
    if not bind.startswith("unix:"):
        return
    path = Path(bind.removeprefix("unix:"))
    if not path.parent.is_dir():
        raise StartupError(f"MAI_SESSIONS_BIND: there is no directory {path.parent}")
    if len(os.fsencode(path)) > _SOCKET_PATH_MAX:
        raise StartupError(f"MAI_SESSIONS_BIND: the path of a socket has at most {_SOCKET_PATH_MAX} bytes")
    if path.exists() and not path.is_socket():
        raise StartupError(
            f"MAI_SESSIONS_BIND: {path} exists and is not a socket: remove it, or name another path"
        )


def _refuse_closed_descriptor(bind: str) -> None:
    try:
        os.fstat(int(bind.removeprefix("fd://")))
    except (OSError, ValueError, OverflowError):
        raise StartupError(f"MAI_SESSIONS_BIND: {bind} is not an open file descriptor") from None
