# ruff: noqa: RUF001 - text in many scripts
"""Which texts a query finds, and what its snippet marks: contract §6."""

import html
import re
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from support.adversarial import TEXTS

from mai_sessions.content.folding import fold
from mai_sessions.content.lexemes import (
    MAX_LEXEMES,
    count_lexemes,
    message_vector,
    token_lexemes,
    tokenize,
)
from mai_sessions.content.message import MAX_SEARCHABLE, NewMessage, with_words
from mai_sessions.content.query import parse_query, split_terms
from mai_sessions.content.snippets import snippet


def finds(q: str, text: str) -> bool:
    """Return whether a search for `q` finds a message."""
    query = parse_query("user", q)
    lexemes = count_lexemes(text)
    return (
        query is not None
        and all(
            any(
                found.startswith(wanted.text) if wanted.is_prefix else found == wanted.text
                for found in lexemes
            )
            for term in query.terms
            for wanted in term.lexemes
        )
        and query.matches(text)
    )


@pytest.mark.parametrize(
    ("q", "text"),
    [
        ("quick fox", "a quick brown fox"),
        ("qui", "quick"),
        ("C++", "I like C++, too"),
        ("C++20", "use C++20"),
        ("C#", "F# and C#."),
        (".NET", "ASP.NET"),
        ("3.14", "pi is 3.14159"),
        ("1.2.3", "v1.2.3-beta"),
        ("foo.bar(baz)", "x=foo.bar(baz);"),
        ("user@host", "ssh user@host"),
        ("/etc/nginx", "cat /etc/nginx/nginx.conf"),
        ("a->b", "if (a->b) {"),
        ("->", "x->y"),
        ("===", "a === b"),
        ("TypeError:", "TypeError: x is undefined"),
        ("10 km", "10km"),
        ("foo_bar", "foo_bar_baz"),
        ("$HOME", "echo $HOME/bin"),
        ("--flag", "run --flag=1"),
        ("-->", "<!-- a -->"),
        ("==>", "a ==> b"),
        ("</div>", "<b></div>"),
        ("Vec<_>", "Vec<Vec<_>>"),
        ("x != y", "if x != y:"),
        ("sha256", "sha256sum"),
        ("256 sum", "sha256 sum"),
        ("don't", "I don’t know"),
        ("state-of-the-art", "state‑of‑the‑art"),
        ('"brown fox"', "brown, fox"),
        ("hello!", "hello"),
        ("(really?)", "really"),
        ("👍", "ok 👍🏽!"),
        ("🎉", "🎉🎉🎉"),
        ("\U0001fae8", "\U0001fae8\U0001fae8"),
        ("\U0001fffd", "unassigned \U0001fffd"),
        ("iphone case", "iPhone™ case"),
        ("ꦱꦗ", "ꦧꦱꦗꦮ"),
        ("안녕", "안녕ㅠㅠ"),
        ("ㅠㅠ", "안녕ㅠㅠ"),
        ("굿", "굿ㄳ"),
        ("搜索“人工智能”的方法", "的方法: 人工智能搜索"),
        ('מע"מ', "מע״מ"),
        ('"מע"מ ודו"ח"', 'מע"מ ודו"ח'),
        ("ᩃᩣ", "ᨠᩃᩣ"),
        ("1 1/2 cups", "1½ cups"),
        ("1080", "1920×1080"),
        ("重点内容", "这是**重点**内容"),
        ("∑", "∑x"),
        ("全文搜索", "中文全文搜索"),
        ("中", "文中"),
        ("검", "검색"),
        ("Python中文", "用Python中文搜索"),
        ("a" * 3000, "a" * 3000),
    ],
)
def test_query_finds_text(q: str, text: str) -> None:
    assert finds(q, text)
    assert "<mark>" in snippet(text, split_terms(q))


@pytest.mark.parametrize(
    ("q", "text"),
    [
        ("qui fox", "quick fox"),
        ("foo ", "foobar"),
        ("11/2", "1½"),
        ('מע"מ', "מע אב מ"),
        ("녕", "녀ㅇ"),
        ("ހި", "ދިވެހި"),
        ("कि", "को"),
        ("foo.", "foobar"),
        ("C++", "C and C#"),
        ("C#", "C"),
        (".NET", "the net"),
        ("3.14", "14 apples and 3 pears"),
        ("3.14", "13.14"),
        ("3.14 ", "3.14159"),
        ("a->b", "a b"),
        ("a->b", "a - > b"),
        ("==", "a === b"),
        ("-->", "run --flag=1"),
        ("<==", "a == b"),
        ("foo_bar", "foo bar"),
        ("user@host", "the host of the user"),
        ("/etc/nginx", "etc nginx"),
        ("10km", "10 km"),
        ('"brown fox"', "fox brown"),
        ("搜索全文", "全文搜索"),
        ("거", "검색"),
        ("👍", "👎"),
    ],
)
def test_query_does_not_find_text(q: str, text: str) -> None:
    assert not finds(q, text)


