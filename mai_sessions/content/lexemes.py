"""The lexemes of messages and titles, as text of PostgreSQL's tsvector.

The service splits texts itself, because PostgreSQL's parser depends on the locale of the database, treats
`np.array` as a host name and a run of Chinese as one word. A text is folded first (see `folding`). Its
lexemes are

- its words: runs of letters and digits, up to 16 characters of each. A word of two or three runs of letters
  and of digits, such as 10km, also has these runs as lexemes;
- in scripts without spaces, each pair of adjacent characters, and the last character of a run: 中文字 has
  中文, 文字 and 字;
- each pair of adjacent operators: -> and == of a->b===c; and each symbol that is not ASCII.

Lexemes have no positions: adjacent tokens and phrases are compared with the text (see `query`). A lexeme that
occurs three times or more has one position, whose weight is a measure of the number, for ts_rank.

Each lexeme begins with a short hash of its user, so the words of a user are neighbours in the index, and a
prefix search reads words of few other users. Every tsvector has a key of its session. That of a message also
has a key of its week, which restricts a search to recent messages. One lexeme, without a user, is the version
of these rules.
"""

import re
import unicodedata
from base64 import urlsafe_b64encode
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import md5
from operator import add
from uuid import UUID

from mai_sessions.content.folding import INDIC, fold
from mai_sessions.content.long_text import Content, head

# The searchable part of a text. A tsvector is limited to 1 MB.
MAX_CHARACTERS = 100_000
MAX_LEXEMES = 16_000
MAX_WORD = 16
# The characters that are folded at a time, because some fold to eighteen characters.
_CHUNK = 10_000
# A word of more runs of letters and of digits, such as a hash, is a single lexeme.
_MAX_RUNS = 3
# The lexeme of all rows that follow these rules. `reindex` finds the other rows by two indexes.
RULES = "_2"
WEEK_SECONDS = 8 * 86_400

SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f\u1780-\u17ff"  # Thai, Lao, Myanmar, Khmer
    "\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf"  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
    "\u1b00-\u1b7f\ua980-\ua9df"  # Balinese, Javanese
    "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff"  # Hangul
    "\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"  # Kana
    "\U0001aff0-\U0001b16f"  # Kana: extensions
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3031-\u3035\u3038-\u303c"  # Han: radicals, numerals, marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han: characters
    "\u3105-\u312f\u31a0-\u31bf\ua000-\ua4cf"  # Bopomofo, Yi
)
# Voicing marks of kana, vowels and final consonants of Hangul: they belong to the character before.
TRAILING = "\u3099\u309a\u1160-\u11ff\ud7b0-\ud7ff"
LETTER = rf"(?:[{INDIC}]|[^\W\d_{SPACELESS}])"
OPERATORS = r"!#$%&*+\-./:<=>?@\\^_|~"

# ASCII characters are matched first: it is faster than the large sets.
_TOKEN = re.compile(
    rf"(?P<word>(?:[0-9a-z]+|(?![\x00-\x7f]){LETTER}+)+)"
    rf"|(?P<run>(?![\x00-\x7f])[{SPACELESS}]+)"
    rf"|(?P<operators>[{OPERATORS}]{{2,}})"
    r"|(?P<symbol>[^\x00-\x7f\w\s])"
)
# These leave only words, or only runs of operators, of a folded ASCII text: faster than a pattern.
_ASCII = [chr(code) for code in range(128)]
_TO_WORDS = str.maketrans({character: " " for character in _ASCII if not character.isalnum()})
_TO_OPERATORS = str.maketrans(
    {character: " " for character in _ASCII if not re.match(f"[{OPERATORS}]", character)}
)
_RUN = re.compile("[0-9]+|[^0-9]+")
# No writing has more marks or vowels on a character, and PostgreSQL limits a lexeme to 2 kB.
_CHARACTER = re.compile(f".[{TRAILING}]{{0,8}}", re.DOTALL)
_IS_DECOMPOSED = re.compile(f"[{TRAILING}]")
# The weight of a lexeme by the number of its occurrences.
_WEIGHTS = {"A": range(16, MAX_CHARACTERS), "B": range(6, 16), "C": range(3, 6)}
_REPEATED = 3


@lru_cache(maxsize=1024)
def user_prefix(user_id: str) -> str:
    """Return the prefix of all lexemes of a user."""
    # Also computed in sql/dba: translate(left(encode(decode(md5(user_id), 'hex'), 'base64'), 3), '+/', '-_').
    return urlsafe_b64encode(md5(user_id.encode(), usedforsecurity=False).digest())[:3].decode()


def session_key(session_id: UUID) -> str:
    """Return the lexeme, without its user's prefix, of the rows of a session."""
    return "_s" + urlsafe_b64encode(session_id.bytes[-3:]).decode()


def message_vector(user_id: str, session_id: UUID, created_at: datetime | None, content: Content) -> str:
    """Return the tsvector of a message: the lexemes of its content, and the keys of its session and week.

    Without `created_at`, the statement that stores the message adds the key of the week.
    """
    keys = [session_key(session_id)]
    if created_at is not None:
        keys.append(f"_w{int(created_at.astimezone(UTC).timestamp() // WEEK_SECONDS):x}")
    return _vector(user_prefix(user_id), content, keys)


def fold_title(title: str) -> str:
    """Return a title, or a part of one, as lists compare it: in NFC, without case, Turkish case included."""
    if title.isascii():
        return title.lower()
    folded = unicodedata.normalize("NFD", title).casefold().replace("i\u0307", "i")
    return unicodedata.normalize("NFC", folded.replace("\N{LATIN SMALL LETTER DOTLESS I}", "i"))


