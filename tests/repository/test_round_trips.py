"""Each request is one round trip to PostgreSQL, except for those that CONTRIBUTING.md lists."""

import json
import re
from collections.abc import Callable, Iterator
from tempfile import TemporaryFile
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg.pq import Trace
from support.chats import SESSIONS
from support.samples import data_url, png

from mai_sessions.expiry import Expiry

SESSION = SESSIONS + "/{session_id}"
MESSAGES = SESSION + "/messages"
MESSAGE = MESSAGES + "/{message_id}"
NEW = {"role": "user", "content": "x"}
KEY = {"Idempotency-Key": "k"}


def write(*statements: str) -> list[str]:
    """Return the names of the statements of a transaction."""
    return ["begin", *statements, "commit"]


class Route(NamedTuple):
    """A request, and the names in the statements that it sends, in one round trip."""

    method: str
    path: str
    statements: list[str]
    body: dict[str, Any] | None = None
    headers: dict[str, str] | None = None


PATCHED_SESSION = write("lock_session", "patch_session", "change_session", "get_session")
DELETED_SESSIONS = [
    "claim_sessions",
    "delete_sessions",
    "release_attachments",
    *["delete_sessions"] * 2,
    "sweep_attachments",
]
APPENDED_WITH_KEY = write("lock_session", *["append_plain_message"] * 4, "append_messages")
CLEARED = write(
    "lock_session",
    "clear_messages",
    "release_attachments",
    "clear_messages",
    "clear_messages",
    "sweep_attachments",
)
DELETED = write(
    *["delete_message"] * 2,
    "count_messages",
    "release_attachments",
    *["delete_message"] * 2,
    "sweep_attachments",
)
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
    Route("GET", "/health/ready", ["is_current"]),
    Route("GET", "/health/detailed", ["is_current"]),
    Route("GET", SESSIONS, ["list_sessions"]),
    Route("GET", SESSIONS + "?search=x&limit=1", ["list_sessions"]),
    Route("POST", SESSIONS, write(*["create_session"] * 3), {}),
    Route("POST", SESSIONS, write(*["create_session"] * 7), {}, KEY),
    Route("GET", SESSION, ["get_session"]),
    Route("GET", SESSION + "?messages_limit=2", ["get_session"]),
    Route("GET", SESSION, ["get_session"], None, {"If-None-Match": "{tag}"}),
    Route("PATCH", SESSION, PATCHED_SESSION, {"title": "x"}),
    Route(
        "PATCH",
        SESSION,
        PATCHED_SESSION,
        {"title": "x"},
        {"If-Match": "{tag}"},
    ),
    Route("DELETE", SESSION, write(*DELETED_SESSIONS)),
    Route("DELETE", SESSION, write("lock_sessions", *DELETED_SESSIONS), None, {"If-Match": "{tag}"}),
    Route(
        "POST",
        SESSIONS + "/batch",
        write("lock_sessions", *DELETED_SESSIONS),
        {"ids": [str(UUID(int=1))], "action": "delete"},
    ),
    Route("GET", SESSIONS + "?archived=any", ["list_sessions"]),
    Route("GET", SESSIONS + '?metadata={{"a":1}}', ["list_sessions"]),
    Route("GET", MESSAGES + "?max_tokens=9", ["list_messages"]),
    Route("GET", MESSAGES + "?branches=all", ["list_messages"]),
    Route("GET", MESSAGES, ["list_messages"]),
    Route("GET", MESSAGES + "?before_seq=2", ["list_messages"]),
    Route("POST", MESSAGES, write(*["append_plain_message"] * 3), NEW),
    Route(
        "POST",
        MESSAGES,
        write("add_messages", "count_messages", "add_messages", *["append_messages"] * 2),
        {"messages": [NEW]},
    ),
    Route("POST", MESSAGES, APPENDED_WITH_KEY, NEW, KEY),
    Route(
        "POST",
        MESSAGES,
        write("lock_session", *["append_plain_message"] * 3),
        {**NEW, "id": str(UUID(int=1)), "parts": [{"type": "text", "text": "x"}]},
    ),
    Route("DELETE", MESSAGES, CLEARED),
    Route("GET", MESSAGE, ["get_message"]),
    Route(
        "PATCH",
        MESSAGE,
        write("patch_message", "count_messages", "patch_message", "patch_message"),
        {"model_id": "x"},
    ),
    Route("DELETE", MESSAGE, DELETED),
    Route("DELETE", MESSAGE, DELETED, None, {"If-Match": "{tag}"}),
    Route("GET", "/api/v1/analytics/usage?", ["get_usage"]),
    Route("GET", "/api/v1/analytics/agents?", ["get_agents"]),
    Route("GET", "/api/v1/analytics/models?", ["get_models"]),
    Route("GET", "/api/v1/analytics/summary?", ["get_summary"]),
    Route("GET", "/api/v1/search?q=x", ["search"]),
    Route("GET", "/api/v1/search?q=x&limit=1&role=user&since=2026-01-01", ["search"]),
]


