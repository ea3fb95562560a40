"""The statements that read messages, delete one, and clear a session.

Each write locks the row of the session first, so that writers queue there and do not deadlock.
"""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from mai_sessions.errors import NotFound
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, fetch_one, run_transaction
from mai_sessions.repository.attachments import SWEEP_ATTACHMENTS, release_attachments
from mai_sessions.repository.branches import (
    BRANCH,
    FIRST_IN_BRANCH,
    FIRST_IN_RANGE,
    IS_LEFT,
    IS_NEW,
    LAST_IN_BRANCH,
    LAST_IN_RANGE,
    WINDOW,
    WINDOW_COLUMNS,
    check_head,
    fetch_branch,
    page_as_json,
)
from mai_sessions.repository.columns import (
    LOCK_SESSION,
    MESSAGE_COLUMNS,
    NEXT_UPDATED_AT,
    check_locked,
    preview_of,
)
from mai_sessions.repository.daily_usage import count_messages
from mai_sessions.repository.response_size import NO_LIMIT, count_fitting, too_large


class MessageReply(NamedTuple):
    """A message: its id, its JSON, and whether it is new. `version` is its session's; None for a replay."""

    id: UUID
    version: UUID | None
    body: bytes
    is_new: bool = False


class MessagePage(NamedTuple):
    """A page of messages: the version of their session, JSON, the first and last `seq`, and whether there are
    messages before and after.
    """

    version: UUID
    body: bytes
    first_seq: int | None
    last_seq: int | None
    has_previous: bool
    has_next: bool


def read_message(
    operation: LiteralString, columns: LiteralString, condition: LiteralString = "true"
) -> LiteralString:
    """Make the statement that reads the version of a session and a message of it: its status, null if there
    is no such message, and its JSON if the condition holds.
    """
    return f"""
    SELECT /* {operation} */ s.version, m.status, (
           SELECT row_to_json(r) FROM (SELECT {columns}) AS r WHERE {condition})
      FROM sessions AS s
      LEFT JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s
            AND m.id = %(message_id)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


GET_MESSAGE: LiteralString = read_message("get_message", MESSAGE_COLUMNS)


def get_message(conn: Connection, user_id: str, session_id: UUID, message_id: UUID) -> MessageReply:
    """Read one message. Raises NotFound."""
    params = {"user_id": user_id, "session_id": session_id, "message_id": message_id}
    row = fetch_one(conn, GET_MESSAGE, params)
    if row is None:
        raise NotFound("Session not found")
    version, status, body = row
    if status is None:
        raise NotFound("Message not found")
    return MessageReply(message_id, version, body)


def _list_messages(page: LiteralString, before: LiteralString, is_left: LiteralString) -> LiteralString:
    return f"""
    SELECT /* list_messages */ s.version, coalesce(p.messages, '[]'), p.unread_seqs, p.first_seq, p.last_seq,
           b.head_seq, EXISTS ({before}), {is_left}
      FROM sessions AS s
     CROSS JOIN LATERAL ({BRANCH}) AS b
     CROSS JOIN LATERAL ({page_as_json(page)}) AS p
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


_BEFORE_IN_RANGE: LiteralString = """
           SELECT FROM messages AS o
            WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.seq < p.first_seq"""
_BEFORE_IN_BRANCH: LiteralString = """
           SELECT FROM messages AS f
             JOIN messages AS o ON o.user_id = %(user_id)s AND o.session_id = %(session_id)s
              AND o.seq <= coalesce(f.parent_seq, f.seq - 1)
            WHERE f.user_id = %(user_id)s AND f.session_id = %(session_id)s AND f.seq = p.first_seq"""
LIST_MESSAGES: LiteralString = _list_messages(FIRST_IN_RANGE, _BEFORE_IN_RANGE, IS_LEFT)
LIST_LAST_MESSAGES: LiteralString = _list_messages(LAST_IN_RANGE, _BEFORE_IN_RANGE, IS_LEFT)
LIST_BRANCH: LiteralString = _list_messages(FIRST_IN_BRANCH, _BEFORE_IN_BRANCH, "false")
LIST_LAST_OF_BRANCH: LiteralString = _list_messages(LAST_IN_BRANCH, _BEFORE_IN_BRANCH, "false")
_MESSAGES_IN_WINDOW: LiteralString = f"""
           SELECT {WINDOW_COLUMNS}
             FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq = ANY (w.seqs)
              AND {IS_NEW}
            ORDER BY m.seq"""
