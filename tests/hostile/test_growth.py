"""One request costs no more than its size: CPU time and memory grow with it, whatever it says.

The routes and their texts are those of the OpenAPI document, so a new one is measured, too.
"""

import itertools
import json
import os
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from support.chats import SESSIONS
from support.costs import Cost, Meter, Request, query
from support.figures import FULL
from support.samples import data_url as data_url_of
from support.samples import png
from support.service import TREE, Service, call, running

# The sizes, as multiples of the smallest.
TIMES = (1, 2, 4, 8) if FULL else (1, 8)
# The smallest size of a text without a limit, and of one in a query, in bytes.
BASE, QUERY_BASE = 16 * 1024, 256
# Eight times the size may cost twice eight times as much; 64 times would be quadratic.
SLACK = 2
# The cost of an empty request on a slow machine.
FLOOR = 0.008
TRIES = 4
# Bytes of memory for each byte of the body.
MEMORY = 5
MEMORY_SIZE = (60 if FULL else 16) * 1024**2
# Bytes of memory that stay, for each byte of the body.
KEPT = 1

_MARKS = sorted(
    (c for c in map(chr, range(0x300, 0x370)) if unicodedata.combining(c)), key=unicodedata.combining
)


def repeat(pattern: str) -> Callable[[int], str]:
    return lambda size: pattern * max(1, size // len(pattern.encode()))


def descending_marks(size: int) -> str:
    """A letter with marks in the order that normalization has to turn around."""
    each = max(1, size // (2 * len(_MARKS)))
    return "a" + "".join(mark * each for mark in reversed(_MARKS))


# Makers of texts of about the given number of bytes of UTF-8.
TEXTS: dict[str, Callable[[int], str]] = {
    "descending marks": descending_marks,
    "alternating marks": lambda size: "a" + repeat("\u0315\u0300")(size),
    "ligatures that become 18 letters": repeat("\ufdfa"),
    "CJK": repeat("中"),
    "CJK, each another": lambda size: "".join(
        chr(0x4E00 + number % 20_000) for number in range(max(1, size // 3))
    ),
    "Hangul jamo": repeat("\u1112\u1161\u11ab"),
    "quotes": repeat('"a" '),
    "opened quotes": repeat('"a '),
    "emoji with modifiers": repeat("👩🏽\u200d🚀"),
    "one long word": repeat("a"),
    "letters and one emoji": lambda size: "a" * size + "👩",
    "one long number": repeat("1"),
    "words of one letter": repeat("Ā "),
    "words of two letters": lambda size: " ".join(
        itertools.islice(
            itertools.cycle(map("".join, itertools.product("abcdefghijklmnopqrstuvwxyz", repeat=2))),
            max(1, size // 3),
        )
    ),
    "newlines": repeat("\n"),
    "joined tokens": repeat("a->b.c_"),
    "symbols": repeat("=+"),
    "escapes": repeat("\x1b[0m"),
    "markup": repeat("<mark>&"),
    "backslashes and wildcards": repeat("\\%_"),
    "lone brackets": repeat("[{("),
}


class Field(NamedTuple):
    """A text of a request. `limit` is in characters; None means only the limit of the body or line."""

    method: str
    path: str
    place: str
    name: str
    limit: int | None
    make: Callable[[str], Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.name}"


DOCUMENT: dict[str, Any] = json.loads((TREE / "docs" / "openapi.json").read_text())
# The other required fields of a body.
REQUIRED = {"role": "user", "content": "x", "ids": [], "action": "archive"}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def makers(schema: dict[str, Any]) -> Iterator[tuple[int | None, Callable[[str], Any]]]:
    """How a value that holds a text is made for a schema, and how long the text may be."""
    schema = resolved(schema)
    types = schema.get("type", "object")
    if "enum" in schema or schema.get("format"):
        return
    if "string" in types:
        yield schema.get("maxLength"), lambda text: text
    elif "array" in types:
        for limit, make in makers(schema.get("items", {})):
            yield limit, lambda text, make=make: [make(text)]
    elif "object" in types and schema.get("properties"):
        for name, nested in schema["properties"].items():
            for limit, make in makers(nested):
                yield limit, lambda text, name=name, make=make: {**required(schema), name: make(text)}
    elif "object" in types:
        yield None, lambda text: {"type": "text", "text": text}
        yield None, lambda text: {text: 1}


def required(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: REQUIRED[name] for name in resolved(schema).get("required", []) if name in REQUIRED}


def fields() -> Iterator[Field]:
    for path, operations in DOCUMENT["paths"].items():
        for method, operation in operations.items():
            if method == "parameters":
                continue
            verb = method.upper()
            for parameter in operation.get("parameters", []):
                if parameter.get("in") == "query" and "string" in parameter["schema"].get("type", ""):
                    yield Field(verb, path, "query", parameter["name"], None, lambda text: text)
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                schema = resolved(content["application/json"]["schema"])
                for name, nested in schema.get("properties", {}).items():
                    for limit, make in makers(nested):
                        yield Field(
                            verb,
                            path,
                            "body",
                            name,
                            limit,
                            lambda text, schema=schema, name=name, make=make: {
                                **required(schema),
                                name: make(text),
                            },
                        )


FIELDS = list(fields())


class Site(NamedTuple):
    """A service, what measures it, and a session and a message in it."""

    service: Service
    meter: Meter
    ids: dict[str, str]


@pytest.fixture(scope="module")
def site(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """One thread serves, so that what it costs is the request's own.

    Texts of each kind are there to be found.
    """
    log = tmp_path_factory.mktemp("growth") / "log"
    settings = {
        "MAI_SESSIONS_WORKERS": "1",
        "MAI_SESSIONS_THREADS": "1",
        "MAI_SESSIONS_STATEMENT_TIMEOUT": "60",
        "MAI_SESSIONS_GRACEFUL_TIMEOUT": "70",
    }
    with running(make_migrated_database(), log, **settings) as service, closing(service.connect()) as http:
        session = call(http, "POST", SESSIONS, {"title": "x"})[1]["id"]
        path = f"{SESSIONS}/{session}/messages"
        for make in TEXTS.values():
            for size in (4_000, 48_000):
                assert call(http, "POST", path, {"role": "user", "content": make(size)})[0] == 201
        message = call(http, "POST", path, {"role": "user", "content": "x"})[1]["id"]
        ids = {"{session_id}": session, "{message_id}": message, "{sha256}": "0" * 64}
        yield Site(service, Meter(service, http), ids)


def request_of(field: Field, site: Site, text: str) -> Request:
    path = field.path
    for name, value in site.ids.items():
        path = path.replace(name, value)
    if field.place == "query":
        return Request(field.method, query(path, field.name, text))
    return Request(field.method, path, json.dumps(field.make(text), ensure_ascii=False).encode())


def check_growth(measure: Callable[[int], Cost], name: str) -> None:
    """Measure each size once, and again where it seems to grow faster than the size: others use the machine,
    too.
    """
    costs: dict[int, float] = {}
    for _ in range(TRIES):
        for times in TIMES:
            cost = measure(times)
            assert cost.status < 500, (name, times, cost)
            costs[times] = min(cost.cpu, costs.get(times, cost.cpu))
        if all(costs[times] <= SLACK * times * max(costs[1], FLOOR) for times in TIMES):
            return
    raise AssertionError((name, {times: f"{seconds * 1000:.0f} ms" for times, seconds in costs.items()}))


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_cpu_time_grows_with_the_text(site: Site, field: Field, kind: str) -> None:
    make = TEXTS[kind]
    base = QUERY_BASE if field.place == "query" else BASE

    def measure(times: int) -> Cost:
        text = make(base * times)
        return site.meter.measure(request_of(field, site, text[: field.limit and field.limit * times // 8]))

    check_growth(measure, f"{field}: {kind}")


# Headers that the service reads. The longest has 8 kB.
HEADERS = {
    "Accept": "text/a;q=0.1, ",
    "Authorization": "Bearer a.",
    "Cookie": "a=b; ",
    "Idempotency-Key": "a",
    "If-Match": '"a", ',
    "If-None-Match": 'W/"a-gzip", ',
    "Origin": "http://a",
    "Range": "bytes=0-1,",
    "X-Request-ID": "a",
}


@pytest.mark.parametrize("name", HEADERS)
def test_cpu_time_grows_with_the_header(site: Site, name: str) -> None:
    path = f"{SESSIONS}/{site.ids['{session_id}']}?messages_limit=1"

    def measure(times: int) -> Cost:
        value = (HEADERS[name] * 1000)[: 1000 * times].strip()
        return site.meter.measure(Request("GET", path, None, {name: value}))

    check_growth(measure, name)


# Makers of JSON of the given number of bytes, in a key that the service ignores.
SHAPES: dict[str, Callable[[int], str]] = {
    "arrays in arrays": lambda size: "[" * (size // 2) + "]" * (size // 2),
    "empty arrays": lambda size: "[" + ",".join(["[]"] * (size // 3)) + "]",
    "keys": lambda size: "{" + ",".join(f'"{number:06}":0' for number in range(size // 11)) + "}",
    "the same key": lambda size: "{" + ",".join(['"a":0'] * (size // 6)) + "}",
    "escaped quotes": lambda size: '"' + r"\"" * (size // 2) + '"',
    "escaped surrogates": lambda size: '"' + r"\ud83d\ude00" * (size // 12) + '"',
    "a number": lambda size: "1" * size,
    "blanks": lambda size: " " * size + "1",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_cpu_time_grows_with_the_json(site: Site, shape: str) -> None:
    def measure(times: int) -> Cost:
        body = b'{"ignored":' + SHAPES[shape](8 * BASE * times).encode() + b"}"
        return site.meter.measure(Request("POST", SESSIONS, body))

    check_growth(measure, shape)


@pytest.mark.parametrize("kind", TEXTS)
def test_cpu_time_of_a_read_is_linear(site: Site, kind: str) -> None:
    paths = {}
    with closing(site.service.connect()) as http:
        for times in TIMES:
            path = f"{SESSIONS}/{call(http, 'POST', SESSIONS, {})[1]['id']}"
            message = {"role": "user", "content": TEXTS[kind](BASE * times)}
            assert call(http, "POST", f"{path}/messages", message)[0] == 201
            paths[times] = path
    for suffix in ("", "/messages"):
        check_growth(lambda times: site.meter.measure(Request("GET", f"{paths[times]}{suffix}")), kind)  # noqa: B023 - called at once


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


def check_memory(site: Site, request: Request) -> None:
    """Check that a request takes less than MEMORY times its body, and that nothing of it stays."""
    assert request.body
    ratios = []
    for _ in range(TRIES):
        headers = {name: str(uuid4()) for name in request.headers}
        cost = site.meter.measure(request._replace(headers=headers))
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
def test_memory_is_a_few_times_the_body(site: Site, write: str, keyed: bool, kind: str) -> None:
    method, path, make = WRITES[write]
    for name, value in site.ids.items():
        path = path.replace(name, value)
    body = json.dumps(make(TEXTS[kind](MEMORY_SIZE)), ensure_ascii=False).encode()
    check_memory(site, Request(method, path, body, {"Idempotency-Key": ""} if keyed else {}))


def data_url(size: int) -> str:
    """Return a PNG whose base64 has the given number of bytes."""
    return data_url_of(png(noise=os.urandom(size * 3 // 4)))


# Makers of bodies of about the given number of bytes, in other fields than the content.
BODIES: dict[str, Callable[[int], dict[str, Any]]] = {
    "an image": lambda size: {"content": "x", "images": [data_url(size)]},
    "many images": lambda size: {"content": "x", "images": [data_url(size // 20) for _ in range(20)]},
    "an image in parts": lambda size: {"parts": [{"type": "file", "url": data_url(size)}]},
    "an ignored text": lambda size: {"content": "x", "ignored": "Ā " * (size // 3)},
    "an ignored list": lambda size: {"content": "x", "ignored": ["x" * 100] * (size // 110)},
    "a text too many": lambda size: {"content": "x", "agent_name": "Ā" * (size // 2)},
    "many messages": lambda size: {
        "messages": [{"role": "user", "content": "Ā " * (size // 3 // 50)} for _ in range(50)]
    },
}


@pytest.mark.parametrize("name", BODIES)
def test_memory_is_a_few_times_the_body_of_any_script(site: Site, name: str) -> None:
    path = f"{SESSIONS}/{site.ids['{session_id}']}/messages"
    content = json.dumps({"role": "user", **BODIES[name](MEMORY_SIZE)}, ensure_ascii=False).encode()
    check_memory(site, Request("POST", path, content))
