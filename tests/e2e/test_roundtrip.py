"""A conversation export's worth of text, and many clients at one session."""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from support.chats import SESSIONS
from support.service import Service, call

pytestmark = pytest.mark.parametrize("service", ["direct", "pgbouncer"], indirect=True, scope="module")


# Texts of people and models in many scripts.
PIECES = [
    "How do I reverse a list in Python?",
    "# Heading\n\n- item **one**\n- item _two_\n  1. nested\n\n> quoted\n\n---\n",
    "```python\ndef f(x: int) -> str:\n\treturn f'{x!r}\\n' # 100%_done\n```\n",
    "```sql\nSELECT * FROM t WHERE a LIKE '%\\_%' AND b = $1; -- comment\n```",
    "| a | b |\n|---|:-:|\n| `x\\|y` | <b>bold</b> &amp; |",
    "$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$",
    "Café, naïve, e\u0301 — „Zitat“ … ½ €",
    "Привет! Как дела? Ёлка.",
    "你好，世界。請問這個怎麼寫？",  # noqa: RUF001
    "日本語の文章です。カタカナ、ひらがな、漢字。",
    "안녕하세요, 무엇을 도와드릴까요?",
    "مرحبا، كيف حالك؟ \u200fنص من اليمين",
    "שלום, מה שלומך?",
    "नमस्ते, क्या हाल है?",
    "สวัสดีครับ",
    "👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🧑🏽\u200d💻 🇩🇪 😀",
    '{"tool": "search", "args": {"q": "\\"x\\" \\u00e9"}}',
    "C:\\Users\\me\\new folder\\table.txt",
    "\t leading and trailing blanks \u00a0\u3000 ",
    "line one\r\nline two\rline three\u2028line four",
    "\x1b[31mred\x1b[0m \x07 \ufeff \ufffd \U0010ffff",
    "https://example.com/?q=%E4%BD%A0&x=1#frag",
]


def conversation(number: int) -> dict[str, Any]:
    """A session and its messages, always the same for a number."""
    chance = random.Random(number)
    messages = []
    for place in range(20):
        content = chance.choice(["", "\n", "\n\n", " "]).join(chance.choices(PIECES, k=chance.randint(1, 12)))
        message = {
            "role": chance.choice(["user", "assistant", "system", "tool"]),
            "content": f"{content}{place}",
        }
        if message["role"] == "assistant":
            message |= {
                "model_id": f"model-{number % 7}",
                "agent_name": "chat",
                "response_time_ms": chance.randint(0, 9000) / 8,
            }
        messages.append(message)
    return {"title": f"{number} {chance.choice(PIECES)}"[:255], "messages": messages}


def in_threads(service: Service, number: int, count: int, work: Callable[[Any, int], None]) -> None:
    """Do the work of 0 … count - 1 in a number of threads, each with a connection of its own."""
    local = threading.local()
    connections = []

    def do(index: int) -> None:
        if not hasattr(local, "connection"):
            local.connection = service.connect()
            connections.append(local.connection)
        work(local.connection, index)

    with ThreadPoolExecutor(number) as threads:
        list(threads.map(do, range(count)))
    for connection in connections:
        connection.close()


def test_500_conversations_come_back_byte_for_byte(service: Service) -> None:
    paths: dict[int, str] = {}
    with closing(service.connect()) as connection:
        before = call(connection, "GET", SESSIONS)[1]["total"]

    def write(connection: Any, number: int) -> None:
        sent = conversation(number)
        status, session = call(connection, "POST", SESSIONS, {"title": sent["title"]})
        assert status == 201
        paths[number] = f"{SESSIONS}/{session['id']}"
        for message in sent["messages"]:
            assert call(connection, "POST", f"{paths[number]}/messages", message)[0] == 201

    def read(connection: Any, number: int) -> None:
        sent = conversation(number)
        status, session = call(connection, "GET", paths[number])
        assert (status, session["title"], session["message_count"]) == (200, sent["title"], 20)
        assert session["last_message_preview"] == sent["messages"][-1]["content"][:100]
        assert [message["seq"] for message in session["messages"]] == list(range(1, 21))
        for message, expected in zip(session["messages"], sent["messages"], strict=True):
            assert expected.items() <= message.items()
        assert call(connection, "GET", f"{paths[number]}/messages") == (200, session["messages"])

    in_threads(service, 8, 500, write)
    in_threads(service, 8, 500, read)

    listed, cursor = [], ""
    with closing(service.connect()) as connection:
        while cursor is not None:
            page = call(connection, "GET", f"{SESSIONS}?limit=100{cursor and f'&cursor={cursor}'}")[1]
            listed += [f"{SESSIONS}/{session['id']}" for session in page["sessions"]]
            assert page["total"] == before + 500
            cursor = page["next_cursor"]
    assert len(listed) == len(set(listed)) == before + 500
    assert set(paths.values()) <= set(listed)


def test_32_clients_append_to_one_session(service: Service) -> None:
    with closing(service.connect()) as connection:
        path = f"{SESSIONS}/{call(connection, 'POST', SESSIONS, {})[1]['id']}"

    def append(connection: Any, number: int) -> None:
        status, message = call(
            connection, "POST", f"{path}/messages", {"role": "user", "content": f"number {number}"}
        )
        assert (status, message["content"]) == (201, f"number {number}")

    in_threads(service, 32, 1000, append)
    with closing(service.connect()) as connection:
        session = call(connection, "GET", path)[1]
    assert session["message_count"] == 1000
    assert [message["seq"] for message in session["messages"]] == list(range(1, 1001))
    assert {message["content"] for message in session["messages"]} == {
        f"number {number}" for number in range(1000)
    }
    assert session["last_message_preview"] == session["messages"][-1]["content"]
