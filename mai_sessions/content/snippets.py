"""The piece of a text that shows why it was found."""

import html
import re
import unicodedata
from collections.abc import Iterable

from mai_sessions.content.folding import FLAG_LETTERS, fold, fold_with_offsets
from mai_sessions.content.lexemes import MAX_CHARACTERS, TRAILING, is_symbol
from mai_sessions.content.query import MAX_WORD_COMPARED, Term, term_pattern

MAX_SNIPPET = 300

_CHUNK, _OVERLAP = 4000, 400
_BEFORE = 60
# The most code points of what is shown as one character, unless it is made to be long.
_LONGEST_CHARACTER = 40
_VIRAMA = 9
_JOINER = "\N{ZERO WIDTH JOINER}"
# What is shown with the character before it, besides combining marks: the vowel AM of Thai and Lao, modifiers
# of emoji, and the tags of flags.
_EXTENDING = re.compile(f"[{TRAILING}\u0e33\u0eb3{_JOINER}\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f]")
_MARK, _END_MARK = "<mark>", "</mark>"


def snippet(text: str, terms: Iterable[Term]) -> str:
    """Return text around the first hit of the longest term: HTML, escaped, hits of all terms in `<mark>`.

    At most 300 characters in all. Takes time linear in what precedes the hit.
    """
    terms = tuple(terms)
    text = text[:MAX_CHARACTERS]
    longest = max(terms, key=lambda term: sum(map(len, term.groups)))
    hit = _first_hit(text, longest)
    return _show(text, *hit, terms) if hit else _escape(text, MAX_SNIPPET)


def _first_hit(text: str, term: Term) -> tuple[int, int] | None:
    """Return where the first hit of a term begins and ends."""
    overlap = max(_OVERLAP, 2 * sum(min(len(group), MAX_WORD_COMPARED) for group in term.groups))
    left = MAX_CHARACTERS
    for start in range(0, max(1, len(text)), _CHUNK):
        begin = max(0, start - overlap)
        chunk = text[begin : start + _CHUNK]
        folded = fold(chunk)[:left]
        left -= len(folded)
        hit = term_pattern((term,), is_ascii=folded.isascii()).search(folded)
        if hit:
            offsets = fold_with_offsets(chunk)[1]
            return begin + offsets[hit.start()], begin + offsets[hit.end()]
        if not left:
            break
    return None


def _show(text: str, start: int, end: int, terms: tuple[Term, ...]) -> str:
    """Show the text from a little before a hit."""
    # What precedes the part that is shown tells whether a word begins with it.
    origin = max(0, start - 2 * _BEFORE)
    origin -= _is_divided(text, origin)  # Two letters are a flag.
    shown = text[origin : max(start + 2 * MAX_SNIPPET, end + 1)]
    hits = _hits(shown, terms)
    place = _begin(shown, start - origin, hits)
    result = "…" if origin + place else ""
    for first, last in hits:
        if first < place:
            continue  # Before the part that is shown.
        plain = _escape(shown[place:first], MAX_SNIPPET - len(result))
        result += plain
        marked = _escape(shown[first:last], MAX_SNIPPET - len(result) - len(_MARK + _END_MARK))
        if html.unescape(plain) != shown[place:first] or not marked:
            return result
        result += _MARK + marked + _END_MARK
        if html.unescape(marked) != shown[first:last]:
            return result
        place = last
    return result + _escape(shown[place:], MAX_SNIPPET - len(result))


def _hits(text: str, terms: tuple[Term, ...]) -> list[tuple[int, int]]:
    """Return where the hits of all terms begin and end. They do not divide what is shown as one character."""
    folded, offsets = fold_with_offsets(text)
    hits: list[tuple[int, int]] = []
    end = 0
    for hit in term_pattern(terms, is_ascii=folded.isascii()).finditer(folded):
        start = offsets[hit.start()]
        if start < end:
            continue  # One character, such as ¼, is two words.
        end = offsets[hit.end() - 1] + 1
        while _is_divided(text, start):
            start -= 1
        while _is_divided(text, end):
            end += 1
        hits.append((start, end))
    return hits


def _begin(text: str, start: int, hits: list[tuple[int, int]]) -> int:
    """Return where the part before a hit begins: at a word if there is one, and not inside another hit."""
    begin = max(0, start - _BEFORE)
    blank = text.find(" ", begin, start - 1)
    if begin and blank >= 0:
        begin = blank + 1
    while begin < start and _marked_length(text, begin, start, hits) > 2 * _BEFORE:
        begin += 1
    while _is_divided(text, begin):
        begin -= 1
    return next((last for first, last in hits if first < begin < last <= start), begin)


def _marked_length(text: str, begin: int, end: int, hits: list[tuple[int, int]]) -> int:
    marks = sum(begin <= first < end for first, _ in hits)
    return len(html.escape(text[begin:end])) + marks * len(_MARK + _END_MARK)


def _is_divided(text: str, index: int) -> bool:
    """Return whether what is shown as one character would be divided before the code point at `index`."""
    if not 0 < index < len(text) or text[index - 1].isspace():
        return False
    before, character = text[index - 1], text[index]
    if character in FLAG_LETTERS:
        return bool((index - len(text[:index].rstrip(FLAG_LETTERS))) % 2)
    return (
        unicodedata.category(character)[0] == "M"
        or bool(_EXTENDING.match(character))
        or (before == _JOINER and is_symbol(character))
        or (unicodedata.combining(before) == _VIRAMA and character.isalpha())
    )


def _escape(text: str, room: int) -> str:
    """Escape as much of the text as there is room for."""
    escaped = html.escape(text)
    if len(escaped) <= room:
        return escaped
    end = size = 0
    while (size := size + len(html.escape(text[end]))) <= room:
        end += 1
    whole = end
    while _is_divided(text, whole):
        whole -= 1
    return html.escape(text[: whole or (end if end > _LONGEST_CHARACTER else 0)])
