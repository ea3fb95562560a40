"""The statements on sessions."""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple, Unpack
from uuid import UUID

from mai_sessions.errors import NotFound
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, fetch_one, run_transaction
from mai_sessions.repository.branches import (
    BRANCH,
    IS_LEFT,
    IS_NEW,
    NEWEST_IN_BRANCH,
    RANGE_COLUMNS,
    WHOLE_COLUMNS,
    check_head,
    fetch_branch,
    page_as_json,
)
from mai_sessions.repository.columns import (
    LOCK_SESSION,
    NEXT_UPDATED_AT,
    SUMMARY_COLUMNS,
    check_locked,
    summary_columns,
)
from mai_sessions.repository.response_size import NO_LIMIT, count_fitting, too_large
from mai_sessions.repository.session_changes import (
    FIND_HEAD,
    METADATA_FIT,
    SessionChanges,
    change_params,
    change_statements,
    refuse_metadata,
)


class SessionReply(NamedTuple):
    """A session: its id, version and JSON, whether it is new, and whether this is the first reply again."""

    id: UUID
    version: UUID
    body: bytes
    is_new: bool = False
    is_replay: bool = False


# The newest messages are those above a seq: in this form, the primary key returns them in order.
_NEWEST_IN_RANGE: LiteralString = f"""
           SELECT {RANGE_COLUMNS}
             FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
              AND m.seq <= b.head_seq AND NOT b.is_walked
              AND m.seq > CASE WHEN %(messages_limit)s::int IS NULL THEN 0 ELSE coalesce((
                      SELECT o.seq FROM messages AS o
                       WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.seq <= b.head_seq
                       ORDER BY o.seq DESC
                      OFFSET %(messages_limit)s::int LIMIT 1), 0) END
              AND {IS_NEW}
            ORDER BY m.seq"""


def _get_session(newest_messages: LiteralString, is_left: LiteralString) -> LiteralString:
    return f"""
    SELECT /* get_session */ s.id, s.version, (
           SELECT row_to_json(d) FROM (
               SELECT {SUMMARY_COLUMNS}, coalesce(p.messages, '[]') AS messages) AS d),
           b.head_seq, p.unread_seqs, {is_left}
      FROM sessions AS s
     CROSS JOIN LATERAL ({BRANCH}) AS b
     CROSS JOIN LATERAL ({page_as_json(newest_messages)}) AS p
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


_ALL_MESSAGES: LiteralString = f"""
           SELECT {WHOLE_COLUMNS}
             FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
              AND NOT s.is_branched AND {IS_NEW}
            ORDER BY m.seq"""
# Most clients read a whole session without branches: each message follows the one before it, and the last one
# is the head. So this statement looks up nothing that only branches need.
GET_WHOLE_SESSION: LiteralString = f"""
    SELECT /* get_session */ s.id, s.version, (
           SELECT row_to_json(d) FROM (
               SELECT {summary_columns("p.last_id")}, coalesce(p.messages, '[]') AS messages) AS d),
           s.newest_seq, p.unread_seqs, s.is_branched AND {IS_NEW}
      FROM sessions AS s
     CROSS JOIN LATERAL ({page_as_json(_ALL_MESSAGES)}) AS p
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
GET_SESSION: LiteralString = _get_session(_NEWEST_IN_RANGE, IS_LEFT)
GET_SESSION_BRANCH: LiteralString = _get_session(NEWEST_IN_BRANCH, "false")

_UNREAD_SEQS = -2
_ADVICE = "Ask for the newest messages with messages_limit, or read all in pages of /messages."


