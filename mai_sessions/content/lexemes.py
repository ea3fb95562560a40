"""The words of texts and of queries, as PostgreSQL's tsvector and tsquery, and the snippet that shows a hit.

Texts and queries are cut here and not by PostgreSQL's parser, which depends on the locale of the database,
takes `np.array` for a host name and a run of Chinese for one word. A word is a run of letters, marks and
digits; case, accents and width do not count. Scripts that are written without spaces are cut into pairs of
neighbours, and the last character of a run alone: 中文字 is 中文, 文字 and 字. So two characters are one exact
look-up, more are a phrase, and one is a prefix.

Each lexeme begins with a short hash of its user: the words of a user stand together in the index, and a
prefix reads none of another user's. A word holds nothing but letters, marks and digits, and a piece of a
title is quoted, so no text can break out of what is written here."""

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import md5
from itertools import takewhile
from operator import add
from typing import NamedTuple
from uuid import UUID

# How much of a text is found. A tsvector holds 1 MB, positions up to 16,383, and 255 of them for one lexeme.
MAX_CHARACTERS = 100_000
MAX_WORDS = 16_000
# Of a longer word, its beginning is found. A lexeme holds 2 kB.
MAX_WORD = 64
MAX_SNIPPET = 300

_CHUNK, _OVERLAP = 4000, 400
_BEFORE, _AROUND = 60, 200
_WEEK = 8 * 86_400_000

