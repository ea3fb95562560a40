"""How messages and sessions are removed, so that what is counted elsewhere stays true.

What a removal has to count, the newest message that is left or the images that are named, it reads from a
snapshot, and another writer may come between the snapshot and the lock of the session's row. The session's
version tells: a removal changes nothing unless it is still the one that the snapshot saw. If it is not, or if
images have to go too, which takes a second statement, the removal runs again in a transaction that takes the
lock first.

The rows of images are locked in the order of their names, as appends do: sessions of one user share them, and
would deadlock."""

from collections.abc import Sequence
from typing import Any, LiteralString
from uuid import UUID

from mai_sessions.errors import NotFound, Stale
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, fetch_one
from mai_sessions.repository.analytics import COUNT_MESSAGE
from mai_sessions.repository.attachments import sweep_attachments

DELETE_MESSAGE: LiteralString = (
    """
    WITH /* delete_message */ seen AS (
        SELECT version FROM sessions WHERE user_id = %(user_id)s AND id = %(session_id)s),
    target AS (
        SELECT seq, images FROM messages
         WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND id = %(message_id)s),
    newest AS (
        SELECT seq, left(content, 100) AS preview FROM messages
         WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND id <> %(message_id)s
         ORDER BY seq DESC LIMIT 1),
    s AS (
        UPDATE sessions
           SET message_count        = message_count - 1,
               newest_seq           = (SELECT seq FROM newest),
               last_message_preview = (SELECT preview FROM newest),
               updated_at           = GREATEST(updated_at, now()),
               version              = %(version)s
          FROM seen, target
         WHERE user_id = %(user_id)s AND id = %(session_id)s AND sessions.version = seen.version
           AND (%(if_match)s::uuid[] IS NULL OR seen.version = ANY (%(if_match)s::uuid[]))
           AND (%(locked)s OR target.images = '{}')
        RETURNING target.seq),
    moved AS (
        DELETE FROM messages USING s
         WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND messages.seq = s.seq
        RETURNING -1 AS sign, user_id, session_id, messages.seq, role, token_count, model_id, agent_name,
        response_time_ms,
                  is_error, created_at, images),
    held AS (
        SELECT a.sha256
          FROM moved
          JOIN attachments AS a ON a.user_id = %(user_id)s AND a.sha256 = ANY (moved.images)
         ORDER BY a.sha256 FOR UPDATE OF a),
    released AS (
        UPDATE attachments SET reference_count = reference_count - 1 FROM held
         WHERE user_id = %(user_id)s AND attachments.sha256 = held.sha256),
    counted AS ("""
    + COUNT_MESSAGE
    + """)
    SELECT EXISTS (SELECT FROM moved), EXISTS (SELECT FROM target),
           %(if_match)s::uuid[] IS NULL OR seen.version = ANY (%(if_match)s::uuid[])
      FROM seen"""
)


def delete_message(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    *,
    if_match: Sequence[UUID] | None = None,
) -> None:
    """Remove a message. Raises NotFound, and Stale unless the session's version is one of `if_match`."""
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "version": new_id(),
        "if_match": if_match,
    }
    _remove(conn, DELETE_MESSAGE, params, "Message not found")


# How many messages of the session name each image.
_NAMED_IMAGES: LiteralString = """
    named AS (
        SELECT i AS sha256, count(DISTINCT seq)::int AS messages
          FROM messages, unnest(images) AS i
         WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND images <> '{}'
         GROUP BY i)"""

