"""Repeated requests cause no error in PostgreSQL. Otherwise its log would grow with each retry."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.races import at_once
from support.service import TREE, wait_until

from mai_sessions import create_app
from mai_sessions.config import Settings
from mai_sessions.content.tokens import load_tokenizer
from mai_sessions.embedded.private_postgres import postgresql
from mai_sessions.importers.run import Import, import_files
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection

SESSION_ID = str(uuid4())
MESSAGE = {"role": "user", "content": "x"}
OWN_ID = {**MESSAGE, "id": str(uuid4())}
KEY = {"Idempotency-Key": "key"}
MESSAGES = f"{SESSIONS}/{SESSION_ID}/messages"

REPEATABLE: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "session of an id": (SESSIONS, {"id": SESSION_ID}, {}),
    "session with a key": (SESSIONS, {"title": "x"}, KEY),
    "session of an id with a key": (SESSIONS, {"id": SESSION_ID}, {"Idempotency-Key": "other"}),
    "session with messages": (SESSIONS, {"id": str(uuid4()), "messages": [MESSAGE]}, {}),
    "session with messages and a key": (SESSIONS, {"messages": [MESSAGE]}, {"Idempotency-Key": "third"}),
    "message of an id": (MESSAGES, OWN_ID, {}),
    "message with a key": (MESSAGES, MESSAGE, KEY),
    "batch of ids": (MESSAGES, {"messages": [OWN_ID, {**MESSAGE, "id": str(uuid4())}]}, {}),
    "batch with a key": (MESSAGES, {"messages": [MESSAGE]}, {"Idempotency-Key": "other"}),
    "deletion of sessions": (f"{SESSIONS}/batch", {"ids": [str(uuid4())], "action": "delete"}, KEY),
}


@pytest.fixture(scope="module")
def site(data_dir: Path) -> Iterator[tuple[FlaskClient, str, Path]]:
    """A client over a private PostgreSQL, its URL, and its data directory."""
    with postgresql(data_dir) as url:
        migrations.migrate(url, "on")
        app = create_app(Settings(database_url=url))
        yield app.test_client(), url, data_dir
        app.extensions["mai_sessions"].close()


@contextmanager
def no_errors(url: str, data_dir: Path) -> Iterator[None]:
    """Check that PostgreSQL logs no error for the length of a `with`."""
    before = errors(data_dir)
    yield
    # A last error, made by the test, shows that errors are logged.
    with psycopg.connect(url) as conn, pytest.raises(psycopg.errors.DivisionByZero):
        conn.execute("SELECT 1 / 0")
    wait_until(lambda: errors(data_dir) > before)
    assert errors(data_dir) == before + 1


def errors(data_dir: Path) -> int:
    """Count the errors in the logs of PostgreSQL."""
    return sum(path.read_text(errors="replace").count("ERROR:") for path in data_dir.rglob("*.log"))


@pytest.mark.parametrize("name", REPEATABLE)
def test_repeated_request_makes_no_error_in_the_log(site: tuple[FlaskClient, str, Path], name: str) -> None:
    client, url, data_dir = site
    path, body, headers = REPEATABLE[name]
    client.post(SESSIONS, json={"id": SESSION_ID})
    with no_errors(url, data_dir):
        for _ in range(3):
            assert client.post(path, json=body, headers=headers).status_code in (200, 201)


@pytest.mark.parametrize(
    "file", ["chatgpt.json", "claude.json", "librechat.json", "openwebui.json", "mai.ndjson"]
)
def test_repeated_import_makes_no_error_in_the_log(site: tuple[FlaskClient, str, Path], file: str) -> None:
    """Also while two imports of the same file meet."""
    _, url, data_dir = site
    path = TREE / "tests" / "importers" / "files" / file

    def run_import(_number: int) -> None:
        with (
            Connection.connect(url, autocommit=True) as first,
            Connection.connect(url, autocommit=True) as second,
        ):
            import_files([first, second], [path], Import("ann", load_tokenizer("words")))

    with no_errors(url, data_dir):
        at_once(2, run_import)
        run_import(0)
