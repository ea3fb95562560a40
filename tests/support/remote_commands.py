"""The commands that a Citus coordinator sends to the nodes for one connection, or for one request."""

import re
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg
from flask.testing import FlaskClient
from psycopg.errors import Diagnostic
from support.chats import SESSIONS

# Parts of commands that copy rows between the nodes, or commit in two phases.
BETWEEN_NODES = ["PREPARE TRANSACTION", "COMMIT PREPARED", "intermediate_result", "COPY ", "fetch_inter"]
_READS = {"SELECT", "WITH"}


class Command(NamedTuple):
    """A command that the coordinator has sent, and the node that it was sent to."""

    text: str
    node: str

    @property
    def verb(self) -> str:
        return "BEGIN" if "BEGIN" in self.text else re.sub(r"\W.*", "", self.text, flags=re.DOTALL).upper()


class RemoteCommands:
    """The commands of one connection since the last `clear`."""

    def __init__(self, conn: psycopg.Connection[Any]) -> None:
        self._commands: list[Command] = []
        conn.execute("SET citus.log_remote_commands = on")
        conn.execute("SET client_min_messages = log")
        conn.add_notice_handler(self._collect)

    def _collect(self, notice: Diagnostic) -> None:
        text = notice.message_primary or ""
        if text.startswith("issuing "):
            node = (notice.message_detail or "").split()[2]
            self._commands.append(Command(text.removeprefix("issuing ").strip(), node))

    def clear(self) -> None:
        """Forget the commands."""
        self._commands.clear()

    @property
    def verbs(self) -> list[str]:
        """The verbs of the commands, but for those that set up a connection between nodes."""
        return [command.verb for command in self._commands if command.verb != "SET"]

    @property
    def transactions(self) -> int:
        """The number of transactions that were committed on a node."""
        return self.verbs.count("COMMIT")

    def assert_one_phase(self) -> None:
        """Check that no command moved rows between nodes or commits in two phases."""
        for command in self._commands:
            assert not [part for part in BETWEEN_NODES if part in command.text], command

    def assert_one_node(self) -> None:
        """Check the same, that all commands went to one node, and that what writes stands between BEGIN and
        COMMIT.
        """
        self.assert_one_phase()
        assert len({command.node for command in self._commands}) == 1, self._commands
        in_transaction = False
        for verb in self.verbs:
            if verb in ("BEGIN", "COMMIT", "ROLLBACK"):
                assert in_transaction == (verb != "BEGIN"), self.verbs
                in_transaction = verb == "BEGIN"
            else:
                assert in_transaction or verb in _READS, self.verbs
        assert not in_transaction


class Wire:
    """A client, the commands for its last request, and what bodies may name in braces: `ids`."""

    def __init__(self, client: FlaskClient, commands: RemoteCommands) -> None:
        self._client = client
        self.commands = commands
        self.ids = {"new_id": str(uuid4())}

    @property
    def session(self) -> str:
        return f"{SESSIONS}/{self.ids['session_id']}"

    @property
    def messages(self) -> str:
        return f"{self.session}/messages"

    def message(self, name: str) -> str:
        """The path of a message in `ids`."""
        return f"{self.messages}/{self.ids[f'{name}_id']}"

    def request(
        self, method: str, path: str, body: Any = None, expected: int | None = None, **headers: str
    ) -> Any:
        """Send a request, check that it concerns one node, and return the body of the response."""
        self.commands.clear()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        response = self._client.open(path, method=method, json=self.filled(body), headers=names)
        assert response.status_code == (expected or {"POST": 201, "DELETE": 204}.get(method, 200)), (
            response.text
        )
        self.commands.assert_one_node()
        return response.get_json(silent=True)

    def write(
        self, method: str, path: str, body: Any = None, expected: int | None = None, **headers: str
    ) -> Any:
        """Send a request that writes, and check that it is one transaction on one node."""
        result = self.request(method, path, body, expected, **headers)
        assert self.commands.verbs[0] == "BEGIN"
        assert self.commands.transactions == 1
        return result

    def filled(self, body: Any) -> Any:
        """Return a body or query with the values of `ids` in the place of their names."""
        match body:
            case str():
                return self.ids.get(body.strip("{}"), body)
            case dict():
                return {name: self.filled(value) for name, value in body.items()}
            case list():
                return [self.filled(value) for value in body]
        return body
