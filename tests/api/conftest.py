"""A session with a message, and one of another user."""

from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask.testing import FlaskClient
from support.chats import SESSIONS, Chat, insert_chat


@pytest.fixture
def session(client: FlaskClient) -> str:
    """The path of a new session."""
    return client.post(SESSIONS, json={}).headers["Location"]


@pytest.fixture
def chat(client: FlaskClient, session: str) -> Chat:
    """A session with one message."""
    messages = f"{session}/messages"
    return Chat(
        session, messages, client.post(messages, json={"role": "user", "content": "hi"}).headers["Location"]
    )


@pytest.fixture
def chat_of_another_user(conn: psycopg.Connection[Any]) -> Chat:
    """A session of another user, with one message."""
    return insert_chat(conn, "another-user", uuid4())