LIST_WINDOW: LiteralString = f"""
    SELECT /* list_messages */ s.version, coalesce(p.messages, '[]'), p.unread_seqs, w.first_seq, b.head_seq,
           b.head_seq, w.has_previous, false
      FROM sessions AS s
     CROSS JOIN LATERAL ({BRANCH}) AS b
     CROSS JOIN LATERAL ({WINDOW}) AS w
     CROSS JOIN LATERAL ({page_as_json(_MESSAGES_IN_WINDOW)}) AS p
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""

_UNREAD_SEQS = 2


def list_messages(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    limit: int,
    offset: int = 0,
    after_seq: int | None = None,
    before_seq: int | None = None,
    max_tokens: int | None = None,
    head_id: UUID | None = None,
    branches: str | None = None,
    known_versions: Sequence[UUID] = (),
    max_bytes: int = NO_LIMIT,
) -> MessagePage:
    """Read a page of messages, oldest first: the first ones after `after_seq`, the last ones before
    `before_seq`, or the newest ones with at most `max_tokens`.

    They belong to the session's branch, to the branch that ends at `head_id`, or with `branches="all"` to
    any. Raises NotFound, and Invalid for a `head_id` that is not a message of the session, and for several
    messages of more than `max_bytes` of JSON.
    """
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "limit": limit,
        "offset": offset,
        "after_seq": after_seq or 0,
        "before_seq": before_seq,
        "max_tokens": max_tokens,
        "head_id": head_id,
        "all_branches": branches == "all",
        "known_versions": list(known_versions),
        "max_bytes": max_bytes,
    }
    row = _fetch_page(conn, params)
    if row is not None and (unread_seqs := row[_UNREAD_SEQS]):
        if count_fitting(conn, user_id, session_id, unread_seqs, max_bytes) is not None:
            name = "limit" if max_tokens is None else "max_tokens"
            raise too_large(("query", name), max_bytes, f"Ask for fewer messages with {name}.")
        row = _fetch_page(conn, {**params, "max_bytes": NO_LIMIT})
    if row is None:
        raise NotFound("Session not found")
    version, body, _, first_seq, last_seq, head_seq, has_previous, _ = row
    check_head(head_id, head_seq, "query")
    if first_seq is None:
        # An empty page past the end has all messages before it; before the first message, all after it.
        is_past_the_end = before_seq is None and head_seq is not None
        is_before_the_first = before_seq is not None and head_seq is not None
        return MessagePage(version, body, None, None, is_past_the_end, is_before_the_first)
    return MessagePage(version, body, first_seq, last_seq, has_previous, last_seq < head_seq)


def _fetch_page(conn: Connection, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
    if params["max_tokens"] is not None:
        return fetch_one(conn, LIST_WINDOW, params)
    if params["before_seq"] is not None:
        return fetch_branch(conn, LIST_LAST_MESSAGES, LIST_LAST_OF_BRANCH, params)
    return fetch_branch(conn, LIST_MESSAGES, LIST_BRANCH, params)


# The message before `m` in its branch.
_PARENT: LiteralString = """
                   SELECT p.seq
                     FROM messages AS p
                    WHERE p.user_id = %(user_id)s AND p.session_id = %(session_id)s
                      AND p.seq <= coalesce(m.parent_seq, m.seq - 1)
                    ORDER BY p.seq DESC
                    LIMIT 1"""
LOCK_SESSION_AND_FIND: LiteralString = """
    SELECT /* delete_message */ s.version, EXISTS (
           SELECT FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s)
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       FOR UPDATE OF s"""
# As in patch_message, the new version tells the later statements that the condition held. If the head is
# deleted, its parent becomes the head, or the newest message if it has no parent.
FORGET_MESSAGE: LiteralString = f"""
    UPDATE /* delete_message */ sessions AS s
       SET message_count        = s.message_count - 1,
           newest_seq           = kept.newest_seq,
           head_seq             = kept.head_seq,
           head_id              = kept.head_id,
           last_message_preview = kept.preview,
           updated_at           = {NEXT_UPDATED_AT},
           version              = %(version)s
      FROM (SELECT newest.seq AS newest_seq, head.seq AS head_seq, head.id AS head_id,
            {preview_of("head.content")} AS preview
              FROM sessions AS o
              JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s
               AND m.id = %(message_id)s
              LEFT JOIN LATERAL (
                   SELECT n.seq
                     FROM messages AS n
                    WHERE n.user_id = %(user_id)s AND n.session_id = %(session_id)s AND n.seq <> m.seq
                    ORDER BY n.seq DESC
                    LIMIT 1) AS newest ON true
              LEFT JOIN LATERAL ({_PARENT}) AS parent ON true
              LEFT JOIN messages AS head
                ON head.user_id = %(user_id)s AND head.session_id = %(session_id)s
               AND head.seq = CASE WHEN NOT o.is_branched THEN newest.seq
                                   WHEN o.head_seq = m.seq THEN coalesce(parent.seq, newest.seq)
                                   ELSE o.head_seq END
             WHERE o.user_id = %(user_id)s AND o.id = %(session_id)s) AS kept
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))"""

# The children are the messages that name it, and the next message if that names no parent. The next message
# keeps a null parent_seq if the deleted message also named none.
MOVE_CHILDREN: LiteralString = f"""
    UPDATE /* delete_message */ messages AS c
       SET parent_seq = coalesce(parent.seq, 0)
      FROM sessions AS s
      JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s
       AND m.id = %(message_id)s
      LEFT JOIN LATERAL ({_PARENT}) AS parent ON true
     WHERE c.user_id = %(user_id)s AND c.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s AND s.is_branched
       AND c.seq = ANY (ARRAY(
           SELECT j.seq
             FROM messages AS j
            WHERE j.user_id = %(user_id)s AND j.session_id = %(session_id)s
              AND j.seq > m.seq AND j.parent_seq = m.seq
            UNION ALL
           SELECT n.seq
             FROM (SELECT n.seq, n.parent_seq
                     FROM messages AS n
                    WHERE n.user_id = %(user_id)s AND n.session_id = %(session_id)s AND n.seq > m.seq
                    ORDER BY n.seq
                    LIMIT 1) AS n
            WHERE n.parent_seq IS NULL AND m.parent_seq IS NOT NULL))"""

_REMOVED_MESSAGE: LiteralString = """
           SELECT -1 AS sign, s.user_id, m.session_id, m.seq, m.role, m.token_count, m.model_id, m.agent_name,
                  m.response_time_ms, m.is_error, m.created_at, m.images, m.part_attachments
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id AND m.id = %(message_id)s
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
COUNT_OUT_MESSAGE: LiteralString = count_messages(_REMOVED_MESSAGE)
RELEASE_IMAGES: LiteralString = release_attachments(_REMOVED_MESSAGE)

