"""How many tokens a text is."""

from collections.abc import Callable

from flask import Flask, current_app

from mai_sessions.errors import StartupError

# Characters counted at a time, since bpe-openai refuses a million of them, and 200,000 tokens. A cut adds a
# token at the most, and no character makes more than four.
_PIECE = 40_000
_EXTENSION = "mai-sessions-tokenizer"


def init_app(app: Flask, tokenizer: str) -> None:
    """Count as `tokenizer` says: `words`, or the BPE vocabulary of that name. Raises StartupError when its
    library is missing.
    """
    app.extensions[_EXTENSION] = _count_words if tokenizer == "words" else _bpe(tokenizer)


def count_tokens(text: str) -> int:
    """The number of tokens by the tokenizer of the present application."""
    count: Callable[[str], int] = current_app.extensions[_EXTENSION]
    return count(text)


def _count_words(text: str) -> int:
    return len(text.split())


def _bpe(vocabulary: str) -> Callable[[str], int]:
    try:
        import bpe_openai  # noqa: PLC0415 - an extra
    except ImportError:
        raise StartupError(
            f"MAI_SESSIONS_TOKENIZER={vocabulary} needs: pip install 'mai-sessions[tokens]'"
        ) from None
    # A user may write `<|endoftext|>`: it is text here, and no end of one.
    encode = bpe_openai.get_encoding(vocabulary).encode_ordinary
    return lambda text: sum(
        len(encode(text[start : start + _PIECE])) for start in range(0, len(text), _PIECE)
    )
