"""Clients that append until they are stopped, and the fate of their messages."""

import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection, HTTPException
from itertools import count
from threading import Event, Lock, Thread
from uuid import uuid4

import orjson
import psycopg
from support.chats import SESSIONS
from support.figures import Figures
from support.service import Service, call

# The errors of a connection that ends during a request.
CUT = ("BrokenPipeError", "ConnectionResetError", "IncompleteRead", "RemoteDisconnected")

# Seconds between two tries. The service asks for 1; shorter pauses show more of the fault.
PAUSE = 0.1


class Clients:
    """Threads that append messages with Idempotency-Keys, each message until it is acknowledged. They wait
    `patience` seconds.
    """

    def __init__(self, service: Service, database_url: str, fault: str, patience: float) -> None:
        self.figures = Figures(fault)
        self._service = service
        self._patience = patience
        self._database_url = database_url
        self._acknowledged: dict[str, str] = {}
        self._at: list[float] = []
        self._over_at: list[float] = []
        self._lock = Lock()
        self._done = Event()
        self._threads: list[Thread] = []

    def start(self, number: int, together: int) -> None:
        """Start clients, of which some share a session."""
        with closing(self._service.connect()) as http:
            paths = [
                f"{SESSIONS}/{call(http, 'POST', SESSIONS, {})[1]['id']}/messages"
                for _ in range(0, number, together)
            ]
        for place in range(number):
            self._threads.append(Thread(target=self._append_on_and_on, args=[paths[place // together]]))
            self._threads[-1].start()

    def wait_for(self, number: int, status: str = "201") -> None:
        """Wait for a number of further responses with this status."""
        wanted, deadline = self.figures.statuses[status] + number, time.monotonic() + 60
        while self.figures.statuses[status] < wanted:
            assert time.monotonic() < deadline, self.figures
            time.sleep(0.01)

    def fault_is_over(self) -> None:
        """Count the seconds to the first success from now; of several faults the longest count."""
        self._over_at.append(time.monotonic())

    def stop(self) -> Figures:
        """Stop the clients, and compare their acknowledged messages with the stored ones."""
        self._done.set()
        for thread in self._threads:
            thread.join()
        with psycopg.connect(self._database_url) as conn:
            rows = conn.execute("SELECT content, id::text FROM messages").fetchall()
        times = Counter(content for content, _ in rows)
        there = dict(rows)
        figures = self.figures
        figures.acknowledged = len(self._acknowledged)
        figures.lost = sum(there.get(content) != id for content, id in self._acknowledged.items())
        figures.doubled = sum(number > 1 for number in times.values())
        if self._over_at:
            figures.first_success = max(
                min((at for at in self._at if at > over), default=math.inf) - over for over in self._over_at
            )
        return figures

    def _append_on_and_on(self, path: str) -> None:
        http, client = HTTPConnection("127.0.0.1", self._service.port, timeout=self._patience), uuid4()
        for number in count():
            content, tries = f"{client} {number}", 0
            body = orjson.dumps({"role": "user", "content": content})
            headers = {"Content-Type": "application/json", "Idempotency-Key": content.replace(" ", "-")}
            while content not in self._acknowledged:
                if self._done.wait(PAUSE if tries else 0):
                    http.close()
                    return
                tries += 1
                started, message_id = time.monotonic(), None
                try:
                    http.request("POST", path, body, headers)
                    response = http.getresponse()
                    reply = response.read()
                    status = str(response.status)
                    if response.status == 201:
                        message_id = orjson.loads(reply)["id"]
                    elif response.status >= 500 and "Retry-After" not in response.headers:
                        status += " without Retry-After"
                except (OSError, HTTPException) as error:
                    status = type(error).__name__
                    http.close()
                self._note(status, tries, time.monotonic() - started)
                if message_id is not None:
                    self._acknowledged[content] = message_id
                    self._at.append(time.monotonic())

    def _note(self, status: str, tries: int, seconds: float) -> None:
        with self._lock:
            self.figures.sent += 1
            self.figures.retried += tries > 1
            self.figures.longest = max(self.figures.longest, seconds)
            self.figures.statuses[status] += 1


@contextmanager
def appending(
    service: Service, database_url: str, fault: str, number: int, *, together: int = 4, patience: float = 30
) -> Iterator[Clients]:
    """Let clients append during a `with`, which yields their figures at its end."""
    clients = Clients(service, database_url, fault, patience)
    clients.start(number, together)
    try:
        clients.wait_for(number)
        yield clients
    finally:
        clients.stop()