def title_vector(user_id: str, session_id: UUID, title: str) -> str:
    """Return the tsvector of a title: its lexemes, the key of its session, and its n-grams."""
    return _vector(user_prefix(user_id), title, (session_key(session_id), *_ngrams(fold_title(title))))


def substring_query(user_id: str, substring: str) -> str:
    """Return the tsquery of the titles that may contain a substring: those with all of its n-grams."""
    folded = fold_title(substring)
    # The first n-grams exclude nearly all other titles.
    ngrams = list(dict.fromkeys(_ngrams(folded, least=min(3, len(folded)))))[:64]
    by_rules = (_quoted(prefix, ngrams, " & ") for prefix in prefixes(user_id))
    return " | ".join(f"({query})" for query in by_rules)


def prefixes(user_id: str) -> tuple[str, str]:
    """Return the prefixes of the lexemes of a user, by these rules and by those of release 0.1."""
    return user_prefix(user_id), md5(user_id.encode(), usedforsecurity=False).hexdigest()[:5]


def _ngrams(folded: str, least: int = 1) -> list[str]:
    """Return the lexemes of the substrings of `least` to three characters."""
    return [
        f"_p{folded[start : start + size]}"
        for size in range(least, 4)
        for start in range(len(folded) - size + 1)
    ]


def _vector(prefix: str, text: Content, keys: Iterable[str]) -> str:
    counts = count_lexemes(text)
    repeated = {lexeme: count for lexeme, count in counts.items() if count >= _REPEATED}
    rare = (lexeme for lexeme in counts if lexeme not in repeated) if repeated else counts
    vector = f"{RULES} {_quoted(prefix, (*keys, *rare), ' ')}"
    for weight, counted in _WEIGHTS.items():
        if weighted := [lexeme for lexeme, count in repeated.items() if count in counted]:
            vector += " " + _quoted(prefix, weighted, " ", f":1{weight}")
    return vector


def _quoted(prefix: str, lexemes: Iterable[str], between: str, after: str = "") -> str:
    """Quote lexemes with their prefix. All at once, as a title has a hundred n-grams: U+0000 separates them,
    which is in no lexeme.
    """
    escaped = "\0".join(lexemes).replace("\\", "\\\\").replace("'", "''")
    # A prefix has no character that must be escaped.
    return f"'{prefix}" + escaped.replace("\0", f"'{after}{between}'{prefix}") + "'" + after


def fold_searched(content: Content) -> str:
    """Fold the searchable part of a text: 100,000 characters, of the text and of the folded text."""
    text = head(content, MAX_CHARACTERS)
    if text.isascii():
        return fold(text)
    parts: list[str] = []
    left = MAX_CHARACTERS
    for start in range(0, len(text), _CHUNK):
        parts.append(fold(text[start : start + _CHUNK])[:left])
        left -= len(parts[-1])
        if not left:
            break
    return "".join(parts)


def count_lexemes(text: Content) -> Counter[str]:
    """Count the lexemes of the first 100,000 characters of a text, up to 16,000 different ones."""
    folded = fold_searched(text)
    if folded.isascii():
        lexemes = Counter(folded.translate(_TO_WORDS).split())
        # Most words are their own only lexeme.
        others = [
            word for word in lexemes if len(word) > MAX_WORD or not (word.isalpha() or word.isdecimal())
        ]
        for word, count in [(word, lexemes.pop(word)) for word in others]:
            for lexeme in word_lexemes(word):
                lexemes[lexeme] += count
        for run in folded.translate(_TO_OPERATORS).split():
            if len(run) > 1:
                lexemes.update(map(add, run, run[1:]))
    else:
        lexemes = Counter(lexeme for token in tokenize(folded) for lexeme in token_lexemes(token))
    if len(lexemes) > MAX_LEXEMES:
        return Counter(dict(list(lexemes.items())[:MAX_LEXEMES]))
    return lexemes


def tokenize(folded: str) -> Iterator[re.Match[str]]:
    """Yield the tokens of a folded text. The groups are word, run (without spaces), operators and symbol."""
    return _TOKEN.finditer(folded)


def token_lexemes(token: re.Match[str]) -> Iterable[str]:
    """Return the lexemes of a token."""
    text = token[0]
    match token.lastgroup:
        case "word":
            return word_lexemes(text)
        case "run":
            characters = split_characters(text)
            return [*map(add, characters, characters[1:]), characters[-1]]
        case "operators":
            return map(add, text, text[1:])
        case _:
            return [text] if is_symbol(text) else []


def is_symbol(character: str) -> bool:
    """Return whether a character is a symbol, or unknown to Python's Unicode data, as a new emoji is."""
    category = unicodedata.category(character)
    return category[0] == "S" or category in ("Cn", "Co")


def word_lexemes(word: str) -> list[str]:
    """Return a word, and the runs of letters and of digits in it if they are two or three."""
    if word.isalpha() or word.isdecimal():
        return [word[:MAX_WORD]]
    runs = _RUN.findall(word)
    return [part[:MAX_WORD] for part in dict.fromkeys((word, *(runs if len(runs) <= _MAX_RUNS else ())))]


def split_characters(run: str) -> list[str]:
    """Split a run of a script without spaces into characters, each composed."""
    if not _IS_DECOMPOSED.search(run):
        return list(run)
    return [unicodedata.normalize("NFC", character) for character in _CHARACTER.findall(run)]