class Wire:
    """The libpq trace of the single connection of an application."""

    def __init__(self, app: Flask, trace: Any) -> None:
        self.client = app.test_client()
        self._trace = trace
        self._prepared: dict[str, str] = {}

    def clear(self) -> None:
        """Clear the trace, but keep the prepared statements."""
        self.round_trips()
        self._trace.truncate(0)

    def round_trips(self) -> list[list[str]]:
        """Return the names of the statements since `clear`, as a list for each round trip."""
        self._trace.seek(0)
        # F is a message to the server, B one from it; the text of a statement may span lines.
        sent = re.findall(
            r"^F\t\d+\t(\w+)(.*?)(?=^[FB]\t|\Z)", self._trace.read().decode(), re.DOTALL | re.MULTILINE
        )
        trips: list[list[str]] = [[]]
        for kind, text in sent:
            if kind == "Parse":
                [name] = re.findall(r'^\t "(\w*)"', text)
                self._prepared[name] = text
            elif kind == "Bind":
                [name] = re.findall(r'^\t "" "(\w*)"', text)
                trips[-1] += re.findall(r"/\* (\w+)", self._prepared[name])
            elif kind == "Query":
                trips += [re.findall(r"/\* (\w+)", text) or [text], []]
            elif kind == "Sync":
                trips.append([])
        return [trip for trip in trips if trip]


