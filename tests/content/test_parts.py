import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.json_values import JSON_OBJECTS, same_json
from support.samples import data_url

from mai_sessions.content.attachments import LINK
from mai_sessions.content.json_text import parse_json
from mai_sessions.content.metadata import MAX_METADATA, read_metadata
from mai_sessions.content.parts import MAX_PARTS, BrokenValue, read_parts

FILE = b"%PDF" + bytes(range(256)) * 4
LARGE = data_url(FILE, "application/pdf")


@given(st.lists(JSON_OBJECTS, max_size=4))
def test_parts_come_back_same_json(parts: list[dict[str, Any]]) -> None:
    parsed = parse_json(json.dumps(parts).encode())
    assert same_json(parse_json(read_parts(parsed).json), parts)


@given(JSON_OBJECTS)
def test_metadata_come_back_same_json(metadata: dict[str, Any]) -> None:
    parsed = read_metadata(parse_json(json.dumps(metadata).encode()))
    assert same_json(parse_json(parsed.value), metadata)
    assert parse_json(parsed.members) == {key: value for key, value in metadata.items() if value is not None}
    assert set(parsed.removed) == {key for key, value in metadata.items() if value is None}


@pytest.mark.parametrize("number", [2**64, -(2**63) - 1, 10**300, 2**63 - 1, 1e300, 5e-324, 0.1])
def test_number_keeps_its_digits(number: float) -> None:
    assert parse_json(read_parts(parse_json(json.dumps([{"n": number}]).encode())).json) == [{"n": number}]


def test_text_that_looks_like_a_key_is_no_key() -> None:
    value = {"a": 'of {"a": 1, "a" :2}', "b": [{"a": '":'}, {"a": ":"}], "c": {"a": {"a": {}}}}
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps({"big": 2**70, "value": value}).encode()) == {"big": 2**70, "value": value}


def test_repeated_keys_of_parts_are_kept_in_their_places() -> None:
    text = b'[{"type":"text","text":"one","text":"two","x":{"a":[1],"b":{},"a":[1]},"x":5}]'
    parts = read_parts(parse_json(text))
    assert (parts.json, parts.text) == (text, "two")
    assert parse_json(b'{"title":"one","title":"two"}')["title"] == "two"


@pytest.mark.parametrize(
    ("metadata", "path"),
    [
        (b'{"a":1,"b":2,"a":3}', ("a",)),
        (b'{"":0,"":null}', ("",)),
        (b'{"a":[0,{"b" :{"k\\u0041":1, "kA"\n:1}}]}', ("a", 1, "b", "kA")),
    ],
)
def test_repeated_key_of_metadata_is_named_by_its_path(metadata: bytes, path: tuple[Any, ...]) -> None:
    with pytest.raises(BrokenValue) as caught:
        read_metadata(parse_json(metadata))
    assert (caught.value.path, caught.value.reason) == (path, "repeated")


def test_large_data_urls_become_links_in_their_places() -> None:
    parts: list[Any] = [
        {"type": "text", "text": "see"},
        {"type": "file", "filename": "a.pdf", "url": LARGE, "after": 1},
        {"type": "x", "deep": [{"list": [LARGE, "data:text/plain,short", "data:;base64,YQ=="]}]},
    ]
    read = read_parts(parts)
    [attachment] = read.attachments
    assert (attachment.content, attachment.content_type, attachment.file_name) == (
        FILE,
        "application/pdf",
        "a.pdf",
    )
    assert read.links == (attachment.sha256,)
    assert parse_json(read.json) == [
        {"type": "text", "text": "see"},
        {"type": "file", "filename": "a.pdf", "url": LINK + attachment.sha256, "after": 1},
        {
            "type": "x",
            "deep": [{"list": [LINK + attachment.sha256, "data:text/plain,short", "data:;base64,YQ=="]}],
        },
    ]


def test_parts_that_come_back_keep_their_links() -> None:
    link = LINK + "ab" * 32
    read = read_parts([{"url": f"{link}?user=u&expires=1&signature=ab"}])
    assert (read.links, parse_json(read.json)) == (("ab" * 32,), [{"url": link}])


def test_text_is_that_of_the_text_parts() -> None:
    parts = [
        {"type": "input_text", "text": "a"},
        {"type": "reasoning", "text": "hidden"},
        {"type": "text"},
        {"type": "text", "text": 1},
        {"type": "output_text", "text": "b"},
        {"type": ["text"], "text": "c"},
    ]
    assert read_parts(parts).text == "a\n\nb"


@pytest.mark.parametrize(
    ("parts", "path", "reason"),
    [
        ([{}, 1], (1,), "invalid"),
        ([[]], (0,), "invalid"),
        ([{"a": ["x", {"b": "\0"}]}], (0, "a", 1, "b"), "nul"),
        ([{"é\0": 1}], (0, "é\0"), "nul"),
        ([{"a": "é\ud800"}], (0, "a"), "surrogate"),
        ([{"a": {"\udfff": 1}}], (0, "a", "?"), "surrogate"),
        ([{"a": f"data:;base64,{'*' * 2000}"}], (0, "a"), "base64"),
        ([{"a": "x" * MAX_PARTS}], (), "too_long"),
    ],
)
def test_broken_part_is_named_by_its_path(parts: list[Any], path: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(BrokenValue) as caught:
        read_parts(parts)
    assert (caught.value.path, caught.value.reason) == (path, reason)


@pytest.mark.parametrize(
    ("body", "path", "reason"),
    [
        (b'{"a": ["x", "\\ud800"]}', ("a", 1), "surrogate"),
        (b'{"\\udc00": 1}', ("?",), "surrogate"),
        (b'{"a": "\xed\xa0\x80"}', ("a",), "surrogate"),
        (b'"\\ud800', (), "json"),
        (b"{", (), "json"),
        (b"[NaN]", (), "json"),
        (b"1e400", (), "json"),
        (b"1" * 5000, (), "json"),
    ],
)
def test_broken_json_is_named_by_its_path(body: bytes, path: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(BrokenValue) as caught:
        parse_json(body)
    assert (caught.value.path, caught.value.reason) == (path, reason)


@pytest.mark.parametrize(
    ("metadata", "path", "reason"),
    [
        ({"a": "x" * MAX_METADATA}, (), "too_long"),
        ({"a": [1e300] * 60}, (), "too_long"),
        ({"a": {"b": "\0"}}, ("a", "b"), "nul"),
        ({"a": None, "\0": 1}, ("\0",), "nul"),
    ],
)
def test_broken_metadata_are_named_by_their_path(metadata: Any, path: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(BrokenValue) as caught:
        read_metadata(metadata)
    assert (caught.value.path, caught.value.reason) == (path, reason)


def test_metadata_nest_at_most_32_levels() -> None:
    def nested(levels: int) -> dict[str, Any]:
        value: Any = 1
        for _ in range(levels):
            value = {"a": value}
        return dict(value)

    read_metadata(nested(32))
    with pytest.raises(BrokenValue, match="deeper than 32"):
        read_metadata(nested(33))
