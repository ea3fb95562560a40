"""What the coordinator sends to the nodes for each request: one transaction on one node, whatever the
values.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from psycopg.errors import Diagnostic
from support.samples import data_url, png

SESSIONS = "/api/v1/sessions"
# Parts of commands that copy rows between the nodes, or commit in two phases.
BETWEEN_NODES = ["PREPARE TRANSACTION", "COMMIT PREPARED", "intermediate_result", "COPY ", "fetch_inter"]


class Command(NamedTuple):
    """A command that the coordinator has sent, and the node that it was sent to."""

    text: str
    node: str

    @property
    def verb(self) -> str:
        return "BEGIN" if "BEGIN" in self.text else re.sub(r"\W.*", "", self.text, flags=re.DOTALL).upper()


class Wire:
    """A client, and what the coordinator sends for its requests."""

    def __init__(self, client: FlaskClient, commands: list[Command]) -> None:
        self._client = client
        self._commands = commands

    def request(
        self, method: str, path: str, body: Any = None, expected: int | None = None, **headers: str
    ) -> Any:
        """Send a request and return the body of the response; `commands` are then those of this request."""
        self._commands.clear()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self._client.open(path, method=method, json=body, headers=names)
        assert response.status_code == (expected or {"POST": 201, "DELETE": 204}.get(method, 200)), (
            response.text
        )
        return response.get_json(silent=True)

    @property
    def verbs(self) -> list[str]:
        """The commands of the last request, but for those that set up a connection between nodes."""
        return [command.verb for command in self._commands if command.verb != "SET"]

    def assert_one_node(self) -> None:
        """Check that the commands of the last request went to one node, and none moved rows between nodes."""
        assert len({command.node for command in self._commands}) == 1, self._commands
        for command in self._commands:
            assert not [part for part in BETWEEN_NODES if part in command.text], command

    def write(
        self, method: str, path: str, body: Any = None, expected: int | None = None, **headers: str
    ) -> Any:
        """Send a request that writes, and check that it is one transaction on one node."""
        result = self.request(method, path, body, expected, **headers)
        self.assert_one_node()
        assert self.verbs[0] == "BEGIN"
        assert self.verbs[-1] == "COMMIT"
        assert (self.verbs.count("BEGIN"), self.verbs.count("COMMIT")) == (1, 1)
        return result


@pytest.fixture
def wire(make_app: Callable[..., Any]) -> Wire:
    """A client of an application with one connection, whose commands to the nodes are collected."""
    commands: list[Command] = []

    def collect(notice: Diagnostic) -> None:
        text = notice.message_primary or ""
        if text.startswith("issuing "):
            commands.append(
                Command(text.removeprefix("issuing ").strip(), (notice.message_detail or "").split()[2])
            )

    app = make_app(threads=1)
    with app.extensions["mai_sessions"].database.connection() as conn:
        conn.execute("SET citus.log_remote_commands = on")
        conn.execute("SET client_min_messages = log")
        conn.add_notice_handler(collect)
    return Wire(app.test_client(), commands)


@pytest.fixture
def session(wire: Wire) -> str:
    """The path of a session."""
    return f"{SESSIONS}/{wire.request('POST', SESSIONS, {'title': 'Trip'})['id']}"


def test_append_is_a_transaction_of_plain_statements(wire: Wire, session: str) -> None:
    wire.write("POST", f"{session}/messages", {"role": "user", "content": "hi"})
    assert set(wire.verbs) == {"BEGIN", "UPDATE", "INSERT", "COMMIT"}


MESSAGE = {"role": "user", "content": "hi"}
ANSWER = {
    "role": "assistant",
    "content": "A lighthouse",
    "model_id": "opus",
    "agent_name": "coder",
    "response_time_ms": 1.5,
    "is_error": True,
    "token_count": 3,
    "documents": ["a.pdf"],
}
APPENDS = [
    MESSAGE,
    ANSWER,
    {**MESSAGE, "content": ""},
    {**MESSAGE, "model_id": None, "agent_name": None, "response_time_ms": None},
    {**ANSWER, "images": [data_url(png()), data_url(png(noise=b"2"))]},
    {**MESSAGE, "images": [data_url(png())] * 2},
]


@pytest.mark.parametrize("message", APPENDS)
def test_append_stays_on_one_node(wire: Wire, session: str, message: dict[str, Any]) -> None:
    for headers in ({}, {"Idempotency_Key": str(uuid4())}):
        wire.write("POST", f"{session}/messages", message, **headers)


@pytest.mark.parametrize("path", [SESSIONS, "messages"])
def test_key_and_its_replay_stay_on_one_node(wire: Wire, session: str, path: str) -> None:
    path = f"{session}/messages" if path == "messages" else path
    key = str(uuid4())
    first = wire.write("POST", path, {**MESSAGE, "title": "Trip"}, Idempotency_Key=key)
    again = wire.request("POST", path, {**MESSAGE, "title": "Trip"}, Idempotency_Key=key)
    wire.assert_one_node()
    assert again == first
    wire.request("POST", path, {**MESSAGE, "content": "ho", "title": "Tour"}, 422, Idempotency_Key=key)
    wire.assert_one_node()


PATCHES = [
    {},
    {"content": "changed"},
    {"content": ""},
    {"content": None, "model_id": None},
    {"model_id": "opus", "agent_name": "coder"},
    {"response_time_ms": 3, "is_error": True, "token_count": 9},
]


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("message", [MESSAGE, APPENDS[-1]])
def test_patch_of_a_message_stays_on_one_node(
    wire: Wire, session: str, message: dict[str, Any], patch: dict[str, Any]
) -> None:
    path = f"{session}/messages/{wire.request('POST', f'{session}/messages', message)['id']}"
    wire.request("PATCH", path, patch)
    wire.assert_one_node()
    wire.request("PATCH", path, patch, 412, If_Match=f'"{uuid4()}"')
    wire.assert_one_node()


@pytest.mark.parametrize("message", [MESSAGE, APPENDS[-1], APPENDS[-2]])
def test_removals_stay_on_one_node(wire: Wire, session: str, message: dict[str, Any]) -> None:
    paths = [
        f"{session}/messages/{wire.request('POST', f'{session}/messages', message)['id']}" for _ in range(3)
    ]
    for path in (paths[0], f"{session}/messages", session):
        wire.request("DELETE", path, expected=412, If_Match=f'"{uuid4()}"')
        wire.assert_one_node()
        wire.write("DELETE", path)


def test_session_writes_stay_on_one_node(wire: Wire, session: str) -> None:
    for body in ({}, {"title": "Tour"}, {"title": "Tour", "agent_name": "coder", "model_id": "opus"}):
        wire.write("POST", SESSIONS, body)
    for patch in ({"title": "Voyage"}, {"agent_name": "coder"}, {"model_id": "opus", "title": "Voyage"}):
        wire.request("PATCH", session, patch)
        wire.assert_one_node()
    identifier = str(uuid4())
    assert wire.write("POST", SESSIONS, {"id": identifier})["id"] == identifier
    wire.request("POST", SESSIONS, {"id": identifier}, 200)
    wire.assert_one_node()


def test_reads_are_one_command(wire: Wire, session: str) -> None:
    message = wire.request("POST", f"{session}/messages", APPENDS[-2])
    for path in (
        SESSIONS,
        f"{SESSIONS}?search=tri",
        session,
        f"{session}/messages",
        f"{session}/messages?before_seq=9&limit=3",
        f"{session}/messages/{message['id']}",
        "/api/v1/search?q=lighthouse",
        "/api/v1/search?q=light*&role=assistant&limit=3",
        "/api/v1/analytics/usage",
        "/api/v1/analytics/agents",
        "/api/v1/analytics/models",
        "/api/v1/analytics/summary",
        message["images"][0],
    ):
        wire.request("GET", path)
        wire.assert_one_node()
        assert wire.verbs in (["SELECT"], ["WITH"]), (path, wire.verbs)
