"""How many tokens a text is."""


def count_tokens(text: str) -> int:
    """The number of words between white space."""
    return len(text.split())
