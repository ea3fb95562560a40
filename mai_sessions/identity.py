"""Who is calling."""

DEFAULT_USER = "default-user"


def current_user_id() -> str:
    """The owner of the rows that this request may see."""
    return DEFAULT_USER
