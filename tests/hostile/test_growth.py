"""One request costs no more than its size: CPU time grows with it, whatever it says.

The routes and their texts are those of the OpenAPI document, so a new one is measured, too.
"""

import json
from collections.abc import Callable
from contextlib import closing
from functools import partial
from urllib.parse import quote

import pytest
from measured import BASE, QUERY_BASE, TIMES, Measured, check_growth
from support.adversarial import TEXTS
from support.chats import SESSIONS
from support.costs import Cost, Request, query
from support.figures import FULL
from support.service import call
from support.text_fields import Field, fields

FIELDS = list(fields())
# What is refused for its type or length is refused alike, whatever it says.
REFUSED = TEXTS if FULL else ("descending marks", "one long number", "CJK")


def request_of(measured: Measured, field: Field, text: str) -> Request:
    ids = {**measured.ids}
    if field.place == "path":
        ids[f"{{{field.name}}}"] = quote(text, safe="")
    elif field.method == "POST":
        ids["{session_id}"] = measured.appended
    path = field.path
    for name, value in ids.items():
        path = path.replace(name, value)
    if field.place == "query":
        path = query(path, field.name, text)
    body = json.dumps(field.make(text), ensure_ascii=False).encode() if field.place == "body" else None
    return Request(field.method, path, body)


def check_field(measured: Measured, field: Field, kind: str) -> None:
    """Check that a text in a field costs no more than its size."""
    base = BASE if field.place == "body" else QUERY_BASE

    def measure(times: int) -> Cost:
        text = TEXTS[kind](base * times)[: field.limit and field.limit * times // 8]
        return measured.meter.measure(request_of(measured, field, text))

    check_growth(measure, f"{field}: {kind}")


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("field", [field for field in FIELDS if field.is_text], ids=str)
def test_cpu_time_grows_with_the_text(measured: Measured, field: Field, kind: str) -> None:
    check_field(measured, field, kind)


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("field", [field for field in FIELDS if not field.is_text], ids=str)
def test_cpu_time_grows_with_a_refused_text(measured: Measured, field: Field, kind: str) -> None:
    check_field(measured, field, kind)


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
def test_cpu_time_grows_with_the_header(measured: Measured, name: str) -> None:
    path = f"{SESSIONS}/{measured.ids['{session_id}']}?messages_limit=1"

    def measure(times: int) -> Cost:
        value = (HEADERS[name] * 1000)[: 1000 * times].strip()
        return measured.meter.measure(Request("GET", path, None, {name: value}))

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
def test_cpu_time_grows_with_the_json(measured: Measured, shape: str) -> None:
    def measure(times: int) -> Cost:
        body = b'{"ignored":' + SHAPES[shape](8 * BASE * times).encode() + b"}"
        return measured.meter.measure(Request("POST", SESSIONS, body))

    check_growth(measure, shape)


@pytest.mark.parametrize("kind", TEXTS)
def test_cpu_time_of_a_read_is_linear(measured: Measured, kind: str) -> None:
    paths = {}
    with closing(measured.service.connect()) as http:
        for times in TIMES:
            path = f"{SESSIONS}/{call(http, 'POST', SESSIONS, {})[1]['id']}"
            message = {"role": "user", "content": TEXTS[kind](BASE * times)}
            assert call(http, "POST", f"{path}/messages", message)[0] == 201
            paths[times] = path

    def measure(suffix: str, times: int) -> Cost:
        return measured.meter.measure(Request("GET", f"{paths[times]}{suffix}"))

    for suffix in ("", "/messages"):
        check_growth(partial(measure, suffix), kind)
