# ruff: noqa: RUF001 - text in many scripts
"""Which spellings fold to the same text: contract §6."""

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mai_sessions.content.folding import fold, fold_with_offsets
from mai_sessions.content.lookalikes import LETTER_OF_SEQUENCE

MARKS = [chr(code) for code in range(0x300, 0x1F000) if unicodedata.combining(chr(code))]
SAME = {
    "Işık": "ışık",
    "ISPANAK": "ıspanak",
    "İstanbul": "istanbul",
    "كِتَابٌ": "كتاب",
    "مـــحـــمـــد": "محمد",
    "أكل": "اكل",
    "ٱلكتاب": "الكتاب",
    "مؤمن": "مومن",
    "کتاب": "كتاب",
    "علی": "علي",
    "مدرسة": "مدرسه",
    "שָׁלוֹם": "שלום",
    "שלום": "שלומ",
    "Ge\u00adsamt\u00adkon\u00adzept": "gesamtkonzept",
    "क\u094d\u200dष": "क\u094dष",
    "ज़रूर": "जरूर",
    "a\u200bb\ufeffc\u2060d\u202ae": "abcde",
    "\x1b[31mERR\x1b[1;32mOR\x1b[0m": "error",
    "\x1b]8;;https://example.org\x07link\x1b]8;;\x1b\\": "link",
    "łódź": "LODZ",
    "smørrebrød": "smorrebrod",
    "œuvre": "OEUVRE",
    "Đồng": "dong",
    "Þingvellir": "thingvellir",
    "Ægir": "aegir",
    "Straße": "STRASSE",
    "ŋ": "n",
    "٢٠٢٦": "2026",
    "२०२६": "2026",
    "２０２６": "2026",
    "x²": "x2",
    "Ｃ＋＋": "c++",
    "ﬁne": "fine",
    "ﾃﾞｰﾀ": "データ",
    "ガ": "カ\u3099",
    "한국어": unicodedata.normalize("NFD", "한국어"),
    "Ёжик": "ежик",
    "қазақ": "казак",
    "ΟΔΥΣΣΕΎΣ": "οδυσσευς",
    "ᾳ": "α",
    "don’t": "don't",
    "“quoted”": '"quoted"',
    "a—b": "a-b",
    "e\u2011mail": "e-mail",
    "…": "...",
    "，。？": ",.?",
    "👍🏽": "👍",
    "❤\ufe0f": "❤",
    "1½": "1 1/2",
    "צ׳ק": "צ'ק",
    "צה״ל": 'צה"ל',
    "ייִדיש": "ײדיש",
    "Hawaiʻi": "Hawai'i",
    "Qurʾan": "Qur'an",
    "don´t": "don't",
    "don′t": "don't",
    "❝hi❞": '"hi"',
    "a∕b": "a/b",
    "l‧l": "l·l",
    "か゛": "が",
    "🅷🅸": "hi",
    "❶⓵": "11",
    "ന്\u200d": "ൻ",
    "ሰላም፡ዓለም": "ሰላም ዓለም",
    "\x9d8;;https://example.org\x9clink": "link",
    "\x1b]0;title\x9clink": "link",
    "\x1bPq#0\x1b\\link": "link",
    "\x1b_Gf=24;AAAA\x1b\\link": "link",
    "N\bNA\bA_\bm_\be": "name",
    "เเมว": "แมว",
    "ເເມວ": "ແມວ",
    "កណ\u17d2\u178fាល": "កណ\u17d2\u178aាល",
    "น\u0e49\u0e33": "น\u0e4d\u0e49\u0e32",
    "ກ\u0ecd\u0ec8": "ກ\u0ec8\u0ecd",
    "က\u102d\u102f": "က\u102f\u102d",
    "ក\u17ca\u17bb\u17c6": "ក\u17bb\u17c6\u17ca",
    "अाप": "आप",
    "अाेर": "ओर",
    "बाेली": "बोली",
    "चाँद": "चांद",
    "கெளரவம்": "கௌரவம்",
    "ஸ்ரீ": "ஶ்ரீ",
    "ഇൗ": "ഈ",
    "သြဂုတ်": "ဩဂုတ်",
    "ฤาษี": "ฤๅษี",
    "ឲ្យ": "ឱ្យ",
    "ዓለም": "አለም",
    "ፀሐይ": "ጸሀይ",
    "سورۃ": "سورة",
    "ګل": "گل",
    "إِنَّهُۥ": "انه",
    "ﻣﺤﻤﱠﺪ": "محمد",
    "٥٠٪": "50%",
    "٣٫١٤": "3.14",
    "ܡܠܟܤ": "ܡܠܟܣ",
    "⻑野": "長野",
    "国⺠": "国民",
    "霞ヶ関": "霞ケ関",
    "髙橋の說明": "高橋の説明",
    "ᠮᠤᠩᠭᠤᠯ": "ᠮᠣᠩᠭᠣᠯ",
    "﷽": "بسم الله الرحمن الرحيم",
    "co\ufffeop": "coop",
    "a\u2800b": "a b",
    "10〜20": "10～20",
    "ἀλλ᾽ἐγώ": "ἀλλ’ἐγώ",
    "ἀλλ᾿ἐγώ": "ἀλλ'ἐγώ",
    "\u1ffd": "\u00b4",
    "25˚C": "25°C",
    "ပါ": "ပာ",
    "ག\u0fbc": "ག\u0fb2",
    "ക\u0d4eക": "കർക",
    "ક\u0afd": "ક",
    "a‖b": "a∥b",
    "25ºC": "25°C",
    "കൌ": "കൗ",
    "ക\u0d46\u0d57\u0d3e": "ക\u0d4c\u0d3e",
    "˜/.bashrc": "~/.bashrc",
    "C:⧵a⧸b": "C:\\a/b",
    "∆x": "Δx",
    "1920×1080": "1920x1080",
    "10×": "10x",
    "**R**etrieval": "retrieval",
    "Hyper**T**ext": "hypertext",
    "这是**重点**内容": "这是重点内容",
    "这是**GPT-4**模型": "这是GPT-4模型",
    "使用`print`函数": "使用print函数",
    "Ինչպե՞ս": "ինչպես",
    "加西亚•马尔克斯": "加西亚·马尔克斯",
    "ガルシア・マルケス": "ガルシア·マルケス",
    "⓫➓": "1110",
    "초ㆍ중ㆍ고": "초·중·고",
    "\uffdc": "ㅣ",
    "へルプ": "ヘルプ",
    "二○二六年": "二〇二六年",
    "ǃKung": "!Kung",
    "ស៊ី": "សុី",
    "ប៉ី": "បុី",
    "កេា": "កោ",
    "၀န်ကြီး": "ဝန်ကြီး",
    "מע''מ": 'מע"מ',
    "စာ၊": "စာ,",
}
DIFFERENT = [
    ("≠", "="),
    ("ば", "は"),
    ("검", "거"),
    ("कि", "क"),
    ("ไม่", "ไม"),
    ("เมว", "แมว"),
    ("ត", "ដ"),
    ("👍", "👎"),
    ("=\u0338", "="),
    ("é", "a"),
    ("ß", "s"),
    ("کے", "کی"),
    ("अ", "आ"),
    ("बाल", "बोल"),
    ("™", "tm"),
    ("ㅠ", "\u1172"),
    ("ベ", "ヘ"),
    ("၁၀", "၁ဝ"),
    ("ប៉ា", "ប៊ា"),
    (
        "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    ),
    ("3×n", "3xn"),
    ("a**b", "ab"),
    ("f(**a, **b)", "f(a, b)"),
    ("x**2+y**2", "x2+y2"),
    ("**bold** word", "bold word"),
    ("**注意**：", "注意："),
    ("计算x**2+y**2的值", "计算x2+y2的值"),
    ("the `list`s", "the lists"),
]


@pytest.mark.parametrize(("one", "other"), SAME.items())
def test_spellings_of_one_word_fold_to_the_same(one: str, other: str) -> None:
    assert fold(one) == fold(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_different_letters_stay_different(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@pytest.mark.parametrize(("sequence", "letter"), LETTER_OF_SEQUENCE.items())
def test_sequence_folds_to_the_letter_that_looks_the_same(sequence: str, letter: str) -> None:
    assert fold(f"a{sequence}b") == fold(f"a{letter}b")


@given(st.text())
def test_offsets_map_folded_characters_to_the_text(text: str) -> None:
    folded, offsets = fold_with_offsets(text)
    assert folded == fold(text)
    assert len(offsets) == len(folded) + 1
    assert offsets == sorted(offsets)
    assert offsets[-1] == len(text)


@given(st.text(st.characters(categories=["L", "N", "M", "S"])))
def test_canonical_equivalents_fold_to_the_same(text: str) -> None:
    assert fold(text) == fold(unicodedata.normalize("NFD", text)) == fold(unicodedata.normalize("NFC", text))


@pytest.mark.parametrize(("text", "beginning"), [("น\u0e49\u0e33", "น\u0e49"), ("ស\u17ca\u17b8", "ស\u17ca")])
def test_beginning_of_a_run_of_marks_is_found(text: str, beginning: str) -> None:
    assert fold(text).startswith(fold(beginning))


def test_letters_of_two_flags_are_no_third_flag() -> None:
    assert fold("🇸🇪") not in fold("🇺🇸🇪🇸")
    assert fold("🇪🇸") in fold("🇺🇸🇪🇸")


@given(
    st.text(st.sampled_from("aäłIışكتاب中文한ब ")),
    st.sampled_from(["\u00ad", "\u200d", "\x1b[31m", "\u0301", "\ufeff"]),
)
def test_invisible_characters_are_ignored(text: str, hidden: str) -> None:
    assert fold(hidden.join(["", *text, ""])) == fold(text)


@pytest.mark.parametrize(
    "unit",
    [
        "".join(sorted(MARKS, key=unicodedata.combining, reverse=True)),
        "".join(mark * 50 for mark in ("\u0e38", "\u0e48")[::-1]),
        "ﷺ",
        "한국어",
        "é",
        "\x1b[",
        "\x1b]",
        "**",
        "**a",
        "a**b** ",
        "a**b**c",
        "中**",
        "中`",
        "中`a`",
        "अा",
        "ाे",
        "👩🏽\u200d💻",
    ],
)
def test_time_is_linear_in_the_text(unit: str) -> None:
    text = unit * (40_000 // len(unit))

    def cpu_seconds(times: int) -> float:
        start = time.process_time()
        fold("a" + text * times)
        return time.process_time() - start

    fold(text)
    # Quadratic time would be 16 times as much for 4 times the text.
    assert min(cpu_seconds(4) for _ in range(5)) < 10 * min(cpu_seconds(1) for _ in range(5)) + 0.005
