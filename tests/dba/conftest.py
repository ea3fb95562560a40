"""Scripts, run by psql as the role that their header names, and chats to run them on."""

from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
import pytest
from support.samples import png
from support.scripts import USERS

from mai_sessions.content.attachments import LINK, Attachment
from mai_sessions.content.message import UNSET, NewMessage
from mai_sessions.content.metadata import read_metadata
from mai_sessions.content.parts import read_parts
from mai_sessions.idempotency import IdempotencyKey
from mai_sessions.ids import new_id
from mai_sessions.repository.appends import append_messages
from mai_sessions.repository.creations import NewSession, create_session
from mai_sessions.repository.messages import delete_message
from mai_sessions.repository.sessions import patch_session


@pytest.fixture
def chats(conn: psycopg.Connection[Any]) -> dict[str, list[UUID]]:
    """Three sessions of each user: one long, with a gap, a branch and shared images; one short and archived,
    with a file; one empty.
    """
    return {user_id: seed(conn, user_id) for user_id in USERS}


def seed(conn: psycopg.Connection[Any], user_id: str) -> list[UUID]:
    """Create sessions of a user with the functions of the service."""
    session_ids = [new_id() for _ in range(3)]
    for number, session_id in enumerate(session_ids):
        key = IdempotencyKey("sessions", str(session_id), b"body")
        # Before PostgreSQL 18 only titles of ASCII can be checked.
        title = f"It's \\ number {number}" if number else f"Straße of '{user_id}'"
        create_session(conn, user_id, NewSession(session_id, title, "chat"), key=key)
    shared, own = image(b"shared"), image(user_id.encode())._replace(file_name="own.png")
    link = read_parts([{"type": "file", "url": LINK + own.sha256}])
    for session_id, count in zip(session_ids, (6, 2, 0), strict=True):
        ids: list[UUID] = []
        for number in range(count):
            is_short = count == 2
            images = [shared, own, shared] if number == 1 else [shared] if number in (2, 5) else []
            if is_short:
                images = []
            message = NewMessage(
                role=("user", "assistant", "tool")[number % 3],
                content=f"Message {number} \\ it's 東京\n" * 20,
                token_count=number,
                model_id="opus" if number % 2 else None,
                agent_name=("", "coder", None)[number % 3],
                response_time_ms=0.1 * number if number % 3 else None,
                is_error=number == 4,
                images=[each.sha256 for each in images],
                # In the short session only parts link to an attachment.
                parts=link.json if is_short and number else None,
                part_attachments=link.links if is_short and number else (),
                attachments=images or [own] * is_short,
                metadata=read_metadata({"number": number}),
                # The last message of the long session begins a branch.
                parent_id=ids[1] if number == 5 else UNSET,
                documents=['a "b".pdf'] if number == 3 else [],
            )
            key = IdempotencyKey(f"sessions/{session_id}/messages", str(number), b"body")
            reply = append_messages(conn, user_id, session_id, [message], key=key)
            ids += reply.ids
            if number == 2:
                delete_message(conn, user_id, session_id, reply.ids[0])
    patch_session(conn, user_id, session_ids[1], archived=True, metadata=read_metadata({"kept": True}))
    return session_ids


def image(noise: bytes) -> Attachment:
    """A PNG, and its name."""
    content = png(noise=noise)
    return Attachment(sha256(content).hexdigest(), "image/png", content)
