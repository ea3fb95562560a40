"""The statements themselves: that each fits the schema, says whose it is, and is the only one of its request."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator
from tempfile import TemporaryFile
from types import ModuleType
from typing import Any, NamedTuple

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg.pq import Trace
from support.chats import SESSIONS

from mai_sessions import repository
from mai_sessions.postgres.connection import numbered

MODULES = [
    importlib.import_module(f"{repository.__name__}.{info.name}")
    for info in pkgutil.iter_modules(repository.__path__)
]
_VERBS = re.compile(r"\s*(/\*.*?\*/)?\s*(SELECT|INSERT|UPDATE|DELETE|WITH)\b")
# Parts of statements are private, or begin with no verb, or are these.
_PARTS = {"COUNT_MESSAGE", "RECOUNT_MESSAGE"}
STATEMENTS = [
    pytest.param(module, value, id=f"{module.__name__.rpartition('.')[2]}.{name}")
    for module in MODULES
    for name, value in vars(module).items()
    if name.isupper()
    and not name.startswith("_")
    and name not in _PARTS
    and isinstance(value, str)
    and _VERBS.match(value)
]
# Where the statement alone does not say it.
_TYPES = {"limit": "integer", "offset": "bigint"}


@pytest.mark.parametrize(("module", "statement"), STATEMENTS)
def test_statement_fits_the_schema(conn: psycopg.Connection[Any], module: ModuleType, statement: str) -> None:
    _, text, names, _ = numbered(statement)
    types = ", ".join(_TYPES.get(name, "unknown") for name in names)
    conn.execute(f"PREPARE statement ({types}) AS {text.decode()}")


@pytest.mark.parametrize(("module", "statement"), STATEMENTS)
def test_statement_names_its_function(module: ModuleType, statement: str) -> None:
    [name] = re.findall(r"/\* (\w+)(?:, [\w, ]+)? \*/", statement)
    function = getattr(module, name)
    assert inspect.isfunction(function)
    assert function.__module__ == module.__name__


# What a route costs

SESSION = SESSIONS + "/{session_id}"
MESSAGES = SESSION + "/messages"
MESSAGE = MESSAGES + "/{message_id}"
NEW = {"role": "user", "content": "x"}
KEY = {"Idempotency-Key": "k"}


class Route(NamedTuple):
    """A request, and the names in the statements that it sends."""

    method: str
    path: str
    statements: list[str]
    body: dict[str, Any] | None = None
    headers: dict[str, str] | None = None


ROUTES = [
    Route("GET", "/", []),
    Route("GET", "/openapi.json", []),
    Route("GET", "/docs", []),
    *(
        Route("GET", f"/docs/{name}", [])
        for name in ("start.js", "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
    ),
    Route("GET", "/metrics", []),
    Route("GET", "/health", []),
    Route("GET", "/health/live", []),
    Route("GET", "/metrics", []),
    Route("GET", "/health/ready", ["is_current"]),
    Route("GET", "/health/detailed", ["probe"]),
    Route("GET", SESSIONS, ["sessions"]),
    Route("GET", SESSIONS + "?search=x&limit=1", ["sessions"]),
    Route("POST", SESSIONS, ["create_session"], {}),
    Route("POST", SESSIONS, ["create_session"], {}, KEY),
    Route("GET", SESSION, ["session"]),
    Route("GET", SESSION + "?messages_limit=2", ["session"]),
    Route("GET", SESSION, ["session"], None, {"If-None-Match": "{tag}"}),
    Route("PATCH", SESSION, ["patch_session"], {"title": "x"}),
    Route("PATCH", SESSION, ["patch_session"], {"title": "x"}, {"If-Match": "{tag}"}),
    Route("DELETE", SESSION, ["delete_session"]),
    Route("GET", MESSAGES, ["messages"]),
    Route("GET", MESSAGES + "?before_seq=2", ["messages"]),
    Route("POST", MESSAGES, ["append_message"], NEW),
    Route("POST", MESSAGES, ["append_message"], NEW, KEY),
    Route("DELETE", MESSAGES, ["clear_messages"]),
    Route("GET", MESSAGE, ["message"]),
    Route("PATCH", MESSAGE, ["patch_message"], {"content": "x"}),
    Route("DELETE", MESSAGE, ["delete_message"]),
    Route("DELETE", MESSAGE, ["delete_message"], None, {"If-Match": "{tag}"}),
    Route("GET", "/api/v1/analytics/usage?", ["usage"]),
    Route("GET", "/api/v1/analytics/agents?", ["agents"]),
    Route("GET", "/api/v1/analytics/models?", ["models"]),
    Route("GET", "/api/v1/analytics/summary?", ["summary"]),
    Route("GET", "/api/v1/search?q=x", ["search"]),
    Route("GET", "/api/v1/search?q=x&limit=1&role=user&since=2026-01-01", ["search"]),
]


class Wire:
    """What the one connection of an application sends to the server."""

    def __init__(self, app: Flask, trace: Any) -> None:
        self.client = app.test_client()
        self._trace = trace
        self._prepared: dict[str, str] = {}

    def clear(self) -> None:
        """Forget what was sent, but for what was prepared."""
        self.statements()
        self._trace.truncate(0)

    def statements(self) -> list[str]:
        """The names in the statements that were run since."""
        self._trace.seek(0)
        # F is what went to the server, B what came back; a statement's text may go over lines.
        sent = re.findall(
            r"^F\t\d+\t(\w+)(.*?)(?=^[FB]\t|\Z)", self._trace.read().decode(), re.DOTALL | re.MULTILINE
        )
        ran = []
        for kind, text in sent:
            if kind == "Parse":
                [name] = re.findall(r'^\t "(\w*)"', text)
                self._prepared[name] = text
            elif kind == "Bind":
                [name] = re.findall(r'^\t "" "(\w*)"', text)
                ran.append(self._prepared[name])
            elif kind == "Query":
                ran.append(text)
        return [name for text in ran for name in re.findall(r"/\* (\w+)", text) or [text]]


@pytest.fixture
def wire(make_app: Callable[..., Flask]) -> Iterator[Wire]:
    """An application of one connection, on which libpq writes down each message."""
    app = make_app(threads=1)
    with TemporaryFile("ab+") as trace:
        with app.extensions["mai_sessions"].database.connection() as conn:
            conn.pgconn.trace(trace.fileno())
            conn.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)
        yield Wire(app, trace)
        with app.extensions["mai_sessions"].database.connection() as conn:
            conn.pgconn.untrace()


@pytest.mark.parametrize(
    "route", ROUTES, ids=lambda route: f"{route.method} {route.path} {route.headers or ''}"
)
def test_route_sends_one_statement(client: FlaskClient, wire: Wire, route: Route) -> None:
    session = client.post(SESSIONS, json={}).get_json()
    added = client.post(MESSAGES.format(session_id=session["id"]), json=NEW)
    values = {"session_id": session["id"], "message_id": added.get_json()["id"], "tag": added.headers["ETag"]}
    headers = {name: value.format(**values) for name, value in (route.headers or {}).items()}
    wire.clear()
    response = wire.client.open(
        route.path.format(**values), method=route.method, json=route.body, headers=headers
    )
    assert response.status_code < 400
    assert wire.statements() == route.statements


@pytest.mark.parametrize("path", [SESSION, MESSAGE])
def test_refused_patch_looks_once_more(client: FlaskClient, wire: Wire, path: str) -> None:
    """Only then it has to be told what is stale from what is not there."""
    session = client.post(SESSIONS, json={}).get_json()["id"]
    message = client.post(MESSAGES.format(session_id=session), json=NEW).get_json()["id"]
    for session_id, status in ((session, 412), (message, 404)):
        wire.clear()
        target = path.format(session_id=session_id, message_id=message)
        assert wire.client.patch(target, json={}, headers={"If-Match": '"stale"'}).status_code == status
        kind = "message" if path == MESSAGE else "session"
        assert wire.statements() == [f"patch_{kind}", kind]


def test_every_route_is_counted(app: Flask) -> None:
    routes = app.url_map.bind("localhost")
    identifier = "00000000-0000-0000-0000-000000000000"
    counted = set()
    for route in ROUTES:
        path = route.path.partition("?")[0].format(session_id=identifier, message_id=identifier)
        counted.add((routes.match(path, method=route.method)[0], route.method))
    served = {
        (rule.endpoint, method) for rule in app.url_map.iter_rules() for method in (rule.methods or set())
    }
    uncounted = {
        (endpoint, method) for endpoint, method in served - counted if method not in ("HEAD", "OPTIONS")
    }
    assert uncounted == {("api.get_attachment", "GET")}
