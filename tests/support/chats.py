"""The paths of the API, and chats that no request made."""

from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg

SESSIONS = "/api/v1/sessions"


class Chat(NamedTuple):
    """The paths of a session, of its messages, and of one of them."""

    session: str
    messages: str
    message: str


def insert_chat(conn: psycopg.Connection[Any], user_id: str, session_id: UUID) -> Chat:
    """Give a user a session, titled `Secret`, with one message, and nothing of the service between."""
    message_id = uuid4()
    conn.execute("INSERT INTO users (user_id, session_count) VALUES (%s, 1)", [user_id])
    conn.execute(
        """
        INSERT INTO sessions (user_id, id, title, agent_name, version, message_count, last_seq, newest_seq,
                              last_message_preview)
        VALUES (%s, %s, 'Secret', 'chat', gen_random_uuid(), 1, 1, 1, 'secret')""",
        [user_id, session_id],
    )
    conn.execute(
        """
        INSERT INTO messages (user_id, session_id, id, created_at, seq, token_count, is_error, role, content,
                              images, documents)
        VALUES (%s, %s, %s, now(), 1, 1, false, 'user', 'secret', '{}', '{}')""",
        [user_id, session_id, message_id],
    )
    messages = f"{SESSIONS}/{session_id}/messages"
    return Chat(f"{SESSIONS}/{session_id}", messages, f"{messages}/{message_id}")
