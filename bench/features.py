"""The calls that wrk cannot send or that the references do not have: each a list of requests."""

import json
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, NamedTuple

import psutil

from bench import driver
from bench.data import NEW_ANSWER, NEW_MESSAGE, Rows
from bench.driver import Request, send_each
from bench.load import Sample
from bench.targets import Server

Requests = list[Request]
ANSWER, STEP, ANSWERS = 8000, 200, 50
_numbers = count(1)


class Feature(NamedTuple):
    """A call, and the function that makes the requests of a round. `is_old`: release 0.1 has it too."""

    name: str
    prepare: Callable[[Server, Rows], Requests]
    is_old: bool = False


def measure(feature: Feature, server: Server, postgres: psutil.Process, rows: Rows) -> Sample:
    """Make the requests of a round, send them, and return the cost of one."""
    return driver.measure(server, postgres, feature.prepare(server, rows))


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


def post(path: str, value: Any, **headers: str) -> Request:
    """Make a POST of JSON."""
    return Request("POST", path, _dumps(value), headers)


def made(server: Server, requests: Sequence[Request]) -> list[dict[str, Any]]:
    """Send requests that create something, and return the bodies of the responses."""
    return [json.loads(reply.content) for reply in send_each(server, requests)]


def new_sessions(server: Server, number: int) -> list[str]:
    """Create empty sessions, and return their paths."""
    return [
        f"/sessions/{session['id']}"
        for session in made(server, [post("/sessions", {"title": "bench"})] * number)
    ]


def new_messages(server: Server, sessions: Sequence[str], **message: Any) -> list[str]:
    """Append a message to each session, and return the paths of the messages."""
    given = {"role": "user", "content": NEW_MESSAGE, **message}
    replies = made(server, [post(f"{session}/messages", given) for session in sessions])
    return [f"{session}/messages/{reply['id']}" for session, reply in zip(sessions, replies, strict=True)]


def stream(answers: Sequence[str]) -> Requests:
    """Return the patches of answers that grow in steps, a step of each answer in turn."""
    return [
        Request("PATCH", answer, _dumps({"content": NEW_ANSWER[:end]}))
        for end in range(STEP, ANSWER + 1, STEP)
        for answer in answers
    ]


def new_answers(server: Server, number: int = ANSWERS) -> list[str]:
    """Begin an answer in a new session each, and return their paths."""
    return new_messages(
        server, new_sessions(server, number), role="assistant", content="", status="streaming"
    )


def _create(_server: Server, _rows: Rows) -> Requests:
    return [post("/sessions", {"title": "bench"})] * 500


def _delete_sessions(server: Server, _rows: Rows) -> Requests:
    sessions = new_sessions(server, 500)
    new_messages(server, sessions * 2)
    return [Request("DELETE", session) for session in sessions]


def _delete_messages(server: Server, _rows: Rows) -> Requests:
    sessions = new_sessions(server, 50)
    return [Request("DELETE", message) for message in new_messages(server, sessions * 10)]


def _patch_messages(server: Server, _rows: Rows) -> Requests:
    messages = new_messages(server, new_sessions(server, 50))
    return [Request("PATCH", message, _dumps({"content": NEW_MESSAGE[::-1]})) for message in messages * 10]


def _stream(server: Server, _rows: Rows) -> Requests:
    return stream(new_answers(server, 20))


def _append(server: Server, **message: Any) -> Requests:
    sessions, given = new_sessions(server, 50), {"role": "user", "content": NEW_MESSAGE, **message}
    return [post(f"{session}/messages", given) for session in sessions * 10]


def _append_plain(server: Server, _rows: Rows) -> Requests:
    return _append(server)


def _append_with_key(server: Server, _rows: Rows) -> Requests:
    return [
        request._replace(headers={"Idempotency-Key": f"bench-{next(_numbers)}"})
        for request in _append(server)
    ]


