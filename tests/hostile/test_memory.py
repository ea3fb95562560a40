"""One request takes a few times the memory of its size, whatever it says, and nothing of it stays."""

import json
import os
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from measured import TRIES, Measured
from support.adversarial import TEXTS
from support.chats import SESSIONS
from support.costs import Request
from support.figures import FULL
from support.samples import data_url as data_url_of
from support.samples import png

# Bytes of memory for each byte of the body.
MEMORY = 5
MEMORY_SIZE = (60 if FULL else 16) * 1024**2
# Bytes of memory that stay, for each byte of the body.
KEPT = 0.5

# The texts whose memory differs: by the bytes of a character in UTF-8 and in Python, by the escapes in JSON,
# and by the words.
HEAVY = [
    "letters and one emoji",
    "emoji with modifiers",
    "one long word",
    "words of one letter",
    "CJK",
    "descending marks",
    "newlines",
    "quotes",
    "Hangul jamo",
]
MESSAGES = f"{SESSIONS}/{{session_id}}/messages"
# The bodies of each route that takes a text, by the text.
WRITES: dict[str, tuple[str, str, Callable[[str], dict[str, Any]]]] = {
    "a message": ("POST", MESSAGES, lambda text: {"role": "user", "content": text}),
    "a message with an id": (
        "POST",
        MESSAGES,
        lambda text: {"id": str(uuid4()), "role": "user", "content": text},
    ),
    "a batch": ("POST", MESSAGES, lambda text: {"messages": [{"role": "user", "content": text}]}),
    "a session": ("POST", SESSIONS, lambda text: {"messages": [{"role": "user", "content": text}]}),
    "a change": ("PATCH", f"{MESSAGES}/{{message_id}}", lambda text: {"content": text}),
    "a streamed piece": (
        "PATCH",
        f"{MESSAGES}/{{message_id}}",
        lambda text: {"content": text, "status": "streaming"},
    ),
    "the end of a stream": (
        "PATCH",
        f"{MESSAGES}/{{message_id}}",
        lambda text: {"content": text, "status": "complete"},
    ),
    "text in parts": ("POST", MESSAGES, lambda text: {"role": "user", "parts": [{"text": text}]}),
    "metadata": ("POST", SESSIONS, lambda text: {"metadata": {"a": text}}),
    "a key of metadata": ("POST", SESSIONS, lambda text: {"metadata": {text: "a"}}),
    "a title": ("PATCH", f"{SESSIONS}/{{session_id}}", lambda text: {"title": text}),
    "names of documents": ("POST", MESSAGES, lambda text: {"role": "user", "documents": [text]}),
    "ids of sessions": ("POST", f"{SESSIONS}/batch", lambda text: {"ids": [text], "action": "delete"}),
}
KEYED = ["a message", "a batch", "a session"]


def check_memory(measured: Measured, request: Request) -> None:
    """Check that a request takes less than MEMORY times its body, and that nothing of it stays."""
    assert request.body
    ratios = []
    for _ in range(TRIES):
        headers = {name: str(uuid4()) for name in request.headers}
        cost = measured.meter.measure(request._replace(headers=headers))
        assert cost.status < 500
        ratios.append((cost.memory / len(request.body), cost.kept / len(request.body)))
        if ratios[-1][0] < MEMORY and ratios[-1][1] < KEPT:
            return
    raise AssertionError(ratios)


@pytest.mark.parametrize("kind", HEAVY)
@pytest.mark.parametrize(
    ("write", "keyed"),
    [*((write, False) for write in WRITES), *((write, True) for write in KEYED)],
    ids=lambda value: value if isinstance(value, str) else "with a key" * value,
)
def test_memory_is_a_few_times_the_body(measured: Measured, write: str, keyed: bool, kind: str) -> None:
    method, path, make = WRITES[write]
    for name, value in measured.ids.items():
        path = path.replace(name, value)
    body = json.dumps(make(TEXTS[kind](MEMORY_SIZE)), ensure_ascii=False).encode()
    check_memory(measured, Request(method, path, body, {"Idempotency-Key": ""} if keyed else {}))


def data_url(size: int) -> str:
    """Return a PNG whose base64 has the given number of bytes."""
    return data_url_of(png(noise=os.urandom(size * 3 // 4)))


# Makers of bodies of about the given number of bytes, in other fields than the content.
BODIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "an image": lambda size: {"content": "x", "images": [data_url(size)]},
    "many images": lambda size: {"content": "x", "images": [data_url(size // 20) for _ in range(20)]},
    "escapes in an image": lambda size: {"content": "x", "images": ["data:;base64," + "%2B" * (size // 3)]},
    "percent signs for an image": lambda size: {"content": "x", "images": ["%" * size]},
    "an image in parts": lambda size: {"parts": [{"type": "file", "url": data_url(size)}]},
    "an ignored text": lambda size: {"content": "x", "ignored": "Ā " * (size // 3)},
    "an ignored list": lambda size: {"content": "x", "ignored": ["x" * 100] * (size // 110)},
    "texts like keys": lambda size: {"content": "x", "ignored": ['":' * 10_000] * (size // 30_000)},
    "a text too many": lambda size: {"content": "x", "agent_name": "Ā" * (size // 2)},
    "many messages": lambda size: {
        "messages": [{"role": "user", "content": "Ā " * (size // 3 // 50)} for _ in range(50)]
    },
}


@pytest.mark.parametrize("name", BODIES)
def test_memory_is_a_few_times_the_body_of_any_script(measured: Measured, name: str) -> None:
    path = f"{SESSIONS}/{measured.ids['{session_id}']}/messages"
    content = json.dumps({"role": "user", **BODIES[name](MEMORY_SIZE)}, ensure_ascii=False).encode()
    check_memory(measured, Request("POST", path, content))
