import io
import json
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from mai_sessions.errors import StartupError, Unavailable
from mai_sessions.telemetry import logs

CANARY = "what-a-user-wrote"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level, filters = root.handlers[:], root.level, warnings.filters[:]
    stream = getattr(request, "param", io.StringIO)()
    logs.configure(stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:], root.level, warnings.filters[:] = handlers, level, filters


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_request_is_one_line(client: FlaskClient, stream: io.StringIO) -> None:
    session = client.post("/api/v1/sessions", json={"title": CANARY}, buffered=True).get_json()
    stream.truncate(0)
    stream.seek(0)
    path = f"/api/v1/sessions/{session['id']}?token={CANARY}"
    size = len(
        client.get(path, headers={"X-Request-ID": "mine", "Authorization": CANARY}, buffered=True).data
    )
    [event] = events(stream)
    assert event.pop("time").endswith("+00:00")
    assert 0 < event.pop("db_ms") < event.pop("ms")
    assert event.pop("message").startswith("GET /api/v1/sessions/{session_id} 200 in ")
    assert event == {
        "level": "INFO",
        "logger": "mai_sessions.requests",
        "request_id": "mine",
        "user": "default-user",
        "method": "GET",
        "route": "/api/v1/sessions/{session_id}",
        "queue_ms": 0.0,
        "status": 200,
        "statements": 1,
        "bytes": size,
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/{CANARY}", 404),
        ("PUT", "/api/v1/sessions", 405),
        (CANARY, "/api/v1/sessions", 405),
        ("HEAD", "/api/v1/sessions", 200),
        ("DELETE", "/api/v1/sessions/01234567-89ab-cdef-0123-456789abcdef", 404),
        ("POST", "/api/v1/sessions", 422),
    ],
)
def test_every_outcome_is_logged(
    client: FlaskClient, stream: io.StringIO, method: str, path: str, status: int
) -> None:
    client.open(path, method=method, data='{"title":' if method == "POST" else None, buffered=True)
    [event] = events(stream)
    assert event["status"] == status
    assert CANARY not in stream.getvalue()


@pytest.mark.parametrize("stream", [Terminal], indirect=True)
def test_terminal_gets_plain_text(client: FlaskClient, stream: io.StringIO) -> None:
    client.get("/", buffered=True)
    assert "INFO GET / 200 in " in stream.getvalue()
    assert "{" not in stream.getvalue()


def test_unexpected_error_is_logged_without_values(
    app: Flask, stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: Any) -> None:
        try:
            {}[CANARY]
        except KeyError as error:
            raise ValueError(CANARY) from error

    monkeypatch.setitem(app.view_functions, "mai_sessions_service.get_health", fail)
    response = app.test_client().get("/health", headers={"X-Request-ID": "mine"}, buffered=True)
    assert response.status_code == 500
    assert CANARY not in response.text
    defect, line = events(stream)
    assert defect["request_id"] == line["request_id"] == response.get_json()["request_id"] == "mine"
    assert (line["level"], line["status"]) == ("ERROR", 500)
    assert CANARY not in stream.getvalue()
    assert "in fail" in defect["traceback"]
    assert defect["traceback"].endswith("ValueError")
    assert "KeyError\n\nwhich led to\n\n" in defect["traceback"]


def test_errors_of_postgresql_do_not_quote_rows(conn: psycopg.Connection[Any]) -> None:
    described = []
    for statement in [
        "SELECT 'what-a-user-wrote'::int",
        "INSERT INTO users (user_id, session_count) VALUES ('what-a-user-wrote', -1)",
        "INSERT INTO users (user_id, session_count) VALUES ('what-a-user-wrote', 0), ('what-a-user-wrote', "
        "0)",
    ]:
        with pytest.raises(psycopg.Error) as caught:
            conn.execute(statement)
        described.append(logs.describe(caught.value))
    assert described == [
        "InvalidTextRepresentation 22P02",
        "CheckViolation 23514 users.users_session_count_check",
        "UniqueViolation 23505 users.users_pkey",
    ]


def test_errors_of_the_environment_keep_their_text() -> None:
    assert logs.describe(StartupError("mend this")) == "StartupError: mend this"
    assert logs.describe(Unavailable("away")) == "Unavailable: away"
    assert logs.describe(OSError(28, "No space left")) == "OSError: [Errno 28] No space left"
    assert logs.describe(psycopg.OperationalError("no\nroute")) == "OperationalError: no route"
    assert logs.describe(None) == "NoneType"


def test_disconnected_client_is_logged(app: Flask, stream: io.StringIO) -> None:
    environ = app.test_request_context("/").request.environ
    body = app.wsgi_app(environ, lambda *_: sys.stdout.write)
    try:
        raise BrokenPipeError
    except BrokenPipeError:
        body.close()  # type: ignore[attr-defined]
    [event] = events(stream)
    assert event["disconnected"] is True


@pytest.mark.parametrize(
    ("given", "is_kept"),
    [
        ("a-b_c.~+/=:9", True),
        ("x" * 128, True),
        ("x" * 129, False),
        ("", False),
        ("a b", False),
        ("a\tb", False),
        ("é", False),
    ],
)
def test_well_formed_request_id_is_kept(client: FlaskClient, given: str, is_kept: bool) -> None:
    response = client.get("/health", environ_base={"HTTP_X_REQUEST_ID": given})
    assert (response.headers["X-Request-ID"] == given) == is_kept


def test_server_timing_is_sent_on_request(client: FlaskClient) -> None:
    assert "Server-Timing" not in client.get("/api/v1/sessions").headers
    timing = client.get("/api/v1/sessions", headers={"X-Server-Timing": "1"}).headers["Server-Timing"]
    assert timing.startswith("db;dur=")
    assert 'desc="1 statements", app;dur=' in timing
