"""What can go wrong, as types.

They know neither HTTP nor SQL: `db.py` makes them from PostgreSQL's errors, `problems.py` turns them into
answers."""


class Error(Exception):
    """Any failure that this service foresees; its text is fit for the caller to read."""


class StartupError(Error):
    """The service cannot start. The text is one line that says what to mend."""


class NotFound(Error):
    """No such row among those of the caller."""


class Conflict(Error):
    """The row is there already. `constraint` names the unique constraint that says so."""

    def __init__(self, constraint: str) -> None:
        super().__init__("It exists already")
        self.constraint = constraint


class Invalid(Error):
    """The input is well-formed HTTP but breaks a rule of the contract.

    `errors` lists each broken rule as `{"loc": [where, field, …], "msg": text, "type": word}`.
    """

    def __init__(self, detail: str, errors: list[dict[str, object]]) -> None:
        super().__init__(detail)
        self.errors = errors


class Unauthenticated(Error):
    """No credentials, or none that are believed. `challenge` says which are asked for, as WWW-Authenticate
    does.
    """

    def __init__(self, detail: str, challenge: str) -> None:
        super().__init__(detail)
        self.challenge = challenge


class Forbidden(Error):
    """Not for this caller, whoever it is."""


class Unavailable(Error):
    """The database is away, or too busy to answer in time; the same request may succeed in a moment."""


class Stale(Error):
    """The row is no longer in the version that the caller named."""
