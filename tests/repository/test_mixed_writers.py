"""Concurrent clients write to the same sessions in all ways: no request fails, and all sums are correct."""

import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

from flask import Flask
from flask.testing import FlaskClient
from support.races import at_once
from support.samples import data_url, png
from support.scripts import RunChecks

SESSIONS = [f"/api/v1/sessions/{UUID(int=number)}" for number in range(1, 5)]
MESSAGES = [str(UUID(int=number)) for number in range(10, 16)]
IMAGES = [data_url(png(noise=bytes([number]))) for number in range(5)]
FILES = [data_url(bytes([number]) * 1000, "application/pdf") for number in range(3)]


class Writer:
    """A client that writes in all ways to a few sessions, messages, keys and files that others write to."""

    def __init__(self, client: FlaskClient, seed: int) -> None:
        self.failures: list[Any] = []
        self._client = client
        self._random = random.Random(seed)

    def run(self) -> None:
        """Send one write after the other."""
        for _ in range(100):
            path, chance = self._random.choice(SESSIONS), self._random
            message_path = f"{path}/messages/{chance.choice(MESSAGES)}"
            new = {"id": path[-36:], "title": "x", "messages": [self._message()]}
            batch = {"messages": [self._message() for _ in range(3)], "session": self._changes()}
            removal = {"ids": [each[-36:] for each in chance.sample(SESSIONS, 3)], "action": "delete"}
            method, url, body = chance.choice(
                [
                    ("POST", "/api/v1/sessions", new),
                    ("POST", f"{path}/messages", self._message()),
                    ("POST", f"{path}/messages", batch),
                    ("PATCH", path, self._changes()),
                    ("PATCH", message_path, {"content": "y", "status": "complete"}),
                    ("PATCH", message_path, {"images": chance.sample(IMAGES, 2)}),
                    ("DELETE", message_path, None),
                    ("DELETE", f"{path}/messages", None),
                    ("DELETE", path, None),
                    ("POST", "/api/v1/sessions/batch", removal),
                    (
                        "POST",
                        "/api/v1/sessions/batch",
                        {**removal, "action": chance.choice(["archive", "unarchive"])},
                    ),
                ]
            )
            headers = {"Idempotency-Key": chance.choice("abc")} if chance.random() < 0.3 else {}
            response = self._client.open(url, method=method, json=body, headers=headers)
            if response.status_code >= 500:
                self.failures.append((method, url, response.get_json()))

    def _message(self) -> dict[str, Any]:
        chance = self._random
        file = {"type": "file", "data": chance.choice(FILES)}
        optional = {
            "id": chance.choice(MESSAGES),
            "images": chance.sample(IMAGES, 2),
            "parent_id": None,
            "parts": [{"type": "text", "text": "x"}, file],
            "status": "streaming",
        }
        some = {name: value for name, value in optional.items() if chance.random() < 0.3}
        return {"role": "user", "content": "hello", **some}

    def _changes(self) -> dict[str, Any]:
        optional = {"title": "y", "archived": self._random.random() < 0.5, "metadata": {"z": 1}}
        return dict(self._random.sample(list(optional.items()), 2))


def test_concurrent_writes_of_all_kinds_succeed(
    make_app: Callable[..., Flask], run_checks: RunChecks
) -> None:
    app = make_app(threads=8, pool_timeout=60)
    writers = [Writer(app.test_client(), random.randrange(2**32)) for _ in range(8)]
    at_once(len(writers), lambda number: writers[number].run())
    assert [failure for writer in writers for failure in writer.failures] == []
    assert run_checks() == {}