@pytest.fixture
def wire(make_app: Callable[..., Flask], monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """An application with one connection, of which libpq traces each message."""
    monkeypatch.setattr(Expiry, "start", lambda _: None)
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
def test_route_takes_one_round_trip(client: FlaskClient, wire: Wire, route: Route) -> None:
    session = client.post(SESSIONS, json={}).get_json()
    added = client.post(MESSAGES.format(session_id=session["id"]), json=NEW)
    values = {"session_id": session["id"], "message_id": added.get_json()["id"], "tag": added.headers["ETag"]}
    headers = {name: value.format(**values) for name, value in (route.headers or {}).items()}
    wire.clear()
    response = wire.client.open(
        route.path.format(**values), method=route.method, json=route.body, headers=headers
    )
    assert response.status_code < 400
    expected = [route.statements] if route.statements else []
    if route.path == "/health/detailed":
        # The count of old words needs the current schema.
        expected = [["has_citus"], *expected, ["count_old_words"]]
    assert wire.round_trips() == expected


@pytest.mark.parametrize(
    ("method", "path", "round_trips"),
    [
        ("GET", SESSION, [["get_session"]] * 2),
        ("GET", SESSION + "?messages_limit=1", [["get_session"]] * 2),
        ("GET", SESSION + "?branches=all", [["get_session"]]),
        ("GET", SESSION + "?head_id={head_id}", [["get_session"]] * 2),
        ("PATCH", SESSION, [PATCHED_SESSION, ["get_session"]]),
        ("GET", MESSAGES, [["list_messages"]] * 2),
        ("GET", MESSAGES + "?after_seq=1", [["list_messages"]] * 2),
        ("GET", MESSAGES + "?before_seq=9", [["list_messages"]] * 2),
        ("GET", MESSAGES + "?branches=all", [["list_messages"]]),
        ("GET", MESSAGES + "?head_id={head_id}", [["list_messages"]] * 2),
        ("GET", MESSAGES + "?max_tokens=9", [["list_messages"]]),
    ],
)
def test_read_of_a_branch_takes_a_second_round_trip(
    client: FlaskClient, wire: Wire, method: str, path: str, round_trips: list[list[str]]
) -> None:
    session = client.post(SESSIONS, json={"messages": [NEW, {**NEW, "parent_id": None}]}).get_json()
    target = path.format(session_id=session["id"], head_id=session["head_id"])
    body = {"title": "x"} if method == "PATCH" else None
    wire.clear()
    response = wire.client.open(target, method=method, json=body)
    assert response.status_code == 200
    assert wire.round_trips() == round_trips


@pytest.mark.parametrize("path", [SESSION, MESSAGES])
def test_known_branch_takes_one_round_trip(client: FlaskClient, wire: Wire, path: str) -> None:
    session = client.post(SESSIONS, json={"messages": [NEW, {**NEW, "parent_id": None}]}).get_json()
    target = path.format(session_id=session["id"])
    tag = client.get(target).headers["ETag"]
    wire.clear()
    assert wire.client.get(target, headers={"If-None-Match": tag}).status_code == 304
    assert len(wire.round_trips()) == 1


@pytest.mark.parametrize("head", ["newest", "oldest"])
def test_append_to_a_branch_takes_one_round_trip_after_the_newest_message(
    client: FlaskClient, wire: Wire, head: str
) -> None:
    messages = [{**NEW, "id": str(UUID(int=number)), "parent_id": None} for number in (1, 2)]
    head_id = messages[-1 if head == "newest" else 0]["id"]
    session = client.post(SESSIONS, json={"messages": messages, "head_id": head_id}).get_json()
    wire.clear()
    added = wire.client.post(MESSAGES.format(session_id=session["id"]), json=NEW).get_json()
    assert added["parent_id"] == head_id
    plain = write(*["append_plain_message"] * 3)
    whole = write("add_messages", "count_messages", "add_messages")
    assert wire.round_trips() == ([plain] if head == "newest" else [plain, whole])


@pytest.mark.parametrize("status", ["streaming", "complete"])
def test_patch_of_a_content_takes_one_round_trip_while_it_streams(
    client: FlaskClient, wire: Wire, status: str
) -> None:
    session = client.post(SESSIONS, json={}).get_json()
    path = MESSAGES.format(session_id=session["id"])
    message = client.post(path, json={**NEW, "status": status}).headers["Location"]
    wire.clear()
    assert wire.client.patch(message, json={"content": "y"}).status_code == 200
    streamed = write("patch_message", "patch_message", "patch_message")
    whole = write("patch_message", "count_messages", "patch_message", "patch_message")
    assert wire.round_trips() == ([streamed] if status == "streaming" else [streamed, whole])


def test_patch_that_ends_a_stream_without_its_content_reads_it_first(client: FlaskClient, wire: Wire) -> None:
    path = MESSAGES.format(session_id=client.post(SESSIONS, json={}).get_json()["id"])
    message = client.post(path, json={**NEW, "status": "streaming"}).headers["Location"]
    wire.clear()
    assert wire.client.patch(message, json={"status": "complete"}).status_code == 200
    begin, read, written, commit = wire.round_trips()
    assert ("BEGIN" in begin[0], "COMMIT" in commit[0]) == (True, True)
    assert read == ["lock_session", "patch_message"]
    assert written == ["patch_message", "count_messages", "patch_message", "patch_message"]


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
@pytest.mark.parametrize("path", [SESSION, MESSAGE])
def test_refused_write_takes_one_round_trip(client: FlaskClient, wire: Wire, method: str, path: str) -> None:
    session = client.post(SESSIONS, json={}).get_json()["id"]
    message = client.post(MESSAGES.format(session_id=session), json=NEW).get_json()["id"]
    for session_id, status in ((session, 412), (message, 404)):
        wire.clear()
        target = path.format(session_id=session_id, message_id=message)
        response = wire.client.open(target, method=method, json={}, headers={"If-Match": '"stale"'})
        assert response.status_code == status
        assert len(wire.round_trips()) == 1


IMAGE = {**NEW, "images": [data_url(png())]}
FILE = {
    "role": "user",
    "parts": [{"type": "file", "data": data_url(b"%PDF-" + b"x" * 2000, "application/pdf")}],
}


# What a write may carry beside the bodies of ROUTES.
WRITES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", SESSIONS, {"id": "{new_id}", "title": "x", "metadata": {"a": 1}, "archived": True}),
    ("POST", SESSIONS, {"messages": [NEW, IMAGE, FILE]}),
    ("POST", SESSIONS, {"messages": [NEW, {**NEW, "parent_id": None}]}),
    ("POST", MESSAGES, IMAGE),
    ("POST", MESSAGES, FILE),
    ("POST", MESSAGES, {**NEW, "metadata": {"a": 1}, "status": "streaming"}),
    ("POST", MESSAGES, {**NEW, "id": "{new_id}"}),
    ("POST", MESSAGES, {**NEW, "parent_id": None}),
    ("POST", MESSAGES, {**NEW, "parent_id": "{message_id}"}),
    ("POST", MESSAGES, {**NEW, "images": ["/api/v1/attachments/{sha256}"]}),
    ("POST", MESSAGES, {"messages": [NEW] * 100, "session": {"title": "x", "metadata": {"a": 1}}}),
    ("POST", MESSAGES, {"messages": [IMAGE, FILE], "session": {"archived": True, "head_id": "{message_id}"}}),
    ("PATCH", MESSAGE, {"metadata": {"a": 1}, "is_error": True}),
    ("PATCH", MESSAGE, {"images": IMAGE["images"], "documents": ["a.pdf"]}),
    ("PATCH", MESSAGE, {"images": ["/api/v1/attachments/{sha256}"], "metadata": {"a": 1}}),
    ("PATCH", SESSION, {"metadata": {"a": 1}}),
    ("PATCH", SESSION, {"archived": True, "title": "x"}),
    ("PATCH", SESSION, {"head_id": "{message_id}"}),
    ("POST", f"{SESSIONS}/batch", {"ids": ["{session_id}", "{new_id}"], "action": "archive"}),
    ("POST", f"{SESSIONS}/batch", {"ids": ["{session_id}", "{new_id}"], "action": "delete"}),
]


