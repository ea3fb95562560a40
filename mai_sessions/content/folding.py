"""Fold a text so that the spellings of a word compare equal.

Each character is folded by itself, so folding takes time linear in the text, and each folded character
belongs to exactly one character of the text. The result is derived from Unicode's data about the character:
compatibility decomposition (UAX #15), case folding, decimal value, combining class and name; and from the
tables of `lookalikes`.

Removed: combining marks that a writer may leave out (accents, Arabic and Hebrew vowel signs, nuktas), format
and control characters, fillers, variation selectors, emoji modifiers, tatweel, terminal escape sequences.
Kept, because readers regard them as letters: the vowel signs, tone marks and viramas of Indic and
South-East Asian scripts, and the voicing marks of kana. Syllables of Hangul and voiced kana are decomposed.
"""

import re
import unicodedata

from mai_sessions.content.lookalikes import LETTER_OF_SEQUENCE, LOOKALIKES

# ECMA-48: control sequences (colours), control strings (links, titles, images) with their terminator, and
# other escapes. Also a character that a backspace overprints, as in the bold text of a manual page.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
    r"|[^\x00-\x20\x7f-\x9f]\x08"
)
_ESCAPE_START = re.compile(r"[\x08\x1b\x90\x98\x9b\x9d-\x9f]")
_STROKE = "\N{COMBINING LONG SOLIDUS OVERLAY}"
_STRUCK_SYMBOL = re.compile(rf"[^\w\s]{_STROKE}")
_BLACK_FLAG = "\N{WAVING BLACK FLAG}"
_TAGGED_FLAG = re.compile(f"{_BLACK_FLAG}[\U000e0061-\U000e007a]+")
# Zero for the letter WA, which looks the same.
_ZERO = "\N{MYANMAR DIGIT ZERO}"
_ZERO_FOR_WA = re.compile(f"(?<![\u1040-\u1049]){_ZERO}(?=[\u1000-\u103f])")
# Two apostrophes for a gershayim.
_GERSHAYIM = re.compile("(?<=[\u05d0-\u05ea])['\u2019\u05f3]{2}(?=[\u05d0-\u05ea])")
_TAG_LETTERS = {0xE0000 + code: code for code in range(ord("a"), ord("z") + 1)}
# The first and the further characters of any sequence.
_SEQUENCE = re.compile(
    f"[{''.join(sequence[0] for sequence in LETTER_OF_SEQUENCE)}]"
    f"[{''.join(sequence[1:] for sequence in LETTER_OF_SEQUENCE)}]+"
)
# In Markdown, bold text and code. Each begins with a literal text, for which `re` searches fast. Hardly any
# text in ASCII has bold parts of words.
_INSIDE_WORD = re.compile(r"\*\*(?<=[A-Za-z]\*\*)(?=[A-Za-z])")
_BOLD = re.compile(r"(\*\*)(?<!\*\*\*)(?!\s)([^*\n]+)(?<!\s)\*\*(?!\*)")
_CODE = re.compile(r"(`)(?<!``)(?!\s)([^`\n]+)(?<!\s)`(?!`)")
# The control characters that are no white space. To remove them is faster than to find one by a pattern.
_CONTROLS: dict[int, None] = dict.fromkeys([*range(0x09), *range(0x0E, 0x1C), 0x7F])
# Combining classes of marks that are part of a letter: 0 (vowel signs), 8 (kana voicing), 9 (viramas), and
# the vowel signs and tone marks of Telugu, Thai, Lao and Tibetan.
_KEPT_CLASSES = {0, 8, 9, 84, 91, 103, 107, 118, 122, 129, 130, 132}
# Blocks of scripts whose vowel signs are not in `\w`.
INDIC = (
    "\u0900-\u0dff\u0f00-\u0fff\u1700-\u177f\u1900-\u194f\u19e0-\u1a1f\u1b80-\u1cff\ua800-\ua95f\uaa00-\uaa5f"
    "\uaae0-\uabff\U00010a00-\U00011fff"
    "\u0780-\u07bf\u1885\u1886\u2d7f\U00016f00-\U00016f9f"  # Thaana, Mongolian, Tifinagh, Miao
)
# Marks between sentences and their parts, also of Burmese and Khmer.
_STOP = re.compile(f"[{INDIC}\u104a\u104b\u17d4-\u17d6\u17d8-\u17da]")
_IGNORABLE_NAME = re.compile(
    r"VARIATION SELECTOR|\bFILLER$|NUKTA|GRAPHEME JOINER|VOWEL INHERENT|TATWEEL|LAJANYALAN|EMOJI MODIFIER"
    # Armenian writes the signs of a question or exclamation behind a vowel of the word.
    "|ARABIC SMALL |^ARMENIAN (EMPHASIS|EXCLAMATION|QUESTION|ABBREVIATION) MARK"
)
# Characters that are not assigned, and not shown. PDFium writes U+FFFE where a line ends in a word.
_NONCHARACTER = re.compile("[\u2065\ufdd0-\ufdef\ufff0-\ufff8\ufffe\uffff]")
_PUNCTUATION_NAMES = (
    (re.compile(r"^MODIFIER LETTER (.+ )?(COMMA|APOSTROPHE|PRIME|HALF RING)$"), "'"),
    (re.compile(r"APOSTROPHE$|^PRIME$|SALTILLO$|PUNCTUATION GERESH$|SINGLE .*QUOTATION MARK"), "'"),
    (re.compile(r"PUNCTUATION GERSHAYIM$|DOUBLE .*QUOTATION MARK"), '"'),
    (re.compile(r"WORD ?(SPACE|SEPARATOR|DIVIDER)$"), " "),
    (re.compile(r"COMMA$"), ","),
    (re.compile(r"(FULL STOP|DANDA)$"), "."),
    (re.compile(r"SEMICOLON$"), ";"),
    (re.compile(r"QUESTION MARK$"), "?"),
    (re.compile(r"EXCLAMATION MARK$"), "!"),
)
_BASE_NAMES = (
    re.compile(r"((?:LATIN|GREEK|CYRILLIC) SMALL LETTER .+?) WITH "),
    re.compile(r"(ARABIC LETTER (?:ALEF|WAW|YEH|KAF)) (?!BARREE)"),
    re.compile(r"((?:HEBREW|SYRIAC) LETTER) FINAL( .+)"),
)
# Vowels and final consonants of Hangul.
_TRAILING_JAMO = re.compile("[\u1160-\u11ff\ud7b0-\ud7ff]")
_ENCLOSED_NAME = re.compile(r"NEGATIVE (?:CIRCLED|SQUARED) LATIN CAPITAL LETTER ([A-Z])$")
_SPELLED_NAME = re.compile(r"LATIN (?:SMALL (?:LETTER|LIGATURE)|LETTER SMALL CAPITAL) ([A-Z]{1,2})$")
_NAMED = {
    "LATIN SMALL LETTER DOTLESS I": "i",
    "LATIN SMALL LETTER DOTLESS J": "j",
    "LATIN SMALL LETTER ETH": "d",
    "LATIN SMALL LETTER THORN": "th",
    "LATIN SMALL LETTER ENG": "n",
    "ARABIC LETTER FARSI YEH": "\N{ARABIC LETTER YEH}",
    "ARABIC LETTER ALEF MAKSURA": "\N{ARABIC LETTER YEH}",
    "ARABIC LETTER KEHEH": "\N{ARABIC LETTER KAF}",
    "ARABIC LETTER SWASH KAF": "\N{ARABIC LETTER KAF}",
    "ARABIC LETTER TEH MARBUTA": "\N{ARABIC LETTER HEH}",
    "ARABIC LETTER HEH GOAL": "\N{ARABIC LETTER HEH}",
    "ARABIC LETTER HEH DOACHASHMEE": "\N{ARABIC LETTER HEH}",
    "ARABIC LETTER AE": "\N{ARABIC LETTER HEH}",
    "HEBREW LIGATURE YIDDISH DOUBLE VAV": "\N{HEBREW LETTER VAV}\N{HEBREW LETTER VAV}",
    "HEBREW LIGATURE YIDDISH VAV YOD": "\N{HEBREW LETTER VAV}\N{HEBREW LETTER YOD}",
    "HEBREW LIGATURE YIDDISH DOUBLE YOD": "\N{HEBREW LETTER YOD}\N{HEBREW LETTER YOD}",
    "BENGALI LETTER KHANDA TA": "\N{BENGALI LETTER TA}\N{BENGALI SIGN VIRAMA}",
    # A consonant without a vowel. Before Unicode 5.1 it was written with a virama and a joiner.
    "MALAYALAM LETTER CHILLU RR": "\N{MALAYALAM LETTER RA}\N{MALAYALAM SIGN VIRAMA}",
    **{
        f"MALAYALAM LETTER CHILLU {consonant}": unicodedata.lookup(f"MALAYALAM LETTER {consonant}A")
        + "\N{MALAYALAM SIGN VIRAMA}"
        for consonant in ("NN", "N", "L", "LL", "K", "M", "Y", "LLL")
    },
    # Often typed as two signs, which look the same.
    "THAI CHARACTER SARA AE": 2 * "\N{THAI CHARACTER SARA E}",
    "LAO VOWEL SIGN EI": 2 * "\N{LAO VOWEL SIGN E}",
    "MINUS SIGN": "-",
    "FRACTION SLASH": "/",
    "DIVISION SLASH": "/",
    "RATIO": ":",
    "ASTERISK OPERATOR": "*",
    "TILDE OPERATOR": "~",
    "DOT OPERATOR": "\N{MIDDLE DOT}",
    "HYPHENATION POINT": "\N{MIDDLE DOT}",
}


