"""The log: a line of JSON for each event, or plain text on a terminal. It never contains texts of users or
tokens.
"""

import logging
import sys
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

import orjson
import psycopg
from pythonjsonlogger.orjson import OrjsonFormatter

from mai_sessions.errors import Error
from mai_sessions.telemetry.request_record import current

_requests = logging.getLogger("mai_sessions.requests")

# The texts of these errors do not quote values of users. Those of other errors may.
_SAFE = (Error, OSError, ImportError, psycopg.OperationalError, psycopg.ProgrammingError)


def configure(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Write the log to the stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(_PlainFormatter() if stream.isatty() else json_formatter())
    handler.addFilter(_name_request)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # The pool logs every attempt to connect; telemetry/outage.py logs an outage once a minute.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    # No format here contains them, and finding them takes time on each line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def json_formatter() -> logging.Formatter:
    """Make the formatter that writes an event as a line of JSON."""
    return _JsonFormatter()


def describe(error: BaseException | None) -> str:
    """Describe an error in one line: its type, and its text if that cannot quote values of users.

    PostgreSQL's DETAIL and CONTEXT can contain whole rows, so only the primary message is used.
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
    """Log a request: the summary, and in a JSON log the fields. A successful probe is logged at DEBUG."""
    level = logging.ERROR if failed else logging.DEBUG if is_probe else logging.INFO
    if not _requests.isEnabledFor(level):
        return
    # Logger.log() would also search the stack for the place in the source, which is always this one.
    record = _requests.makeRecord(_requests.name, level, "", 0, summary, (), None, extra={"request": fields})
    _requests.handle(record)


class _NoValues(logging.Formatter):
    """Writes tracebacks without the values that error texts may quote."""

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


def without_values(record: logging.LogRecord) -> bool:
    """Write the traceback of a record, where a formatter of another application would quote values."""
    if record.exc_info:
        record.exc_text, record.exc_info = _NoValues().formatException(record.exc_info), None
    return True


class _JsonFormatter(_NoValues, OrjsonFormatter):
    def __init__(self) -> None:
        OrjsonFormatter.__init__(
            self,
            "{levelname}{name}{message}",
            style="{",
            timestamp="time",
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "traceback"},
        )

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        return {"time": log_data.pop("time"), **log_data}

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "request", None)
        if fields is None:
            return super().format(record)
        # The line of a request, without the slower general formatter.
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