@pytest.mark.parametrize(("method", "path", "body"), WRITES)
@pytest.mark.parametrize("headers", [{}, KEY])
def test_write_takes_one_round_trip(  # noqa: PLR0917 - two fixtures and four parameters
    client: FlaskClient,
    wire: Wire,
    method: str,
    path: str,
    body: dict[str, Any],
    headers: dict[str, str],
) -> None:
    session = client.post(SESSIONS, json={"messages": [IMAGE, NEW]}).get_json()
    message = session["messages"][-1]
    values = {
        "session_id": session["id"],
        "message_id": message["id"],
        "new_id": "0190a1b2-0000-7000-8000-000000000000",
        "sha256": session["messages"][0]["images"][0].rsplit("/", 1)[1],
    }
    filled = re.sub(r"\{(\w+)\}", lambda found: values[found[1]], json.dumps(body))
    wire.clear()
    response = wire.client.open(
        path.format(**values), method=method, data=filled, headers=headers, content_type="application/json"
    )
    assert response.status_code < 300, response.text
    [statements] = wire.round_trips()
    assert (statements[0], statements[-1]) == ("begin", "commit")


def test_creation_with_a_link_to_an_image_takes_three_round_trips(client: FlaskClient, wire: Wire) -> None:
    images = client.post(SESSIONS, json={"messages": [IMAGE]}).get_json()["messages"][0]["images"]
    wire.clear()
    response = wire.client.post(SESSIONS, json={"messages": [{**NEW, "images": images}]})
    assert response.status_code == 201
    begin, written, commit = wire.round_trips()
    assert ("BEGIN" in begin[0], written[0], "COMMIT" in commit[0]) == (True, "find_unknown", True)


@pytest.mark.parametrize(("path", "body"), [(SESSIONS, {}), (MESSAGES, NEW)])
def test_replay_takes_one_round_trip(
    client: FlaskClient, wire: Wire, path: str, body: dict[str, Any]
) -> None:
    path = path.format(session_id=client.post(SESSIONS, json={}).get_json()["id"])
    for _ in range(2):
        wire.clear()
        response = wire.client.post(path, json=body, headers=KEY)
        assert len(wire.round_trips()) == 1
    assert response.headers["Idempotency-Replayed"] == "true"


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
        (endpoint, method)
        for endpoint, method in served - counted
        # Methods that are only refused run no statement.
        if method not in ("HEAD", "OPTIONS") and not endpoint.endswith("._refuse_method")
    }
    # An export reads a page in each round trip.
    assert uncounted == {("mai_sessions.export_sessions", "GET"), ("mai_sessions.get_attachment", "GET")}
