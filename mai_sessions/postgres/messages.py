"""PostgreSQL's messages, shortened for the one line of a StartupError."""

import re

import psycopg


def first_line(error: Exception) -> str:
    """Return the first line of a message."""
    return str(error).strip().partition("\n")[0]


def without_password(error: Exception, database_url: str) -> str:
    """Return the first line of a message about a connection, without what it quotes that can be a piece of
    the password.
    """
    malformed = isinstance(error, psycopg.ProgrammingError)
    password = database_url.rpartition("@")[0].partition("://")[2].partition(":")[2]
    return re.sub(
        r"""(["'])(.*?)\1""",
        lambda quoted: "…" if malformed or quoted[2] in password or "@" in quoted[2] else quoted[0],
        first_line(error).removeprefix("connection failed: "),
    )
