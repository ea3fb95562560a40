"""Cutting a document into its conversations, and reading one of them."""

import io
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mai_sessions.importers import json_stream
from mai_sessions.importers.model import UnreadableConversation, UnreadableFile

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
conversations = st.lists(st.dictionaries(texts, values, max_size=4), max_size=5)


class Drip(io.BytesIO):
    """A stream that is read in small pieces."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 7, 7))


def read_all(document: str | bytes) -> list[object]:
    data = document if isinstance(document, bytes) else document.encode()
    return [json_stream.parse(element)[0] for element in json_stream.elements(Drip(data))]


@given(conversations)
def test_array_yields_its_objects(given: list[dict[str, object]]) -> None:
    assert read_all(json.dumps(given)) == given
    assert read_all(json.dumps(given, indent=2, ensure_ascii=False)) == given


@given(conversations)
def test_conversations_member_yields_its_objects(given: list[dict[str, object]]) -> None:
    document = {"version": [1, {"x": []}], "conversations": given, "users": [[{"id": 1}]]}
    assert read_all(json.dumps(document)) == given


@given(st.lists(st.dictionaries(texts, values, max_size=4), min_size=1, max_size=5))
def test_ndjson_yields_its_lines(given: list[dict[str, object]]) -> None:
    lines = "".join(json.dumps(value) + "\n" for value in given)
    assert read_all(lines) == given
    assert read_all(b"\xef\xbb\xbf" + lines.encode()) == given


@given(values.map(lambda value: {"value": value}))
def test_iterative_parser_agrees_with_the_strict_one(given: dict[str, object]) -> None:
    assert json_stream._parse_iteratively(json.dumps(given, indent=1)) == (given, 0)


def test_nesting_deeper_than_the_recursion_limit_is_read() -> None:
    depth = 20 * sys.getrecursionlimit()
    value, replaced = json_stream.parse(b'{"a":' * depth + b"{}" + b"}" * depth)
    for _ in range(depth):
        value = value["a"]
    assert (value, replaced) == ({}, 0)


@pytest.mark.parametrize(
    ("element", "expected", "count"),
    [
        (rb'{"a\u0000":"x\u0000y"}', {"a�": "x�y"}, 2),
        (rb'{"a":"\ud83d"}', {"a": "�"}, 1),
        (rb'{"a":"\ude00\ud83d"}', {"a": "��"}, 2),
        (rb'{"a":"\ud83d\ude00 \\u0000"}', {"a": "\U0001f600 \\u0000"}, 0),
        (b'{"a":"\xff"}', {"a": "�"}, 1),
        ('{"a":"�\\u0000"}'.encode(), {"a": "��"}, 1),
        (rb'{"a":"\u0000","n":[1,-2,3.5,123456789012345678901,true,null]}',
         {"a": "�", "n": [1, -2, 3.5, 123456789012345678901, True, None]}, 1),
    ],
)  # fmt: skip
def test_unstorable_characters_are_replaced_and_counted(element: bytes, expected: object, count: int) -> None:
    assert json_stream.parse(element) == (expected, count)


@pytest.mark.parametrize("element", [b"{1:2}", b'{"a":tru}', b"{]", b'{"a":"\\x"}', b"{[}]"])
def test_malformed_element_is_refused_alone(element: bytes) -> None:
    with pytest.raises(UnreadableConversation, match="malformed"):
        json_stream.parse(element)


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "empty"),
        (b" \n ", "empty"),
        (b"hello", "neither a zip file nor JSON"),
        (b"GIF89a", "neither a zip file nor JSON"),
        ('[{"a":1}]'.encode("utf-16"), "UTF-16"),
        (b'[{"a":1},', "too early"),
        (b'[{"a":1},{"b":"', "too early"),
        (b'{"conversations":[{"a":1}', "too early"),
        (b'{"a":1}\n{"b":', "too early"),
    ],
)
def test_malformed_document_is_refused(document: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        list(json_stream.elements(Drip(document)))


def test_element_above_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_stream, "MAX_ELEMENT_BYTES", 1000)
    document = json.dumps([{"a": "x" * 900}, {"b": "x" * 1100}]).encode()
    with pytest.raises(UnreadableFile, match="a conversation of more than"):
        list(json_stream.elements(Drip(document)))
