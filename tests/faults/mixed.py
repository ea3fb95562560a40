"""Clients that do everything at random: create sessions, append with images, patch, read, search, delete."""

import random
from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import orjson
from support.chats import SESSIONS
from support.samples import data_url, png

# The most that a client keeps, so that the database of a long load does not grow.
SESSIONS_KEPT = 4
MESSAGES_KEPT = 40
# Few, so that messages share them.
IMAGES = [data_url(png(noise=bytes([number]))) for number in range(6)]


class Client(Thread):
    """A client that knows what it has: `kept` are its sessions, each with its messages. It stops when `done`
    is set, or its connection breaks.

    With `adopting` it begins with sessions of other clients, which may change them, too.
    """

    def __init__(self, port: int, done: Event, *, adopting: bool = False) -> None:
        super().__init__()
        self.kept: dict[str, list[str]] = {}
        self.statuses: Counter[str] = Counter()
        self._http = HTTPConnection("127.0.0.1", port, timeout=60)
        self._done = done
        self._adopting = adopting
        self._random = random.Random()

    def run(self) -> None:
        """Send one request after the other."""
        actions: dict[Callable[[], None], int] = {
            self.create: 4,
            self.append: 40,
            self.patch_message: 6,
            self.patch_session: 3,
            self.read: 10,
            self.delete_message: 6,
            self.clear: 2,
            self.delete_session: 2,
        }
        try:
            if self._adopting:
                self._adopt()
            while not self._done.is_set():
                self._random.choices(list(actions), list(actions.values()))[0]()
        except (OSError, HTTPException) as error:
            self.statuses[type(error).__name__] += 1
        finally:
            self._http.close()

    def create(self) -> None:
        """Create a session, and delete one where there are enough."""
        if len(self.kept) >= SESSIONS_KEPT:
            self.delete_session()
        status, session = self._request("POST", SESSIONS, {"title": f"Chat {self._random.random()}"})
        if status == 201:
            self.kept[session["id"]] = []

    def append(self) -> None:
        """Add a message, half of the time with a key, at times with images, a shared one among them."""
        session_id = self._session()
        if len(self.kept[session_id]) >= MESSAGES_KEPT:
            self.clear()
            return
        message = {
            "role": self._random.choice(["user", "assistant"]),
            "content": f"Words {self._random.random()} " * self._random.randint(1, 100),
            "model_id": self._random.choice(["opus", None]),
            "images": self._random.sample(IMAGES, self._random.choice([0, 0, 0, 1, 3])),
        }
        key = self._random.choice([str(uuid4()), None])
        status, reply = self._request("POST", f"{SESSIONS}/{session_id}/messages", message, key)
        if status == 201:
            self.kept[session_id].append(reply["id"])

    def patch_message(self) -> None:
        """Replace the content of a message."""
        session_id = self._session()
        if self.kept[session_id]:
            message_id = self._random.choice(self.kept[session_id])
            self._request(
                "PATCH",
                f"{SESSIONS}/{session_id}/messages/{message_id}",
                {"content": "Grown", "is_error": True},
            )

    def patch_session(self) -> None:
        """Rename a session."""
        self._request(
            "PATCH",
            f"{SESSIONS}/{self._session()}?messages_limit=0",
            {"title": f"Renamed {self._random.random()}"},
        )

    def read(self) -> None:
        """Read something."""
        session = f"{SESSIONS}/{self._session()}"
        paths = (
            SESSIONS,
            session,
            f"{session}/messages?limit=20",
            "/api/v1/search?q=words",
            "/api/v1/analytics/usage?",
        )
        self._request("GET", self._random.choice(paths))

    def delete_message(self) -> None:
        """Remove a message, with images or without."""
        session_id = self._session()
        if messages := self.kept[session_id]:
            message_id = self._random.choice(messages)
            status, _ = self._request("DELETE", f"{SESSIONS}/{session_id}/messages/{message_id}")
            if status == 204:
                messages.remove(message_id)

    def clear(self) -> None:
        """Remove all messages of a session."""
        session_id = self._session()
        status, _ = self._request("DELETE", f"{SESSIONS}/{session_id}/messages")
        if status == 204:
            self.kept[session_id] = []

    def delete_session(self) -> None:
        """Remove a session and everything of it."""
        session_id = self._session()
        status, _ = self._request("DELETE", f"{SESSIONS}/{session_id}")
        if status == 204:
            self.kept.pop(session_id)

    def _adopt(self) -> None:
        """Take existing sessions, whichever client created them."""
        _, page = self._request("GET", f"{SESSIONS}?limit=20")
        for session in self._random.sample(page["sessions"], min(2, len(page["sessions"]))):
            status, detail = self._request("GET", f"{SESSIONS}/{session['id']}")
            if status == 200:
                self.kept[session["id"]] = [message["id"] for message in detail["messages"]]

    def _session(self) -> str:
        if not self.kept:
            self.create()
        return self._random.choice(list(self.kept))

    def _request(
        self, method: str, path: str, body: Any = None, idempotency_key: str | None = None
    ) -> tuple[int, Any]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        self._http.request(method, path, None if body is None else orjson.dumps(body), headers)
        response = self._http.getresponse()
        content = response.read()
        self.statuses[str(response.status)] += 1
        if response.status == 404:
            # Another client deleted it, or a message of it.
            self.kept.pop(path.split("/")[4].partition("?")[0], None)
        return response.status, orjson.loads(content) if content else None