DELETE_MESSAGE: LiteralString = """
    DELETE /* delete_message */ FROM messages AS m
     USING sessions AS s
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
    RETURNING m.id"""


def delete_message(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    *,
    if_match: Sequence[UUID] | None = None,
) -> None:
    """Delete a message. Raises NotFound, and Stale unless the session's version is one of `if_match`."""
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "version": new_id(),
        "if_match": if_match,
    }
    statements: list[LiteralString] = [
        LOCK_SESSION_AND_FIND,
        FORGET_MESSAGE,
        COUNT_OUT_MESSAGE,
        RELEASE_IMAGES,
        MOVE_CHILDREN,
        DELETE_MESSAGE,
        SWEEP_ATTACHMENTS,
    ]
    locked, *_, deleted, _ = run_transaction(conn, statements, params)
    if not deleted:
        check_locked(locked, if_match if locked and locked[0][1] else None)
        raise NotFound("Message not found")


CLEAR_SESSION: LiteralString = f"""
    UPDATE /* clear_messages */ sessions AS s
       SET message_count        = 0,
           newest_seq           = NULL,
           head_seq             = NULL,
           head_id              = NULL,
           is_branched          = false,
           last_message_preview = NULL,
           updated_at           = {NEXT_UPDATED_AT},
           version              = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))"""
CLEAR_IMAGES: LiteralString = release_attachments("""
           SELECT m.images, m.part_attachments
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
              AND (m.images <> '{}' OR m.part_attachments <> '{}')""")
CLEAR_MESSAGES: LiteralString = """
    DELETE /* clear_messages */ FROM messages AS m
     USING sessions AS s
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
CLEAR_DAILY_USAGE: LiteralString = """
    DELETE /* clear_messages */ FROM daily_usage AS d
     USING sessions AS s
     WHERE d.user_id = %(user_id)s AND d.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""


def clear_messages(
    conn: Connection, user_id: str, session_id: UUID, *, if_match: Sequence[UUID] | None = None
) -> None:
    """Delete every message of a session. Raises NotFound, and Stale unless the session's version is one of
    `if_match`.
    """
    params = {"user_id": user_id, "session_id": session_id, "version": new_id(), "if_match": if_match}
    statements: list[LiteralString] = [
        LOCK_SESSION,
        CLEAR_SESSION,
        CLEAR_IMAGES,
        CLEAR_MESSAGES,
        CLEAR_DAILY_USAGE,
        SWEEP_ATTACHMENTS,
    ]
    locked, *_ = run_transaction(conn, statements, params)
    check_locked(locked, if_match)
