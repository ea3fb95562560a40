"""Parse the query of a search into a tsquery, to find rows, and terms, to compare with their texts.

White space separates the terms of a query; "quoted words" are one term. A row must have the lexemes of all
terms. Lexemes do not say what stands between words, so a term of several tokens, such as 3.14, a->b or "a
phrase", must also occur in the text: `Query.matches`. The same patterns mark the hits of a snippet.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from mai_sessions.content.folding import fold
from mai_sessions.content.lexemes import (
    LETTER,
    MAX_WORD,
    OPERATORS,
    SPACELESS,
    TRAILING,
    fold_searched,
    is_symbol,
    prefixes,
    session_key,
    split_characters,
    tokenize,
)

# Words of a query, including those in quotes.
MAX_WORDS = 32
# Further lexemes of a term would exclude hardly any rows.
_MAX_LEXEMES = 12
# The characters of a word that are compared with a text. A text that nearly matches everywhere costs this
# number of steps at each of its characters.
MAX_WORD_COMPARED = 40

# A quotation mark between letters of Hebrew is that of an acronym, and does not begin or end a phrase.
_UNQUOTED = '(?:[^"]|(?<=[\u05d0-\u05ea])"(?=[\u05d0-\u05ea]))'
_QUOTED_OR_PLAIN = re.compile(rf'"({_UNQUOTED}*)"|({_UNQUOTED}+)')
_WORD_END = re.compile(rf"(?:[0-9]|{LETTER}|[{SPACELESS}])$")
_LETTER = re.compile(LETTER)
_OPERATOR = re.compile(f"[{OPERATORS}]")
_SPACELESS_CHARACTER = re.compile(f"[{SPACELESS}]")
# Punctuation around a word, which is not part of it.
_OPENING, _CLOSING = "<'`¡¿", ">'`.,;:!?"
# Angle brackets that are part of an arrow or a tag: -->, <==, </.
_ARROW_TAIL, _ARROW_HEAD = re.compile("<[-=~|/!]"), re.compile("[-=~|/!]>")
# The Unicode categories of brackets and quotation marks.
_BRACKETS = ("Ps", "Pe", "Pi", "Pf")


class Lexeme(NamedTuple):
    """A lexeme that a row must have, or a prefix of one."""

    text: str
    is_prefix: bool


class Term(NamedTuple):
    """A term: a group of adjacent tokens, or a phrase of several groups. The last token may be a prefix."""

    groups: tuple[str, ...]
    is_prefix: bool
    lexemes: tuple[Lexeme, ...]
    # Whether a row with all lexemes may lack the term.
    needs_text: bool


class Query(NamedTuple):
    """A parsed query. `tsquery` finds rows, `terms` must occur in their texts.

    `recent_tsquery` restricts `tsquery` to two weeks. It is a format for PostgreSQL's `format`: its four
    values are the keys of the weeks, in hexadecimal and in decimal.
    """

    tsquery: str
    recent_tsquery: str
    terms: tuple[Term, ...]

    @property
    def compared_terms(self) -> int:
        """The number of terms that must be compared with texts."""
        return sum(term.needs_text for term in self.terms)

    def matches(self, text: str) -> bool:
        """Return whether all terms occur in a text."""
        folded = fold_searched(text)
        return all(
            term_pattern((term,), is_ascii=folded.isascii()).search(folded)
            for term in self.terms
            if term.needs_text
        )


def parse_query(user_id: str, text: str, session_id: UUID | None = None) -> Query | None:
    """Parse a query. Return None if it has nothing to search for."""
    terms = split_terms(text)
    if not terms:
        return None
    prefix, old_prefix = prefixes(user_id)
    lexemes = list(dict.fromkeys(lexeme for term in terms for lexeme in term.lexemes))
    parts = [_quote(prefix, lexeme) for lexeme in lexemes]
    if session_id:
        parts.append(_quote(prefix, Lexeme(session_key(session_id), False)))
    tsquery = " & ".join(parts)
    recent = f"{_escape(tsquery)} & ('{prefix}_w%1$s' | '{prefix}_w%2$s')"
    if all(any(map(_is_word, term.lexemes)) for term in terms):
        # Rows of release 0.1 have only words.
        parts = [_quote(old_prefix, _by_old_rules(lexeme)) for lexeme in lexemes if _is_word(lexeme)]
        if session_id:
            parts.append(_quote(old_prefix, Lexeme(f"_s{session_id.hex[-12:]}", False)))
        old = " & ".join(parts)
        recent = f"({recent}) | ({_escape(old)} & ('{old_prefix}_w%3$s' | '{old_prefix}_w%4$s'))"
        tsquery = f"({tsquery}) | ({old})"
    return Query(tsquery, recent, terms)


def _escape(tsquery: str) -> str:
    return tsquery.replace("%", "%%")


@lru_cache(maxsize=256)
def split_terms(text: str) -> tuple[Term, ...]:
    """Return the terms of a query, without repeated ones and those without lexemes."""
    folded = fold(text)
    may_be_prefix = bool(folded) and not folded[-1].isspace()
    terms: list[Term] = []
    for match in _QUOTED_OR_PLAIN.finditer(folded):
        if match[1]:
            terms.append(_term(tuple(match[1].split()), is_prefix=False))
        else:
            ends = may_be_prefix and match.end() == len(folded)
            groups = match[0].split()
            terms += [
                _term((group,), is_prefix=ends and place == len(groups))
                for place, group in enumerate(groups, 1)
            ]
    return tuple(dict.fromkeys(term for term in terms if term.lexemes))


def _term(groups: tuple[str, ...], *, is_prefix: bool) -> Term:
    trimmed = tuple(filter(None, map(_trim, groups)))
    if not trimmed:
        return Term((), False, (), False)
    # After another character than a letter or digit, the word is complete.
    is_prefix = is_prefix and bool(_WORD_END.search(groups[-1]))
    lexemes: list[Lexeme] = []
    for group in trimmed:
        lexemes += _group_lexemes(group, is_prefix=is_prefix and group is trimmed[-1])
    chosen = sorted(dict.fromkeys(lexemes), key=lambda lexeme: -len(lexeme.text))[:_MAX_LEXEMES]
    return Term(trimmed, is_prefix, tuple(chosen), len(trimmed) > 1 or not _is_told_by_lexeme(trimmed[0]))


def _trim(group: str) -> str:
    """Remove punctuation around a word, unless nothing else is left."""
    start, end = 0, len(group)
    while start < end and _is_around(group[start], _OPENING) and not _ARROW_TAIL.match(group, start):
        start += 1
    while (
        start < end
        and _is_around(group[end - 1], _CLOSING)
        and not _ARROW_HEAD.fullmatch(group, end - 2, end)
    ):
        end -= 1
    trimmed = group[start:end]
    return trimmed if any(tokenize(trimmed)) else group


def _is_around(character: str, punctuation: str) -> bool:
    return character in punctuation or unicodedata.category(character) in _BRACKETS


def _group_lexemes(group: str, *, is_prefix: bool) -> Iterator[Lexeme]:
    for token in tokenize(group):
        text = token[0]
        match token.lastgroup:
            case "word":
                ends = is_prefix and token.end() == len(group) and len(text) < MAX_WORD
                yield Lexeme(text[:MAX_WORD], ends)
            case "run":
                characters = split_characters(text)
                if len(characters) == 1:
                    # In a text, it is the first of a pair or the last of a run.
                    yield Lexeme(characters[0], True)
                for pair in pairwise(characters):
                    yield Lexeme("".join(pair), False)
            case "operators":
                for pair in pairwise(text):
                    yield Lexeme("".join(pair), False)
            case _:
                if is_symbol(text):
                    yield Lexeme(text, False)


def _is_told_by_lexeme(group: str) -> bool:
    """Return whether every text with the lexemes of a group contains the group."""
    token = next(tokenize(group), None)
    if token is None or token[0] != group:
        return False
    if token.lastgroup == "run":
        return len(split_characters(group)) <= len("中文")
    return token.lastgroup == "symbol" or (token.lastgroup == "word" and len(group) < MAX_WORD)


def _is_word(lexeme: Lexeme) -> bool:
    return not _OPERATOR.match(lexeme.text) and not is_symbol(lexeme.text[0])


def _by_old_rules(lexeme: Lexeme) -> Lexeme:
    # Release 0.1 indexed 64 characters of a word.
    return lexeme._replace(is_prefix=lexeme.is_prefix or len(lexeme.text) == MAX_WORD)


def _quote(prefix: str, lexeme: Lexeme) -> str:
    escaped = (prefix + lexeme.text).replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'{':*' * lexeme.is_prefix}"


@lru_cache(maxsize=256)
def term_pattern(terms: tuple[Term, ...], *, is_ascii: bool) -> re.Pattern[str]:
    """Return the pattern of any of the terms. `is_ascii` tells whether the folded text is ASCII."""
    letter = "[a-z]" if is_ascii else LETTER
    longest_first = sorted(terms, key=lambda term: -sum(map(len, term.groups)))
    return re.compile("|".join(_term_source(term, letter) for term in longest_first))


def _term_source(term: Term, letter: str) -> str:
    *before, last = term.groups
    groups = [_group_source(group, letter, is_prefix=False) for group in before]
    return r"[\W_]+".join([*groups, _group_source(last, letter, is_prefix=term.is_prefix)])


def _group_source(group: str, letter: str, *, is_prefix: bool) -> str:
    compared = group[:MAX_WORD_COMPARED]
    # The pattern begins with a literal character, to which `re` can skip; the look-behind follows.
    first = re.escape(compared[0])
    source = (
        f"{first}(?<!{_same_kind(compared[0], letter)}{first})" if _same_kind(compared[0], letter) else first
    )
    source += re.escape(compared[1:])
    kind = _same_kind(compared[-1], letter)
    if _SPACELESS_CHARACTER.match(compared[-1]):
        return f"{source}(?![{TRAILING}])"
    if not kind:
        return source
    # After a prefix, the rest of the word belongs to the hit.
    return f"{source}{kind}*" if is_prefix or compared != group else f"{source}(?!{kind})"


def _same_kind(character: str, letter: str) -> str:
    """Return the pattern of characters that continue a word or a run of operators, or an empty text."""
    if _LETTER.match(character):
        return letter
    if character in "0123456789":
        return "[0-9]"
    # === does not contain ==.
    return re.escape(character) if _OPERATOR.match(character) else ""