CLEAR_MESSAGES: LiteralString = (
    """
    WITH /* clear_messages */ seen AS (
        SELECT version FROM sessions WHERE user_id = %(user_id)s AND id = %(session_id)s),"""
    + _NAMED_IMAGES
    + """,
    s AS (
        UPDATE sessions
           SET message_count        = 0,
               newest_seq           = NULL,
               last_message_preview = NULL,
               updated_at           = GREATEST(updated_at, now()),
               version              = %(version)s
          FROM seen
         WHERE user_id = %(user_id)s AND id = %(session_id)s AND sessions.version = seen.version
           AND (%(if_match)s::uuid[] IS NULL OR seen.version = ANY (%(if_match)s::uuid[]))
           AND (%(locked)s OR NOT EXISTS (SELECT FROM named))
        RETURNING id),
    held AS (
        SELECT a.sha256, named.messages
          FROM s
         CROSS JOIN named
          JOIN attachments AS a ON a.user_id = %(user_id)s AND a.sha256 = named.sha256
         ORDER BY a.sha256 FOR UPDATE OF a),
    released AS (
        UPDATE attachments SET reference_count = reference_count - held.messages FROM held
         WHERE user_id = %(user_id)s AND attachments.sha256 = held.sha256),
    gone AS (
        DELETE FROM messages USING s
         WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND session_id = s.id),
    counted AS (
        DELETE FROM daily_usage USING s
         WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND session_id = s.id)
    SELECT EXISTS (SELECT FROM s), true,
           %(if_match)s::uuid[] IS NULL OR seen.version = ANY (%(if_match)s::uuid[])
      FROM seen"""
)


def clear_messages(
    conn: Connection, user_id: str, session_id: UUID, *, if_match: Sequence[UUID] | None = None
) -> None:
    """Remove every message of a session. Raises NotFound, and Stale unless the session's version is one of
    `if_match`.
    """
    params = {"user_id": user_id, "session_id": session_id, "version": new_id(), "if_match": if_match}
    _remove(conn, CLEAR_MESSAGES, params, "Session not found")


DELETE_SESSION: LiteralString = (
    """
    WITH /* delete_session */ seen AS (
        SELECT version FROM sessions WHERE user_id = %(user_id)s AND id = %(session_id)s),"""
    + _NAMED_IMAGES
    + """,
    gone AS (
        DELETE FROM sessions USING seen
         WHERE user_id = %(user_id)s AND id = %(session_id)s AND sessions.version = seen.version
           AND (%(if_match)s::uuid[] IS NULL OR seen.version = ANY (%(if_match)s::uuid[]))
           AND (%(locked)s OR NOT EXISTS (SELECT FROM named))
        RETURNING id),
    held AS (
        SELECT a.sha256, named.messages
          FROM gone
         CROSS JOIN named
          JOIN attachments AS a ON a.user_id = %(user_id)s AND a.sha256 = named.sha256
         ORDER BY a.sha256 FOR UPDATE OF a),
    released AS (
        UPDATE attachments SET reference_count = reference_count - held.messages FROM held
         WHERE user_id = %(user_id)s AND attachments.sha256 = held.sha256),
    counted AS (
        UPDATE users SET session_count = session_count - 1 FROM gone WHERE user_id = %(user_id)s)
    SELECT EXISTS (SELECT FROM gone), true,
           %(if_match)s::uuid[] IS NULL OR seen.version = ANY (%(if_match)s::uuid[])
      FROM seen"""
)


def delete_session(
    conn: Connection, user_id: str, session_id: UUID, *, if_match: Sequence[UUID] | None = None
) -> None:
    """Remove a session and everything of it. Raises NotFound, and Stale unless its version is one of
    `if_match`.
    """
    params = {"user_id": user_id, "session_id": session_id, "if_match": if_match}
    _remove(conn, DELETE_SESSION, params, "Session not found")


LOCK_SESSION: LiteralString = """
    SELECT /* _remove, the lock */ FROM sessions WHERE user_id = %(user_id)s AND id = %(session_id)s FOR UPDATE"""


def _remove(conn: Connection, statement: LiteralString, params: dict[str, Any], not_found: str) -> None:
    """Run a removal; its row says whether it removed, whether its target is there, and whether `if_match`
    holds.

    Raises NotFound and Stale.
    """
    if _removed(conn, statement, {**params, "locked": False}, not_found):
        return
    with conn.transaction():
        fetch_one(conn, LOCK_SESSION, params)
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
