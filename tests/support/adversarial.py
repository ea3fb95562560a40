"""Texts that cost some code more than their size."""

import itertools
import unicodedata
from collections.abc import Callable

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
    "one kana with voicing marks": lambda size: "か" + repeat("\u3099")(size),
    "one syllable of many vowels": lambda size: "\u1112" + repeat("\u1161")(size),
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
