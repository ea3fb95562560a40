"""Scripts, run by psql as the role that their header names, and chats to run them on."""

import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from support.samples import png
from support.scripts import CHECKS, DBA, USERS, RunChecks, RunScript, header

from mai_sessions.content.attachments import Attachment
from mai_sessions.content.message import NewMessage
from mai_sessions.idempotency import IdempotencyKey
from mai_sessions.ids import new_id
from mai_sessions.repository.appends import append_message
from mai_sessions.repository.messages import delete_message
from mai_sessions.repository.sessions import create_session


@pytest.fixture
def run_script(
    run_program: Callable[..., str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> RunScript:
    """Run a script with variables, and return the lines that it printed: rows without a heading, and errors."""
    monkeypatch.setenv("PSQLRC", str(Path(__file__).with_name("hostile.psqlrc")))

    def run(script: str, url: str = database_url, **variables: Any) -> list[str]:
        role = header(script, "Role")
        if role in ("owner", "maintenance", "readonly"):
            url = make_conninfo(url, user=f"mai_sessions_{role}", password=f"mai_sessions_{role}")
        sets = [f"--set={name}={value}" for name, value in variables.items()]
        command = ["psql", "-qAt", *sets, "-f", str(DBA / script), url]
        return [line for line in run_program(*command, stderr=subprocess.STDOUT).split("\n") if line]

    return run


@pytest.fixture
def run_checks(run_script: RunScript) -> RunChecks:
    """Run every check, and return what they found: nothing of those that are healthy."""
    return lambda **variables: {check: rows for check in CHECKS if (rows := run_script(check, **variables))}


@pytest.fixture
def chats(conn: psycopg.Connection[Any]) -> dict[str, list[UUID]]:
    """Three sessions of each user: one long with a gap and shared images, one short, one empty."""
    return {user_id: seed(conn, user_id) for user_id in USERS}


def seed(conn: psycopg.Connection[Any], user_id: str) -> list[UUID]:
    """Give a user sessions, the way the service does."""
    session_ids = [new_id() for _ in range(3)]
    for number, session_id in enumerate(session_ids):
        key = IdempotencyKey("sessions", str(session_id), b"body")
        # Before PostgreSQL 18 only titles of ASCII can be checked.
        title = f"It's \\ number {number}" if number else f"Straße of '{user_id}'"
        create_session(
            conn, user_id, session_id=session_id, title=title, agent_name="chat", model_id=None, key=key
        )
    shared, own = image(b"shared"), image(user_id.encode())
    for session_id, count in zip(session_ids, (6, 2, 0), strict=True):
        for number in range(count):
            images = [shared, own, shared] if number == 1 else [shared] if number in (2, 5) else []
            message = NewMessage(
                role=("user", "assistant", "tool")[number % 3],
                content=f"Message {number} \\ it's 東京\n" * 20,
                token_count=number,
                model_id="opus" if number % 2 else None,
                agent_name=("", "coder", None)[number % 3],
                response_time_ms=0.1 * number if number % 3 else None,
                is_error=number == 4,
                images=[each.sha256 for each in images],
                attachments=images,
                documents=['a "b".pdf'] if number == 3 else [],
            )
            key = IdempotencyKey(f"sessions/{session_id}/messages", str(number), b"body")
            reply = append_message(conn, user_id, session_id, message, key=key)
            if number == 2:
                delete_message(conn, user_id, session_id, reply.id)
    return session_ids


def image(noise: bytes) -> Attachment:
    """A PNG, and its name."""
    content = png(noise=noise)
    return Attachment(sha256(content).hexdigest(), "image/png", content)
