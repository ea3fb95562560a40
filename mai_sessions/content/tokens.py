"""Count the tokens of a text."""

from collections.abc import Callable

from mai_sessions.content.long_text import Content, pieces
from mai_sessions.errors import StartupError

# Characters counted at a time: bpe-openai refuses a million of them, and 200,000 tokens. A cut adds at most
# one BPE token, and no character makes more than four.
_PIECE = 40_000


def load_tokenizer(name: str) -> Callable[[Content], int]:
    """Return the function that counts `words`, or the tokens of a BPE vocabulary.

    Raises StartupError when the library of the vocabulary is missing.
    """
    return _count_words if name == "words" else _bpe(name)


def _count_words(text: Content) -> int:
    # A list of all the words takes 40 times the memory of the text.
    words, in_word = 0, False
    for piece in pieces(text, _PIECE):
        words += len(piece.split()) - (in_word and not piece[0].isspace())
        in_word = not piece[-1].isspace()
    return words


def _bpe(vocabulary: str) -> Callable[[Content], int]:
    try:
        import bpe_openai  # noqa: PLC0415 - an extra
    except ImportError:
        raise StartupError(
            f"MAI_SESSIONS_TOKENIZER={vocabulary} needs: pip install 'mai-sessions[tokens]'"
        ) from None
    # `<|endoftext|>` in a message is text, not a control token.
    encode = bpe_openai.get_encoding(vocabulary).encode_ordinary
    return lambda text: sum(len(encode(piece)) for piece in pieces(text, _PIECE))
