"""The calls on a session and its messages, for tests of rules that hold for all of them."""

from support.chats import SESSIONS, Chat

# Method, path by its name in Chat, and body.
CALLS = [
    ("GET", "session", None),
    ("PATCH", "session", {"title": "x"}),
    ("DELETE", "session", None),
    ("GET", "messages", None),
    ("POST", "messages", {"role": "user", "content": "x"}),
    ("DELETE", "messages", None),
    ("GET", "message", None),
    ("PATCH", "message", {"content": "x"}),
    ("DELETE", "message", None),
]
# Method and path of the routes that read a body.
WITH_BODY = [("POST", "sessions"), *((method, path) for method, path, body in CALLS if body)]


def path_of(chat: Chat, name: str) -> str:
    """Return a path of the chat by its name, or the path of all sessions."""
    return SESSIONS if name == "sessions" else getattr(chat, name)