_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\U0001aff0-\U0001b16f"  # Hiragana, Katakana
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"  # Han: radicals, numerals, iteration marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han: characters
    "\u3105-\u312f\u31a0-\u31bf\ua000-\ua4cf"  # Bopomofo, Yi
)
# Above U+1F000 there are variation selectors only.
_MARKS = "".join(chr(code) for code in range(0x1F000) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
_ACCENTS = re.compile("[\u0300-\u036f]+")
# For speed, the large sets are not asked about ASCII.
_TOKEN = re.compile(
    rf"(?![\x00-\x7f])([{_SPACELESS}]+)|(?:[0-9a-z]+|(?![\x00-\x7f])(?:[^\W_{_SPACELESS}]+|[{_MARKS}]+))+"
)
_ASCII_TOKEN = re.compile("[0-9a-z]+")
_SPACELESS_TOKEN = re.compile(f"[{_SPACELESS}]")
# A character with what is written onto it: marks, the second half of a Hangul syllable, a half-width voicing
# mark.
_CLUSTER = re.compile(f".[{_MARKS}\u1160-\u11ff\uff9e\uff9f]*", re.DOTALL)
_PIECE = re.compile(r"\S+")
_QUOTED_OR_PLAIN = re.compile('"([^"]*)"|([^"]+)')


class Term(NamedTuple):
    """Tokens that must stand side by side; the last of them may be the beginning of a word."""

    tokens: tuple[str, ...]
    prefix: bool


class Query(NamedTuple):
    """What a query asks for: a tsquery, and its terms by which a hit is found again in the text."""

    tsquery: str
    terms: tuple[Term, ...]


# A lexeme, and whether it is two characters of a run, so that the next lexeme begins with the second.
_Lexeme = tuple[str, bool]


class _Hit(NamedTuple):
    start: int
    end: int
    term: Term


@lru_cache(maxsize=1024)
def scope(user_id: str) -> str:
    """What each lexeme of a user begins with."""
    # A script that gives a user's rows to another one has to make it in SQL: left(md5(user_id), 5).
    return md5(user_id.encode(), usedforsecurity=False).hexdigest()[:5]


def message_vector(user_id: str, session_id: UUID, message_id: UUID, content: str) -> str:
    """The tsvector of a message: its words, and the keys of its session and of the eight days that its id, of
    version 7, is of.
    """
    return _vector(
        scope(user_id), content, (_session_key(session_id), f"_w{(message_id.int >> 80) // _WEEK}")
    )


def title_vector(user_id: str, session_id: UUID, title: str) -> str:
    """The tsvector of a title: its words, the key of its session, and every piece of one to three characters."""
    return _vector(scope(user_id), title, (_session_key(session_id), *_pieces(title.casefold())))


def part_query(user_id: str, part: str) -> str:
    """The tsquery of the titles that may hold a part, with case folded: all that hold its pieces."""
    folded = part.casefold()
    pieces = dict.fromkeys(_pieces(folded, least=min(3, len(folded))))
    # The first ones leave few titles to look into.
    return _quoted((scope(user_id) + piece for piece in list(pieces)[:64]), " & ")


def _pieces(folded: str, least: int = 1) -> list[str]:
    return [
        f"_p{folded[start : start + size]}"
        for size in range(least, 4)
        for start in range(len(folded) - size + 1)
    ]


def _vector(prefix: str, text: str, keys: Iterable[str]) -> str:
    places: dict[str, str] = {}
    for place, (lexeme, _) in enumerate(_lexemes(fold(text[:MAX_CHARACTERS])[:MAX_CHARACTERS]), 1):
        places[lexeme] = f"{places[lexeme]},{place}" if lexeme in places else str(place)
    return " ".join(
        [
            _quoted((prefix + key for key in keys), " "),
            *(f"{prefix}{lexeme}:{place}" for lexeme, place in places.items()),
        ]
    )


def _quoted(lexemes: Iterable[str], between: str) -> str:
    """Quote them all at once, by way of U+0000, which no lexeme holds: a title has a hundred pieces."""
    escaped = "\0".join(lexemes).replace("\\", "\\\\").replace("'", "''")
    return "'" + escaped.replace("\0", f"'{between}'") + "'"


def parse_query(user_id: str, text: str, session_id: UUID | None = None) -> Query | None:
    """Read a query: words, of which the last is a prefix, and "quoted words" that are a phrase. None when it
    holds no word.
    """
    phrases = list(_phrases(fold(text)))
    if not phrases:
        return None
    prefix = scope(user_id)
    *before, (last, last_is_quoted) = phrases
    parts = [_phrase_query(prefix, lexemes) for lexemes, _ in before]
    parts.append(_phrase_query(prefix, last, as_prefix=not last_is_quoted))
    if session_id:
        parts.append(f"'{prefix}{_session_key(session_id)}'")
    terms = [Term(_tokens(lexemes), False) for lexemes, _ in before]
    terms.append(Term(_tokens(last), not last_is_quoted))
    return Query(" & ".join(dict.fromkeys(parts)), tuple(dict.fromkeys(terms)))


def _phrases(folded: str) -> Iterator[tuple[list[_Lexeme], bool]]:
    """What is in quotes, and each word and each run of a spaceless script outside of them; and whether it is
    quoted.
    """
    for quoted, plain in _QUOTED_OR_PLAIN.findall(folded):
        if quoted and (lexemes := _lexemes(quoted)):
            yield lexemes, True
        run: list[_Lexeme] = []
        for lexeme in _lexemes(plain):
            run.append(lexeme)
            if not lexeme[1]:
                yield run, False
                run = []


def _phrase_query(prefix: str, lexemes: list[_Lexeme], *, as_prefix: bool = False) -> str:
    query, place = "", 0
    for here, (lexeme, pair) in enumerate(lexemes):
        alone = not pair and _SPACELESS_TOKEN.match(lexeme) is not None
        if alone and here and lexemes[here - 1][1]:
            continue  # The pair before holds this character already.
        star = ":*" if alone or (as_prefix and here == len(lexemes) - 1) else ""
        query += f"{f' <{here - place}> ' if query else ''}'{prefix}{lexeme}'{star}"
        place = here
    return f"({query})"


def _tokens(lexemes: list[_Lexeme]) -> tuple[str, ...]:
    return tuple(lexeme[0] if pair else lexeme for lexeme, pair in lexemes)


def fold(text: str) -> str:
    """The text without case, accents and width, in which words are compared."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFKC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text)).casefold())


def _lexemes(folded: str) -> list[_Lexeme]:
    if folded.isascii():
        return [(word[:MAX_WORD], False) for word in _ASCII_TOKEN.findall(folded)[:MAX_WORDS]]
    lexemes: list[_Lexeme] = []
    for match in _TOKEN.finditer(folded):
        if run := match[1]:
            lexemes += [(pair, True) for pair in map(add, run, run[1:])]
            lexemes.append((run[-1], False))
        else:
            lexemes.append((match[0][:MAX_WORD], False))
    return lexemes[:MAX_WORDS]


def _session_key(session_id: UUID) -> str:
    return f"_s{session_id.hex[-12:]}"


def snippet(text: str, terms: Iterable[Term]) -> str:
    """A piece of the text around its hits: HTML, escaped, hits in <mark>, at most 300 characters in all."""
    chunk, hits = _first_hits(text[:MAX_CHARACTERS], tuple(terms))
    if not hits:
        return _escape(text[:MAX_SNIPPET], MAX_SNIPPET)

    def terms_around(first: int) -> int:
        return len(
            {hit.term for hit in takewhile(lambda hit: hit.end < hits[first].start + _AROUND, hits[first:])}
        )

    best = max(range(len(hits)), key=terms_around)
    before = chunk[max(0, hits[best].start - _BEFORE) : hits[best].start]
    if len(before) == _BEFORE:
        before = "…" + (before.partition(" ")[2] or before)
    while len(html.escape(before)) > _BEFORE * 2:
        before = before[1:]
    result = html.escape(before)
    place = hits[best].start
    for hit in hits[best:]:
        if hit.start < place:
            continue  # One character, such as ¼, is two words.
        plain = _escape(chunk[place : hit.start], MAX_SNIPPET - len(result))
        result += plain
        marked = _escape(chunk[hit.start : hit.end], MAX_SNIPPET - len(result) - len("<mark></mark>"))
        if html.unescape(plain) != chunk[place : hit.start] or not marked:
            return result
        result += f"<mark>{marked}</mark>"
        place = hit.end
    return result + _escape(chunk[place:], MAX_SNIPPET - len(result))


def _first_hits(text: str, terms: tuple[Term, ...]) -> tuple[str, list[_Hit]]:
    """The first chunk with hits, of the longest term if it has any, and its hits in their order."""
    longest = max(terms, key=lambda term: sum(map(len, term.tokens)))
    for wanted in ({longest}, set(terms)):
        for start in range(0, max(1, len(text)), _CHUNK):
            chunk = text[max(0, start - _OVERLAP) : start + _CHUNK]
            folded = fold(chunk)
            if any(term.tokens[0] in folded for term in wanted):
                hits = _hits(chunk, terms)
                if not wanted.isdisjoint(hit.term for hit in hits):
                    return chunk, hits
    return text, []


@lru_cache(maxsize=1024)
def _ascii_hits(terms: tuple[Term, ...]) -> re.Pattern[str]:
    """What the terms look like in text that is ASCII: each its own group."""
    groups = (
        "[^0-9a-z]+".join(token + "[0-9a-z]*" * (len(token) == MAX_WORD) for token in term.tokens)
        + "[0-9a-z]*" * term.prefix
        for term in terms
    )
    return re.compile(f"(?<![0-9a-z])(?:{'|'.join(f'({group})' for group in groups)})(?![0-9a-z])")


def _hits(chunk: str, terms: tuple[Term, ...]) -> list[_Hit]:
    if chunk.isascii():
        matches = _ascii_hits(terms).finditer(chunk.lower())
        return [_Hit(match.start(), match.end(), terms[(match.lastindex or 1) - 1]) for match in matches]
    tokens = _placed_tokens(chunk)
    hits = []
    here = 0
    firsts = tuple(term.tokens[0] for term in terms)
    while here < len(tokens):
        if not tokens[here][0].startswith(firsts):
            here += 1
            continue
        term = next((term for term in terms if _matches(tokens, here, term)), None)
        if term is None:
            here += 1
            continue
        last = here + len(term.tokens) - 1
        hits.append(_Hit(tokens[here][1], tokens[last][2], term))
        here = last + 1
    return hits


def _matches(tokens: list[tuple[str, int, int]], here: int, term: Term) -> bool:
    last = len(term.tokens) - 1
    if here + last >= len(tokens):
        return False
    end = tokens[here + last][0]
    if not (end == term.tokens[last] or (term.prefix and end.startswith(term.tokens[last]))):
        return False
    return all(tokens[here + place][0] == token for place, token in enumerate(term.tokens[:last]))


def _placed_tokens(chunk: str) -> list[tuple[str, int, int]]:
    """The tokens of a text, and where in it they begin and end."""
    tokens = []
    folded = fold(chunk)
    if len(folded) == len(chunk) and unicodedata.is_normalized("NFKC", chunk):
        return list(_tokens_between(folded))
    for piece in _PIECE.finditer(chunk):
        folded = fold(piece[0])
        # Where folding moves characters, each is folded on its own.
        spans = None if len(folded) == len(piece[0]) else _spans(piece[0])
        if spans is not None:
            folded = "".join(fold(cluster) for cluster in _CLUSTER.findall(piece[0]))
        for token, start, end in _tokens_between(folded):
            first, last = (start, end) if spans is None else (spans[start][0], spans[end - 1][1])
            tokens.append((token, piece.start() + first, piece.start() + last))
    return tokens


def _tokens_between(folded: str) -> Iterator[tuple[str, int, int]]:
    for match in _TOKEN.finditer(folded):
        start, end = match.span()
        if run := match[1]:
            yield from zip(run, range(start, end), range(start + 1, end + 1), strict=True)
        else:
            yield match[0][:MAX_WORD], start, end


def _spans(piece: str) -> list[tuple[int, int]]:
    """For each character of the folded text, what it was folded from."""
    return [cluster.span() for cluster in _CLUSTER.finditer(piece) for _ in fold(cluster[0])]


def _escape(text: str, room: int) -> str:
    """The text as HTML, as much of it as there is room for."""
    escaped = html.escape(text)
    if len(escaped) <= room:
        return escaped
    escaped = ""
    for character in text:
        if len(escaped) + len(html.escape(character)) > room:
            break
        escaped += html.escape(character)
    return escaped
