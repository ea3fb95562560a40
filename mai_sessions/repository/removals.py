"""How messages and sessions are removed, so that what is counted elsewhere stays true.

What a removal has to count, the newest message that is left or the images that are named, it reads from a snapshot, and another
writer may come between the snapshot and the lock of the session's row. The session's version tells: a removal changes nothing
unless it is still the one that the snapshot saw. If it is not, or if images have to go too, which takes a second statement, the
removal runs again in a transaction that takes the lock first.
"""

from typing import Any, LiteralString

from mai_sessions.db import Connection, fetch_one
from mai_sessions.errors import NotFound, Stale
from mai_sessions.repository.attachments import sweep_attachments

LOCK_SESSION: LiteralString = """
    SELECT /* remove, the lock */ FROM sessions WHERE user_id = %(user_id)s AND id = %(session_id)s FOR UPDATE"""


def remove(conn: Connection, statement: LiteralString, params: dict[str, Any], not_found: str) -> None:
    """Run a removal; its row says whether it removed, whether its target is there, and whether `if_match` holds.

    Raises NotFound and Stale.
    """
    if _removed(conn, statement, {**params, "locked": False}, not_found):
        return
    with conn.transaction():
        conn.execute(LOCK_SESSION, params)
        _removed(conn, statement, {**params, "locked": True}, not_found)
        sweep_attachments(conn, params["user_id"])


def _removed(conn: Connection, statement: LiteralString, params: dict[str, Any], not_found: str) -> bool:
    row = fetch_one(conn, statement, params)
    if row is None:
        raise NotFound("Session not found")
    removed, found, fresh = row
    if not found:
        raise NotFound(not_found)
    if not fresh:
        raise Stale("The session has been changed since")
    return bool(removed)
