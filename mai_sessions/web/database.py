"""A request's access to the database."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Concatenate

from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.database import P, T
from mai_sessions.web.state import current_state


def connection() -> AbstractContextManager[Connection]:
    """Check out a connection for the length of a `with`."""
    return current_state().database.connection()


def stale_read(read: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a repository function that only reads, on the replica if there is one: its rows may lag behind."""
    return current_state().database.stale_read(read, *args, **kwargs)