def _is_removed(character: str) -> bool:
    category = unicodedata.category(character)
    if category in ("Cf", "Me") or (category == "Cc" and not character.isspace()):
        return True
    if category[0] == "M" and unicodedata.combining(character) not in _KEPT_CLASSES:
        return True
    return bool(_IGNORABLE_NAME.search(unicodedata.name(character, "")))


def _fold_letter(character: str) -> str:
    """Fold a character that is decomposed and case-folded."""
    if _is_removed(character):
        return ""
    name = unicodedata.name(character, "")
    number = (unicodedata.numeric if "CIRCLED" in name else unicodedata.digit)(character, None)
    if number is not None:
        return str(int(number))
    if character.isascii():
        return character
    if alike := LOOKALIKES.get(character) or _NAMED.get(name):
        return "".join(map(_fold_letter, alike))
    if unicodedata.category(character)[0] in "PL" and (punctuation := _fold_punctuation(name)):
        return punctuation
    spelled = _SPELLED_NAME.match(name)
    return spelled[1].lower() if spelled else _base_letter(character, name)


def _base_letter(character: str, name: str) -> str:
    """Return the letter that a name is based on: l for LATIN SMALL LETTER L WITH STROKE."""
    base = next(filter(None, (pattern.match(name) for pattern in _BASE_NAMES)), None)
    if base is None:
        return character
    try:
        return _fold_character(unicodedata.lookup("".join(base.groups())))
    except KeyError:  # Unicode has no letter of that name.
        return character


