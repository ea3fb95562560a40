"""Long texts are the same texts, in fewer bytes of memory."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mai_sessions.content import long_text
from mai_sessions.content.json_text import parse_json
from mai_sessions.content.lexemes import count_lexemes
from mai_sessions.content.long_text import Content, LongText
from mai_sessions.content.parts import BrokenValue
from mai_sessions.content.tokens import load_tokenizer

# Longer than the keys.
LONG = 12


@pytest.fixture(autouse=True)
def _short_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_text, "MIN_LONG_TEXT", LONG)
    monkeypatch.setattr(long_text, "MAX_PARTS", 3)
    monkeypatch.setattr(long_text, "_PIECE", 3)


def parsed(body: bytes) -> Any:
    rest, texts = long_text.cut_long_texts(body)
    value = parse_json(rest)
    long_text.restore_long_texts(value, texts)
    return value


def as_str(text: Content) -> str:
    return text if isinstance(text, str) else text.utf8.decode()


TEXTS = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from('\\"/\n\x00😀é中a'), max_size=40)


@given(TEXTS, TEXTS, st.booleans())
def test_content_is_the_text_that_was_sent(content: str, other: str, escaped: bool) -> None:
    body = {
        "ignored": [other, {other: other}],
        "content": content,
        "messages": [{"content": other, "id": content}, content],
    }
    value = parsed(json.dumps(body, ensure_ascii=escaped).encode())
    assert as_str(value["content"]) == content
    assert as_str(value["messages"][0]["content"]) == other
    # Elsewhere a long text that is not ASCII is cut.
    assert isinstance(value["messages"][1], str)
    assert content.startswith(value["messages"][1])
    assert other.startswith(value["ignored"][0])
    if content.isascii():
        assert value["messages"][1] == content


@given(TEXTS, st.integers(1, 9))
def test_long_text_is_as_its_str(text: str, size: int) -> None:
    long = LongText(text.encode())
    assert list(long_text.pieces(long, size)) == list(long_text.pieces(text, size))
    assert long_text.head(long, size) == text[:size]
    assert orjson.dumps(long_text.as_json(long)) == orjson.dumps(text)
    assert count_lexemes(long) == count_lexemes(text)
    assert load_tokenizer("words")(long) == len(text.split())
    assert as_str(long_text.read_json(orjson.dumps(text))) == text


def test_number_of_escapes_does_not_matter() -> None:
    text = "\n😀" * 5000 + "é"
    value = parsed(json.dumps({"content": text}).encode())
    assert isinstance(value["content"], LongText)
    assert as_str(value["content"]) == text


@pytest.mark.parametrize(
    ("inside", "path", "reason"),
    [
        (rb"\ud83dxxxxxxxxxxxx", ("a", 0), "surrogate"),
        (rb"xxxxxxxxxxxx\ude00\ud83d", ("a", 0), "surrogate"),
        (rb"xxxxxxxxxxxx\x41", (), "json"),
        (rb"xxxxxxxxxxxx\u12", (), "json"),
        (b"xxxxxxxxxxxx\xc3", (), "json"),
        (b"xxxxxxxxxxxx\xed\xa0\x80", (), "json"),
        (b"xxxxxxxxxxxx\xc3\xa9\n", (), "json"),
    ],
)
def test_broken_long_text_is_refused(inside: bytes, path: tuple[str | int, ...], reason: str) -> None:
    with pytest.raises(BrokenValue) as refused:
        parsed(b'{"a":["' + inside + b'"]}')
    assert (refused.value.path, refused.value.reason) == (path, reason)
    with pytest.raises(BrokenValue):
        parsed(b'{"a":"' + inside + b'","a":1}')


@pytest.mark.parametrize(
    "body", ['{"a":"x",éééééééééééé"', '"éééééééé', 'éééé"éééééééééééé"', '{"éééééééééééé" 1}']
)
def test_body_that_is_not_json_is_refused(body: str) -> None:
    with pytest.raises(BrokenValue):
        parsed(body.encode())


def test_long_key_is_kept_long() -> None:
    [key] = parsed('{"éééééééééééééééé":1}'.encode())
    assert "éééééééééééééééé".startswith(key)