# Without letters such as ŉ, which folds to an apostrophe and a letter, of which a snippet marks the letter,
# and the few that folding treats in another way than NFKC and the change of case: ᾳ, º, letters of Hangul.
WORDS = st.text(st.characters(categories=["Lu", "Ll", "Lt", "Lo", "Nd"]), min_size=1, max_size=12).filter(
    lambda word: (
        fold(word).split() == [fold(unicodedata.normalize("NFKC", word).casefold())]
        and not re.search("[',!|]", fold(word))
    )
)
HIDDEN = ["\u00ad", "\u200b", "\u200d", "\u2060", "\ufeff", "\u202a", "\x1b[31m", "\x1b[0m"]
VARIATIONS: list[Callable[[str], str]] = [
    str.lower,
    str.casefold,
    lambda word: unicodedata.normalize("NFD", word),
    lambda word: unicodedata.normalize("NFC", word),
    lambda word: unicodedata.normalize("NFKC", word),
    lambda word: unicodedata.normalize("NFKD", word),
    lambda word: "".join(character + "\u0301" for character in word),
    lambda word: "".join(
        chr(ord(character) + 0xFEE0) if "!" <= character <= "~" else character for character in word
    ),
    *(lambda word, hidden=hidden: hidden.join(word) for hidden in HIDDEN),  # type: ignore[misc]
]


@lru_cache
def spellings() -> dict[str, list[str]]:
    """Every character of Unicode that is written, by the letters and digits that it folds to."""
    found: dict[str, list[str]] = {}
    for character in map(chr, range(sys.maxunicode + 1)):
        if unicodedata.category(character) not in ("Cn", "Co", "Cs"):
            found.setdefault(fold(character), []).append(character)
    return {folded: characters for folded, characters in found.items() if re.fullmatch(r"[^\W_]+", folded)}


