"""The log: a line of JSON for each event, or plain text on a terminal. What users wrote, and tokens, are not
in it.
"""

import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

import orjson
import psycopg
from pythonjsonlogger.orjson import OrjsonFormatter

from mai_sessions.errors import Error
from mai_sessions.telemetry.request_record import current

_requests = logging.getLogger("mai_sessions.requests")

# Their texts speak of the program or of the world around it. Any other error may quote the value that it met.
_SAFE = (Error, OSError, ImportError, psycopg.OperationalError, psycopg.ProgrammingError)


def configure(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Write all that is logged to the stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_PlainFormatter() if stream.isatty() else json_formatter())
    handler.addFilter(_name_request)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # It logs every attempt to connect; telemetry/outage.py says once a minute that a server is away.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    # No format of ours tells them, and looking them up costs a third of a line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def json_formatter() -> logging.Formatter:
    """Make what writes an event as a line of JSON."""
    return _JsonFormatter()


def describe(error: BaseException | None) -> str:
    """Name an error in one line, with its text when that cannot quote what a user wrote.

    PostgreSQL's DETAIL and CONTEXT can hold whole rows, so of its errors only the first part is told.
    """
    name = type(error).__name__
    if isinstance(error, psycopg.Error) and error.sqlstate:
        place = ".".join(
            filter(None, [error.diag.table_name, error.diag.constraint_name or error.diag.column_name])
        )
        name = " ".join(filter(None, [name, error.sqlstate, place]))
    if not isinstance(error, _SAFE):
        return name
    text = (isinstance(error, psycopg.Error) and error.diag.message_primary) or str(error)
    return f"{name}: {' '.join(text.split())}"


def log_request(summary: str, fields: Mapping[str, object], *, failed: bool, is_probe: bool = False) -> None:
    """Log a request: its summary, and its fields where the log is of JSON.

    A probe that succeeds is logged at DEBUG.
    """
    level = logging.ERROR if failed else logging.DEBUG if is_probe else logging.INFO
    if not _requests.isEnabledFor(level):
        return
    # As log() does, without its look at the stack for a place in the source, which says nothing here.
    record = _requests.makeRecord(_requests.name, level, "", 0, summary, (), None, extra={"request": fields})
    _requests.handle(record)


class _NoValues(logging.Formatter):
    """Tells an error by its place and its kind."""

    def formatException(  # noqa: N802 - logging's own name
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        parts: list[str] = []
        error = ei[1]
        while error is not None:
            frames = "".join(traceback.format_tb(error.__traceback__))
            parts.append(f"Traceback (most recent call last):\n{frames}{describe(error)}")
            error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        return "\n\nwhich led to\n\n".join(reversed(parts))


class _JsonFormatter(_NoValues, OrjsonFormatter):
    def __init__(self) -> None:
        OrjsonFormatter.__init__(
            self,
            "{levelname}{name}{message}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
        )

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "request", None)
        if fields is None:
            return super().format(record)
        # What every request pays for: the same line at a third of the cost.
        head = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
        }
        return orjson.dumps({**head, "message": record.msg, **fields}).decode()


class _PlainFormatter(_NoValues):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")


def _name_request(record: logging.LogRecord) -> bool:
    request = current.get()
    if request is not None:
        record.request_id = request.request_id
    return True
