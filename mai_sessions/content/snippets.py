"""The piece of a text that shows why it was found."""

import html
import unicodedata
from collections.abc import Iterable

from mai_sessions.content.folding import fold, fold_with_offsets
from mai_sessions.content.lexemes import MAX_CHARACTERS
from mai_sessions.content.query import MAX_WORD_COMPARED, Term, term_pattern

MAX_SNIPPET = 300

_CHUNK, _OVERLAP = 4000, 400
_BEFORE = 60
# Combining marks, and the modifiers of emoji.
_MARKS = ("Mn", "Me", "Mc", "Sk")
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
    shown = text[origin : max(start + 2 * MAX_SNIPPET, end + 1)]
    hits = _hits(shown, terms)
    place = _begin(shown, start - origin, hits)
    result = "…" if origin + place else ""
    for first, last in hits:
        if first < place:
            continue  # Before the part that is shown, or one character, such as ¼, is two words.
        plain = _escape(shown[place:first], MAX_SNIPPET - len(result))
        result += plain
        marked = _escape(shown[first:last], MAX_SNIPPET - len(result) - len(_MARK + _END_MARK))
        if html.unescape(plain) != shown[place:first] or not marked:
            return result
        result += _MARK + marked + _END_MARK
        place = last
    return result + _escape(shown[place:], MAX_SNIPPET - len(result))


def _hits(text: str, terms: tuple[Term, ...]) -> list[tuple[int, int]]:
    """Return where the hits of all terms begin and end."""
    folded, offsets = fold_with_offsets(text)
    pattern = term_pattern(terms, is_ascii=folded.isascii())
    return [(offsets[hit.start()], _end(text, offsets[hit.end() - 1])) for hit in pattern.finditer(folded)]


def _begin(text: str, start: int, hits: list[tuple[int, int]]) -> int:
    """Return where the part before a hit begins: at a word if there is one, and not inside another hit."""
    begin = max(0, start - _BEFORE)
    blank = text.find(" ", begin, start - 1)
    if begin and blank >= 0:
        begin = blank + 1
    while begin < start and _marked_length(text, begin, start, hits) > 2 * _BEFORE:
        begin += 1
    return next((last for first, last in hits if first < begin < last <= start), begin)


def _marked_length(text: str, begin: int, end: int, hits: list[tuple[int, int]]) -> int:
    marks = sum(begin <= first < end for first, _ in hits)
    return len(html.escape(text[begin:end])) + marks * len(_MARK + _END_MARK)


def _end(text: str, last: int) -> int:
    """Return where the character ends whose first code point is `last`: behind its marks and modifiers."""
    end = last + 1
    while end < len(text) and unicodedata.category(text[end]) in _MARKS and not fold(text[end]):
        end += 1
    return end


def _escape(text: str, room: int) -> str:
    """Escape as much of the text as there is room for."""
    escaped = html.escape(text)
    if len(escaped) <= room:
        return escaped
    escaped = ""
    for character in text[: max(room, 0)]:
        if len(escaped) + len(html.escape(character)) > room:
            break
        escaped += html.escape(character)
    return escaped