def _append_with_parts(size: int) -> Callable[[Server, Rows], Requests]:
    # Like the result of a tool: many small values.
    rows = [{"city": "Reykjavík", "degrees": -1.5, "sky": ["cloud", "rain"]}] * (size // 64)
    parts = [{"type": "text", "text": NEW_MESSAGE}, {"type": "tool-result", "output": rows}]
    return lambda server, _: _append(server, parts=parts)


def _append_batch(size: int) -> Callable[[Server, Rows], Requests]:
    batch = {"messages": [{"role": "user", "content": NEW_MESSAGE}] * size}
    return lambda server, _: [
        post(f"{session}/messages", batch) for session in new_sessions(server, 10) for _ in range(5)
    ]


def _branched_page(server: Server, _rows: Rows) -> Requests:
    [session] = new_sessions(server, 1)
    shown = {"messages": [{"role": "user", "content": NEW_MESSAGE}] * 100}
    [first] = made(server, [post(f"{session}/messages", shown)])
    # A second answer to the tenth message, and 90 after it.
    branch = {"role": "assistant", "content": NEW_MESSAGE, "parent_id": first["messages"][9]["id"]}
    made(server, [post(f"{session}/messages", branch)])
    made(server, [post(f"{session}/messages", {"messages": shown["messages"][:90]})])
    return [Request("GET", f"{session}/messages?limit=50")] * 500


def _max_tokens(server: Server, rows: Rows) -> Requests:
    return [Request("GET", f"/sessions/{rows.session_id(0)}/messages?max_tokens=8000")] * 100


def _list_by_metadata(server: Server, rows: Rows) -> Requests:
    marked = [rows.session_id(number) for number in range(1, rows.sessions, rows.sessions // 60)]
    send_each(
        server,
        [Request("PATCH", f"/sessions/{session}", b'{"metadata":{"pinned":true}}') for session in marked],
    )
    return [Request("GET", "/sessions?limit=50&metadata=%7B%22pinned%22:true%7D")] * 500


def _list_archived(server: Server, rows: Rows) -> Requests:
    ids = [str(rows.session_id(number)) for number in range(1, rows.sessions, rows.sessions // 60)]
    send_each(server, [post("/sessions/batch", {"ids": ids, "action": "archive"})])
    return [Request("GET", "/sessions?limit=50&archived=true")] * 500


def _unchanged(path: Callable[[Rows], str]) -> Callable[[Server, Rows], Requests]:
    def requests(server: Server, rows: Rows) -> Requests:
        [reply] = send_each(server, [Request("GET", path(rows))])
        return [Request("GET", path(rows), headers={"If-None-Match": reply.headers["ETag"]})] * 500

    return requests


def _deep_page(server: Server, rows: Rows) -> Requests:
    size = rows.sessions // 1000
    [page] = made(server, [Request("GET", f"/sessions?limit={size}&offset={998 * size}")])
    return [Request("GET", f"/sessions?limit={size}&cursor={page['next_cursor']}")] * 500


def _delete_batch(server: Server, _rows: Rows) -> Requests:
    ids = [path.split("/")[-1] for path in new_sessions(server, 1000)]
    return [post("/sessions/batch", {"ids": ids[start::10], "action": "delete"}) for start in range(10)]


FEATURES = [
    Feature("create", _create, is_old=True),
    Feature("append", _append_plain, is_old=True),
    Feature("append with a key", _append_with_key, is_old=True),
    Feature("append with 2 kB of parts", _append_with_parts(2000)),
    Feature("append with 20 kB of parts", _append_with_parts(20_000)),
    Feature("append a batch of 20", _append_batch(20)),
    Feature("append a batch of 100", _append_batch(100)),
    Feature("patch a message", _patch_messages, is_old=True),
    Feature("patch an answer that grows to 8 kB", _stream, is_old=True),
    Feature("delete a message", _delete_messages, is_old=True),
    Feature("delete a session", _delete_sessions, is_old=True),
    Feature("delete a batch of 100 sessions", _delete_batch),
    Feature("branched page of 50", _branched_page),
    Feature("max_tokens=8000 of 5,000 messages", _max_tokens),
    Feature("list of 50, unchanged (304)", _unchanged(lambda _: "/sessions?limit=50"), is_old=True),
    Feature(
        "session of 20, unchanged (304)",
        _unchanged(lambda rows: f"/sessions/{rows.session_id(1)}"),
        is_old=True,
    ),
    Feature("list of 50 by metadata", _list_by_metadata),
    Feature("list of 50 archived", _list_archived),
]
# With 10,000 sessions.
DEEP = Feature("page 1,000 by cursor", _deep_page, is_old=True)