@st.composite
def two_spellings(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a word in two spellings: of each letter any character that folds to it, and between them what
    nobody sees.
    """
    folded = st.sampled_from(sorted(spellings()))
    common = st.sampled_from([*"abcdefghijklmnopqrstuvwxyz0123456789"])
    letters = draw(st.lists(common | folded, min_size=1, max_size=12))
    one, other = (
        draw(st.sampled_from(["", "", *HIDDEN])).join(
            draw(st.sampled_from(spellings()[letter])) for letter in letters
        )
        for _ in range(2)
    )
    return one, other


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(two_spellings())
def test_word_is_found_by_any_characters_that_fold_to_it(words: tuple[str, str]) -> None:
    text, q = words
    assert finds(q, f"( {text} )")
    (marked,) = re.findall("<mark>(.*?)</mark>", snippet(f"( {text} )", split_terms(q)), re.DOTALL)
    assert fold(html.unescape(marked)) == fold(text)


@settings(max_examples=300)
@given(word=WORDS, before=st.sampled_from(VARIATIONS), after=st.sampled_from(VARIATIONS))
def test_any_spelling_finds_any_other_and_marks_it(
    word: str, before: Callable[[str], str], after: Callable[[str], str]
) -> None:
    text, q = before(word), after(word)
    assume(fold(text) == fold(q))
    assert finds(q, f"( {text} )")
    (marked,) = re.findall("<mark>(.*?)</mark>", snippet(f"( {text} )", split_terms(q)), re.DOTALL)
    assert fold(html.unescape(marked)) == fold(text)


@given(word=WORDS, variation=st.sampled_from(VARIATIONS))
def test_variations_fold_to_the_same(word: str, variation: Callable[[str], str]) -> None:
    assert fold(variation(word)) == fold(word)


@pytest.mark.parametrize("q", ["", " ", "?", "( )", "&", '""', "\u00ad", "_"])
def test_query_without_word_or_symbol_is_none(q: str) -> None:
    assert parse_query("user", q) is None


@pytest.mark.parametrize(
    ("q", "text", "marked"),
    [
        ("cafe", "the café\u0301 here", ["café\u0301"]),
        ("fox elephants", "The fox and a firefox see elephants, fox", ["fox", "elephants", "fox"]),
        ("ﷺ", "صلى الله عليه وسلم", ["صلى", "الله", "عليه", "وسلم"]),
        ("error", "\x1b[31mERROR\x1b[0m!", ["ERROR"]),
        ("gesamtkonzept", "das Ge\u00adsamt\u00adkon\u00adzept.", ["Ge\u00adsamt\u00adkon\u00adzept"]),
        ("strasse", "Die Straße.", ["Straße"]),
        ("كتاب", "هذا كِتَابٌ", ["كِتَابٌ"]),
        ("データ", "ﾃﾞｰﾀﾍﾞｰｽ", ["ﾃﾞｰﾀ"]),
        ("한", "\u1112\u1161\u11ab국", ["\u1112\u1161\u11ab"]),
        ("👍", "ok 👍🏽!", ["👍🏽"]),
        ("💻", "a 👩🏽\u200d💻 b", ["👩🏽\u200d💻"]),
        ("1", "1\ufe0f\u20e3 2", ["1\ufe0f\u20e3"]),
        ("🏴", "🏴\U000e0067\U000e0062\U000e007f", ["🏴\U000e0067\U000e0062\U000e007f"]),
        ("ไม", "ไม่มีน\u0e49\u0e33", ["ไม่"]),
        ("น", "ไม่มีน\u0e49\u0e33", ["น\u0e49\u0e33"]),
        ("hypertext", "a Hyper**T**ext b", ["Hyper**T**ext"]),
        ("1", "½ of it", ["½"]),
        ("10 km", "10km", ["10", "km"]),
        ("qui", "Quickly, quick", ["Quickly", "quick"]),
        ('"brown fox"', "a brown, fox b", ["brown, fox"]),
        ("a<b", "if a<b:", ["a<b"]),
    ],
)
def test_snippet_marks_what_matched(q: str, text: str, marked: list[str]) -> None:
    shown = snippet(text, split_terms(q))
    assert [html.unescape(mark) for mark in re.findall("<mark>(.*?)</mark>", shown)] == marked
    assert html.unescape(re.sub("</?mark>", "", shown)) == text


@pytest.mark.parametrize(
    "character",
    ["👩🏽\u200d💻", "🇩🇪", "e\u0301\u0323", "क\u094dष\u093f", "น\u0e49\u0e33", "\u1112\u1161\u11ab", "&"],
)
@pytest.mark.parametrize("before", range(8))
def test_snippet_does_not_divide_a_character(character: str, before: int) -> None:
    text = "x" * before + character * 80 + " needle " + character * 300
    shown = html.unescape(re.sub("</?mark>", "", snippet(text, split_terms("needle"))))
    beginning, end = shown.removeprefix("…").split(" needle ")
    assert beginning.lstrip("x").replace(character, "") == end.replace(character, "") == ""


def test_snippet_ends_with_a_hit_that_is_cut() -> None:
    assert snippet("a " + "&" * 100 + "b c", split_terms("&" * 100 + "b")).endswith("&amp;</mark>")


@pytest.mark.parametrize(
    ("q", "text"),
    [
        ("中", "中" * 4400),
        ("中文", "中" * 50_000),
        (
            " ".join(f"x{number}" for number in range(32)),
            " ".join(f"x{number}" for number in range(32)) * 400,
        ),
        ("a-" * 20 + "b", "a-" * 25_000),
        ('"' + "a " * 31 + 'b"', "a " * 25_000),
        ("a" * 4000, "a" * 50_000),
        ("é" * 40, "é" * 50_000),
    ],
)
def test_time_of_a_snippet_is_linear_in_the_text(q: str, text: str) -> None:
    terms = split_terms(q)
    query = parse_query("user", q)
    assert query

    def cpu_seconds(content: str) -> float:
        start = time.process_time()
        query.matches(content)
        snippet(content, terms)
        return time.process_time() - start

    cpu_seconds(text)
    part = text[: len(text) // 4]
    assert min(cpu_seconds(text) for _ in range(3)) < 10 * min(cpu_seconds(part) for _ in range(3)) + 0.01


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_text_has_the_lexemes_of_its_tokens(text: str) -> None:
    """ASCII texts are split in a faster way than others."""
    tokens = tokenize(fold(text))
    assert count_lexemes(text) == Counter(lexeme for token in tokens for lexeme in token_lexemes(token))


def test_vector_of_any_text_is_bounded() -> None:
    many = "".join(map(chr, range(0x20000, 0x2A6D0))) * 3
    assert len(count_lexemes(many)) == MAX_LEXEMES
    assert len(message_vector("user", uuid4(), datetime.now(UTC), many).encode()) < 1_000_000


@pytest.mark.parametrize("kind", TEXTS)
def test_lexeme_of_any_text_fits_into_the_index(kind: str) -> None:
    """PostgreSQL refuses a lexeme of more than 2,046 bytes, that of its user included."""
    assert [lexeme for lexeme in count_lexemes(TEXTS[kind](40_000)) if len(lexeme.encode()) > 1000] == []


def test_longest_messages_of_a_request_are_cut() -> None:
    """The words of 100 long messages are those of a tenth of their characters; short ones keep theirs."""
    text = "".join(chr(0x4E00 + number * 7919 % 20_000) for number in range(100_000))
    messages = [NewMessage("user", "short"), *[NewMessage("user", text)] * 40]
    short, *long = [message.words or "" for message in with_words(messages, "user", uuid4())]
    share = (MAX_SEARCHABLE - 5) // 40
    assert "short" in short
    assert {words.count(text[share - 2 : share]) for words in long[:1]} == {1}
    [alone] = with_words(messages[1:2], "user", uuid4())
    assert len(alone.words or "") > len(long[0])


def test_repeated_lexeme_has_one_position() -> None:
    vector = message_vector("user", uuid4(), datetime.now(UTC), "rare " + "often " * 5 + "most " * 500)
    assert re.findall(r"'[^' ]{3}([^' ]+)':(\w+)", vector) == [("most", "1A"), ("often", "1C")]