def get_session(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    messages_limit: int | None = None,
    head_id: UUID | None = None,
    branches: str | None = None,
    known_versions: Sequence[UUID] = (),
    max_bytes: int = NO_LIMIT,
    must_fit: bool = True,
) -> SessionReply:
    """Read a session with the newest messages of its branch, all of them by default.

    `head_id` selects the branch that ends at that message, `branches="all"` every message. If several
    messages are more than `max_bytes` of JSON, Invalid is raised with `must_fit`; without it, the newest that
    fit are returned. Also raises NotFound, and Invalid for a `head_id` that is not a message of the session.
    """
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "messages_limit": messages_limit,
        "head_id": head_id,
        "all_branches": branches == "all",
        "known_versions": list(known_versions),
        "max_bytes": max_bytes,
    }
    is_whole = messages_limit is None and head_id is None and branches is None
    row = fetch_branch(conn, GET_WHOLE_SESSION if is_whole else GET_SESSION, GET_SESSION_BRANCH, params)
    if row is not None and (unread_seqs := row[_UNREAD_SEQS]):
        fitting = count_fitting(conn, user_id, session_id, unread_seqs, max_bytes)
        if fitting is not None and must_fit:
            raise too_large(("query", "messages_limit"), max_bytes, _ADVICE)
        limit = messages_limit if fitting is None else fitting
        row = fetch_branch(
            conn,
            GET_SESSION,
            GET_SESSION_BRANCH,
            {**params, "messages_limit": limit, "max_bytes": NO_LIMIT},
        )
    if row is None:
        raise NotFound("Session not found")
    session_id, version, body, head_seq, *_ = row
    check_head(head_id, head_seq, "query")
    return SessionReply(session_id, version, body)


# The new version tells the later statements that the conditions held.
def _patch_session(updated_at: LiteralString) -> LiteralString:
    return f"""
    UPDATE /* patch_session */ sessions AS s
       SET title        = coalesce(%(title)s, s.title),
           agent_name   = coalesce(%(agent_name)s, s.agent_name),
           model_id     = CASE WHEN %(clear_model_id)s THEN NULL ELSE coalesce(%(model_id)s, s.model_id) END,
           updated_at   = {updated_at},
           version      = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))
       AND {METADATA_FIT}
       AND (%(new_head_id)s::uuid IS NULL OR EXISTS (
            SELECT FROM messages AS m
             WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(new_head_id)s))"""


PATCH_SESSION: LiteralString = _patch_session(NEXT_UPDATED_AT)
PATCH_SESSION_IN_PLACE: LiteralString = _patch_session("s.updated_at")


def patch_session(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    clear_model_id: bool = False,
    messages_limit: int | None = None,
    if_match: Sequence[UUID] | None = None,
    max_bytes: int = NO_LIMIT,
    **changes: Unpack[SessionChanges],
) -> SessionReply:
    """Change what is given of a session; metadata are merged.

    Metadata, `archived` and the head alone leave `updated_at` as it is. The reply has the newest messages
    that fit into `max_bytes` of JSON, one at least. Raises NotFound, Stale unless the version is one of
    `if_match`, and Invalid for metadata that become too large, or a head that is not a message of the
    session.
    """
    version = new_id()
    params = {
        **change_params(user_id, session_id, changes),
        "clear_model_id": clear_model_id,
        "head_id": None,
        "all_branches": False,
        "messages_limit": messages_limit,
        "known_versions": [],
        "max_bytes": max_bytes,
        "version": version,
        "if_match": if_match,
    }
    stays = bool(changes) and changes.keys() <= {"metadata", "archived", "head_id"} and not clear_model_id
    statements: list[LiteralString] = [
        LOCK_SESSION,
        PATCH_SESSION_IN_PLACE if stays else PATCH_SESSION,
        *change_statements(changes),
        *([FIND_HEAD] if "head_id" in changes else []),
        GET_SESSION,
    ]
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    check_locked(rows[LOCK_SESSION], if_match)
    if "head_id" in changes and not rows[FIND_HEAD]:
        check_head(changes["head_id"], None, "body")
    [row] = rows[GET_SESSION]
    if row[1] != version:
        refuse_metadata()
    shown = fetch_one(conn, GET_SESSION_BRANCH, params) if row[-1] else row
    if shown is None:
        raise NotFound("Session not found")
    if shown[_UNREAD_SEQS]:
        return get_session(
            conn, user_id, session_id, messages_limit=messages_limit, max_bytes=max_bytes, must_fit=False
        )
    return SessionReply(*shown[:3])
