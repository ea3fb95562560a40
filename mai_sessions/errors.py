"""The domain errors.

They know neither HTTP nor SQL: `postgres` translates PostgreSQL's errors into them, and `web.problems` makes
responses of them.
"""

from collections.abc import Iterable
from typing import TypedDict


class Error(Exception):
    """A failure that the service expects. Its text may be shown to the caller."""


class StartupError(Error):
    """The service cannot start. The text is one line that says what to change."""


class NotFound(Error):
    """The caller has no such row."""


class Conflict(Error):
    """The row exists already. `constraint` is the name of the unique constraint."""

    def __init__(self, constraint: str) -> None:
        super().__init__("It exists already")
        self.constraint = constraint


class BrokenRule(TypedDict):
    """Where a rule is broken, what it says, and a word for programs."""

    loc: list[str | int]
    msg: str
    type: str


def broken_rule(loc: Iterable[str | int], msg: str, type: str) -> BrokenRule:
    """Make the entry of a broken rule. `loc` begins with the part of the request."""
    return {"loc": [*loc], "msg": msg, "type": type}


class Invalid(Error):
    """The input is well-formed HTTP but breaks rules of the contract. Without a detail, its text is that of
    the rules, each with its place.
    """

    def __init__(self, *errors: BrokenRule, detail: str | None = None) -> None:
        places = (".".join(map(str, rule["loc"])) for rule in errors)
        texts = (f"{place}: {rule['msg']}" for place, rule in zip(places, errors, strict=True))
        super().__init__(" ".join(texts) if detail is None else detail)
        self.errors = errors


class Unauthenticated(Error):
    """There are no valid credentials. `challenge` is the value of WWW-Authenticate."""

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(detail)
        self.challenge = challenge


class Forbidden(Error):
    """The request is refused for any caller."""


class Unavailable(Error):
    """The database is away or too busy. The same request may succeed a moment later."""


class SchemaMismatch(Unavailable):
    """The database lacks a migration of this release, or the role of the service a right."""


class Stale(Error):
    """The row has another version than the caller named."""


class KeyReused(Error):
    """An idempotency key was used with another body."""

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with another body")
