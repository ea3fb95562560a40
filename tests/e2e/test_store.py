"""The store of the frontend, replayed: with repeated and interrupted requests the service holds the store's
data.
"""

import json
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.chats import SESSIONS
from support.samples import data_url, png
from support.service import Service

pytestmark = pytest.mark.parametrize("service", ["direct", "pgbouncer"], indirect=True, scope="module")

IMAGES = [data_url(png(noise=str(n).encode())) for n in range(3)]
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=150)
TITLE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
# How a request goes: well; sent again although it got its response; or with the connection cut before the
# response, and sent again.
MANNER = st.sampled_from(["once", "twice", "cut"])


@dataclass
class Message:
    """A message in the store."""

    id: str
    seq: int
    role: str
    content: str
    images: int
    is_error: bool = False


@dataclass
class Session:
    """A session in the store."""

    title: str
    messages: list[Message] = field(default_factory=list)
    last_seq: int = 0


class Store(RuleBasedStateMachine):
    """The actions of the store, against the service and against a model."""

    service: ClassVar[Service]

    @initialize()
    def _start(self) -> None:
        """Ignore the sessions of other runs."""
        self.sessions: dict[str, Session] = {}
        self.http = HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        for session in self._ask("GET", f"{SESSIONS}?limit=100")[1]["sessions"]:
            self._ask("DELETE", f"{SESSIONS}/{session['id']}")

    def teardown(self) -> None:
        self.http.close()

    @rule(title=TITLE, manner=MANNER)
    def create_session(self, title: str, manner: str) -> None:
        session_id = str(uuid4())
        status, body = self._write("POST", SESSIONS, {"id": session_id, "title": title}, manner)
        assert (status, body["id"]) == (201, session_id)
        self._touch(session_id, Session(title if title.strip() else "New Chat"))

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), manner=MANNER)
    def delete_session(self, data: st.DataObject, manner: str) -> None:
        session_id = self._some_session(data)
        status, _ = self._write("DELETE", f"{SESSIONS}/{session_id}", None, manner)
        assert status == (204 if manner == "once" else 404)
        del self.sessions[session_id]

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), title=TITLE, manner=MANNER)
    def rename_session(self, data: st.DataObject, title: str, manner: str) -> None:
        session_id = self._some_session(data)
        assert self._write("PATCH", f"{SESSIONS}/{session_id}", {"title": title}, manner)[0] == 200
        self.sessions[session_id].title = title if title.strip() else "New Chat"
        self._touch(session_id)

    @precondition(lambda self: self.sessions)
    @rule(
        data=st.data(),
        content=TEXT,
        role=st.sampled_from(["user", "assistant", "system", "tool"]),
        images=st.lists(st.sampled_from(IMAGES), max_size=3),
        manner=MANNER,
    )
    def add_message(
        self, data: st.DataObject, content: str, role: str, images: list[str], manner: str
    ) -> None:
        session_id = self._some_session(data)
        session = self.sessions[session_id]
        payload = {"role": role, "content": content, "images": images, "createdAt": "2026-11-22"}
        status, body = self._write("POST", f"{SESSIONS}/{session_id}/messages", payload, manner)
        assert status == 201
        session.last_seq += 1
        session.messages.append(Message(body["id"], session.last_seq, role, content, len(images)))
        self._touch(session_id)

    @precondition(lambda self: any(session.messages for session in self.sessions.values()))
    @rule(data=st.data(), content=TEXT, is_error=st.booleans(), manner=MANNER)
    def update_message(self, data: st.DataObject, content: str, is_error: bool, manner: str) -> None:
        session_id, message = self._some_message(data)
        payload = {"content": content, "is_error": is_error}
        assert (
            self._write("PATCH", f"{SESSIONS}/{session_id}/messages/{message.id}", payload, manner)[0] == 200
        )
        message.content, message.is_error = content, is_error
        self._touch(session_id)

    @precondition(lambda self: any(session.messages for session in self.sessions.values()))
    @rule(data=st.data(), manner=MANNER)
    def delete_message(self, data: st.DataObject, manner: str) -> None:
        session_id, message = self._some_message(data)
        status, _ = self._write("DELETE", f"{SESSIONS}/{session_id}/messages/{message.id}", None, manner)
        assert status == (204 if manner == "once" else 404)
        self.sessions[session_id].messages.remove(message)
        self._touch(session_id)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), manner=MANNER)
    def clear_messages(self, data: st.DataObject, manner: str) -> None:
        session_id = self._some_session(data)
        assert self._write("DELETE", f"{SESSIONS}/{session_id}/messages", None, manner)[0] == 204
        self.sessions[session_id].messages.clear()
        self._touch(session_id)

    @invariant()
    def service_holds_what_the_store_holds(self) -> None:
        _, page = self._ask("GET", f"{SESSIONS}?limit=100")
        assert [session["id"] for session in page["sessions"]] == list(reversed(self.sessions))
        assert page["total"] == len(self.sessions)
        for summary in page["sessions"]:
            model = self.sessions[summary["id"]]
            _, detail = self._ask("GET", f"{SESSIONS}/{summary['id']}")
            messages = detail.pop("messages")
            assert detail == summary
            assert (summary["title"], summary["message_count"]) == (model.title, len(model.messages))
            assert summary["last_message_preview"] == (
                model.messages[-1].content[:100] if model.messages else None
            )
            assert [
                Message(m["id"], m["seq"], m["role"], m["content"], len(m["images"]), m["is_error"])
                for m in messages
            ] == model.messages

    def _some_session(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(list(self.sessions)))

    def _some_message(self, data: st.DataObject) -> tuple[str, Message]:
        return data.draw(
            st.sampled_from(
                [(key, message) for key, session in self.sessions.items() for message in session.messages]
            )
        )

    def _touch(self, session_id: str, session: Session | None = None) -> None:
        """Move a session to the end: it was written last."""
        self.sessions[session_id] = session or self.sessions.pop(session_id)

    def _write(self, method: str, path: str, payload: Any, manner: str) -> tuple[int, Any]:
        headers = {"Idempotency-Key": str(uuid4())}
        if manner == "cut":
            self._ask_and_cut(method, path, payload, headers)
        first = self._ask(method, path, payload, headers)
        if manner == "twice":
            again = self._ask(method, path, payload, headers)
            if method == "POST":
                assert again == first
            return again
        return first

    def _ask(self, method: str, path: str, payload: Any = None, headers: Any = None) -> tuple[int, Any]:
        self._send(self.http, method, path, payload, headers)
        response: HTTPResponse = self.http.getresponse()
        body = response.read()
        return response.status, json.loads(body) if body else None

    def _ask_and_cut(self, method: str, path: str, payload: Any, headers: Any) -> None:
        """Close the connection when the response arrives: the write is done, but the client does not know."""
        with self._connection() as http:
            self._send(http, method, path, payload, headers)
            assert isinstance(http.sock, socket.socket)
            select.select([http.sock], [], [], 30)

    @contextmanager
    def _connection(self) -> Iterator[HTTPConnection]:
        http = HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        try:
            yield http
        finally:
            http.close()

    @staticmethod
    def _send(http: HTTPConnection, method: str, path: str, payload: Any, headers: Any) -> None:
        body = None if payload is None else json.dumps(payload)
        http.request(
            method, path, body, {**(headers or {}), **({"Content-Type": "application/json"} if body else {})}
        )


def test_service_holds_the_data_of_the_store(service: Service) -> None:
    """A thousand actions: 20 runs of 50."""
    Store.service = service
    run_state_machine_as_test(
        Store,
        settings=settings(
            max_examples=20,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            database=None,
        ),
    )