def _fold_character(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Sk":
        character = unicodedata.normalize("NFD", character)[0]
    if character in LOOKALIKES:
        return _fold_letter(character)
    if category == "Pd":
        return "-"
    if category == "Po" and _STOP.match(character):
        return _fold_punctuation(unicodedata.name(character)) or ","
    decomposed = unicodedata.normalize("NFKD", character)
    # ™ is no part of the word before it.
    is_sign = category == "So" and decomposed.isascii() and "<super>" in unicodedata.decomposition(character)
    if is_sign or (category[0] == "S" and unicodedata.normalize("NFKC", character) == character):
        return _fold_symbol(character)
    if decomposed != character and _TRAILING_JAMO.fullmatch(decomposed):
        # A vowel by itself, as in ㅠㅠ, is not that of the syllable before it.
        return unicodedata.lookup(unicodedata.name(character).removeprefix("HALFWIDTH "))
    if category[0] == "L" or decomposed[1:] in ("\u3099", "\u309a"):
        # A mark without a letter decomposes to a blank and the mark. These follow their letter.
        decomposed = decomposed.lstrip()
    if "\N{FRACTION SLASH}" in decomposed[1:]:
        decomposed = " " + decomposed  # 1½ is 1 1/2.
    unmarked = "".join(part for part in decomposed if not _is_removed(part))
    folded = unicodedata.normalize("NFKD", unmarked.casefold())
    return "".join(map(_fold_letter, folded))


def _fold_symbol(character: str) -> str:
    """Fold a symbol. Strokes are kept: ≠ differs from =."""
    name = unicodedata.name(character, "")
    if _is_removed(character):
        return ""
    if letter := _ENCLOSED_NAME.match(name):
        return letter[1].lower()
    return _NAMED.get(name) or (_fold_punctuation(name) if "QUOTATION MARK" in name else "") or character


def _fold_punctuation(name: str) -> str:
    return next((folded for pattern, folded in _PUNCTUATION_NAMES if pattern.search(name)), "")


class _Folds(dict[int, str]):
    """The folded text of each code point, for `str.translate`, computed at first use."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if unicodedata.category(character) in ("Cn", "Co"):  # Do not cache the million unassigned ones.
            return "" if _NONCHARACTER.match(character) else character
        self[code] = _fold_character(character)
        return self[code]


_folds = _Folds()


def fold(text: str) -> str:
    """Return the folded text."""
    text = _hide_markup(text)
    if _is_plain(text):
        return text.lower()
    return _unify_sequences(_compose(_hide_escapes(text)).translate(_folds))


def fold_with_offsets(text: str) -> tuple[str, list[int]]:
    """Return the folded text, and for each of its characters the index of the character in `text`.

    The list has one more item, the length of `text`.
    """
    text = _hide_markup(text)
    if _is_plain(text):
        return text.lower(), list(range(len(text) + 1))
    folds = [_folds[ord(character)] for character in _compose(_hide_escapes(text))]
    offsets = [index for index, folded in enumerate(folds) for _ in folded]
    return _unify_sequences("".join(folds)), [*offsets, len(text)]


def _is_plain(text: str) -> bool:
    """Return whether folding changes only the case of a text: it is ASCII without control characters."""
    return text.isascii() and len(text.translate(_CONTROLS)) == len(text)


def _hide_escapes(text: str) -> str:
    """Replace each character of an escape sequence with U+0000, which folds to nothing."""
    if not _ESCAPE_START.search(text):
        return text
    return _ESCAPE_SEQUENCE.sub(lambda match: "\0" * len(match[0]), text)


def _hide_markup(text: str) -> str:
    """Replace the marks around a part of a word, which no reader sees, with U+0000.

    Such a part is bold and has only letters, unlike the code a**b and f(**x); or it touches a character that
    is not ASCII, because some scripts have no spaces.
    """
    if text.isascii():
        return _BOLD.sub(_hide_marks, text) if "**" in text and _INSIDE_WORD.search(text) else text
    return _CODE.sub(_hide_marks, _BOLD.sub(_hide_marks, text))


def _hide_marks(match: re.Match[str]) -> str:
    mark, inner = match.groups()
    text, (start, end) = match.string, match.span()
    around = text[max(0, start - 1) : start] + text[end : end + 1]
    neighbours = "".join(filter(_is_letter, around))
    is_part = neighbours and mark == "**" and all(map(_is_letter, inner))
    return inner.join(2 * ["\0" * len(mark)]) if is_part or not neighbours.isascii() else match[0]


def _is_letter(character: str) -> bool:
    return unicodedata.category(character)[0] in "LM"


def _compose(text: str) -> str:
    """Replace each sequence that looks like one character with this character, and U+0000 for the others.

    All other combining marks are folded by themselves. The tags of a flag, such as that of Wales, become
    letters, because tags are removed.
    """
    if _BLACK_FLAG in text:
        text = _TAGGED_FLAG.sub(lambda match: match[0].translate(_TAG_LETTERS), text)
    if _ZERO in text:
        text = _ZERO_FOR_WA.sub("\N{MYANMAR LETTER WA}", text)
    if _STROKE in text:
        text = _STRUCK_SYMBOL.sub(lambda match: unicodedata.normalize("NFC", match[0]).ljust(2, "\0"), text)
    text = _GERSHAYIM.sub('"\0', text)
    return _SEQUENCE.sub(_compose_sequence, text)


def _compose_sequence(match: re.Match[str]) -> str:
    for size in (3, 2):
        if letter := LETTER_OF_SEQUENCE.get(match[0][:size]):
            return letter.ljust(min(size, len(match[0])), "\0") + match[0][size:]
    return match[0]


# Marks that are typed in any order and look the same: in the order in which they are written, so that the
# beginning of a text stays one. Myanmar's medial consonants and E are not among them.
_WRITING_ORDER = "".join(
    chr(code)
    for first, last in (
        (0x0E31, 0x0E31), (0x0E34, 0x0E3A), (0x0E47, 0x0E4E),  # Thai
        (0x0EB1, 0x0EB1), (0x0EB4, 0x0EBC), (0x0EC8, 0x0ECE),  # Lao
        (0x102D, 0x1030), (0x1032, 0x1032), (0x1036, 0x1038), (0x103A, 0x103A), (0x1039, 0x1039),  # Myanmar
        (0x17C9, 0x17CA), (0x17B6, 0x17C8), (0x17CB, 0x17D2),  # Khmer
    )
    for code in range(first, last + 1)
)  # fmt: skip
# Above U+1F000, the only marks are variation selectors.
_SORTED_MARKS = _WRITING_ORDER + "".join(
    character
    for character in map(chr, range(0x0900, 0x1F000))
    if unicodedata.combining(character) in _KEPT_CLASSES - {0}
)
FLAG_LETTERS = "".join(map(chr, range(0x1F1E6, 0x1F200)))
# Folded texts have no negative squared letters: `_ENCLOSED_NAME` folds them to ASCII.
_FLAG_ENDS = {0x1F1E6 + letter: 0x1F170 + letter for letter in range(26)}
# One class of characters is searched for twice as fast as two.
_RUN = re.compile(f"[{_SORTED_MARKS}{FLAG_LETTERS}]{{2,}}")


# With a vowel above the consonant, the two shifters of Khmer are written as the vowel U.
_KHMER_VOWEL_ABOVE = re.compile("[\u17b7-\u17ba\u17be]")
_KHMER_SHIFTERS = dict.fromkeys((0x17BB, 0x17C9), "\N{KHMER SIGN TRIISAP}")


def _unify_run(run: re.Match[str]) -> str:
    """Put marks into one order, and replace the second letter of each flag: 🇺🇸🇪🇸 do not contain 🇸🇪."""
    marks = run[0].rstrip(FLAG_LETTERS)
    flags = run[0][len(marks) :]
    if _KHMER_VOWEL_ABOVE.search(marks):
        marks = marks.translate(_KHMER_SHIFTERS)
    ordered = sorted(marks, key=lambda mark: (_WRITING_ORDER.find(mark), unicodedata.combining(mark)))
    ends = (letter.translate(_FLAG_ENDS) if place % 2 else letter for place, letter in enumerate(flags))
    return "".join((*ordered, *ends))


# Keyboards have none, so people type 1920x1080 and 10x.
_TIMES = "\N{MULTIPLICATION SIGN}"
_TIMES_AFTER_DIGIT = re.compile(rf"(?<=[0-9]){_TIMES}(?![^\W\d_])")
# Under a consonant, the two letters of Khmer look the same.
_KHMER_SUBSCRIPT_TA = "\N{KHMER SIGN COENG}\N{KHMER LETTER TA}"
_KHMER_SUBSCRIPT_DA = "\N{KHMER SIGN COENG}\N{KHMER LETTER DA}"


def _unify_sequences(folded: str) -> str:
    """Write alike what looks alike, in the same number of characters. For runs of marks,
    `unicodedata.normalize` takes quadratic time.
    """
    if _TIMES in folded:
        folded = _TIMES_AFTER_DIGIT.sub("x", folded)
    return _RUN.sub(_unify_run, folded).replace(_KHMER_SUBSCRIPT_TA, _KHMER_SUBSCRIPT_DA)
