"""The queries for the messages of a branch.

A session without branches is a range of the primary key. A branch consists of a few such ranges, its runs,
which are walked from its head to its first message: a step for each message that names its parent. There is a
statement for the range and one for the walk, because a walk takes PostgreSQL longer to start. The queries are
for statements with the session as `s` and the requested branch, from BRANCH, as `b`.
"""

from collections.abc import Mapping
from typing import Any, LiteralString
from uuid import UUID

from mai_sessions.errors import BrokenRule, Invalid, broken_rule
from mai_sessions.postgres.connection import Connection, fetch_one
from mai_sessions.repository.columns import IN_PAGE, MESSAGE_ROW, PARENT_ID, message_columns

# In a session without branches, each message follows the one before it.
WHOLE_COLUMNS: LiteralString = message_columns(f"lag(m.id) OVER {IN_PAGE}", is_page=True)
# In a range, a message that names no parent follows the message before it; in a branch, every message does.
# Only the parent of the first message is looked up.
RANGE_COLUMNS: LiteralString = message_columns(
    f"coalesce(CASE WHEN m.parent_seq IS NULL THEN lag(m.id) OVER {IN_PAGE} END, {PARENT_ID})", is_page=True
)
BRANCH_COLUMNS: LiteralString = message_columns(
    f"coalesce(lag(m.id) OVER {IN_PAGE}, {PARENT_ID})", is_page=True
)
# In a window, system messages may be separate from the others.
WINDOW_COLUMNS: LiteralString = message_columns(
    f"""CASE WHEN lag(m.seq) OVER {IN_PAGE} = coalesce(m.parent_seq, m.seq - 1)
                 THEN lag(m.id) OVER {IN_PAGE} ELSE {PARENT_ID} END""",
    is_page=True,
)


def page_as_json(page: LiteralString) -> LiteralString:
    """Make the query for a page as JSON, or for the seqs of its messages if it may be too large for a
    response.
    """
    return f"""
           SELECT array_to_json(array_agg(r) FILTER (WHERE r.content IS NOT NULL)) AS messages,
                  array_agg(r.seq) FILTER (WHERE r.content IS NULL) AS unread_seqs,
                  min(r.seq) AS first_seq, max(r.seq) AS last_seq, (array_agg(r.id))[count(*)] AS last_id
             FROM ({page}) AS r"""


# The seq of the last message of the branch, null without messages, and whether the branch is walked.
BRANCH: LiteralString = """
           SELECT CASE WHEN %(head_id)s::uuid IS NOT NULL
                       THEN (SELECT h.seq FROM messages AS h
                              WHERE h.user_id = %(user_id)s AND h.session_id = %(session_id)s
                                AND h.id = %(head_id)s)
                       WHEN s.is_branched AND NOT %(all_branches)s THEN s.head_seq
                       ELSE s.newest_seq END AS head_seq,
                  s.is_branched AND NOT %(all_branches)s AS is_walked"""
# Whether the client does not know the version; otherwise it gets no messages.
IS_NEW: LiteralString = "s.version <> ALL (%(known_versions)s::uuid[])"
# Whether the statement for a range leaves the messages to the one for a walk.
IS_LEFT: LiteralString = f"b.is_walked AND {IS_NEW}"


def _runs(after_seq: LiteralString) -> LiteralString:
    """Make the query for the runs of a branch that end after a seq, the newest first.

    In a run, each message follows the one before it by seq. A run begins with a message that names its
    parent, the last message of the next run. The first row has only the end of the newest run. Each step
    makes one row, so a LIMIT ends the walk.
    """
    return f"""
             WITH RECURSIVE run (first_seq, last_seq, parent_seq) AS (
                  SELECT NULL::int, NULL::int, b.head_seq
                   UNION ALL
                  SELECT coalesce(jump.seq, 1), run.parent_seq, jump.parent_seq
                    FROM run
                    LEFT JOIN LATERAL (
                         SELECT j.seq, j.parent_seq
                           FROM messages AS j
                          WHERE j.user_id = %(user_id)s AND j.session_id = %(session_id)s
                            AND j.seq <= run.parent_seq AND j.parent_seq IS NOT NULL AND b.is_walked
                          ORDER BY j.seq DESC
                          LIMIT 1) AS jump ON true
                   WHERE run.parent_seq > {after_seq})
             SELECT run.first_seq, run.last_seq FROM run"""


_RUNS: LiteralString = _runs("0")
_RUNS_AFTER: LiteralString = _runs("%(after_seq)s")

# The oldest messages after a seq, and the newest ones before one.
FIRST_IN_RANGE: LiteralString = f"""
           SELECT {RANGE_COLUMNS}
             FROM (SELECT {MESSAGE_ROW}
                     FROM messages AS m
                    WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                      AND m.seq > %(after_seq)s AND m.seq <= b.head_seq AND NOT b.is_walked
                      AND {IS_NEW}
                    ORDER BY m.seq
                    LIMIT %(limit)s OFFSET %(offset)s) AS m
            ORDER BY m.seq"""
FIRST_IN_BRANCH: LiteralString = f"""
           SELECT {BRANCH_COLUMNS}
             FROM (SELECT {MESSAGE_ROW}
                     FROM (SELECT run.first_seq, run.last_seq
                             FROM ({_RUNS_AFTER}) AS run
                            ORDER BY run.first_seq) AS run
                    CROSS JOIN LATERAL (
                          SELECT {MESSAGE_ROW}
                            FROM messages AS m
                           WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                             AND m.seq >= run.first_seq AND m.seq <= run.last_seq AND m.seq > %(after_seq)s
                           ORDER BY m.seq) AS m
                    LIMIT %(limit)s OFFSET %(offset)s) AS m
            ORDER BY m.seq"""
LAST_IN_RANGE: LiteralString = f"""
           SELECT {RANGE_COLUMNS}
             FROM (SELECT {MESSAGE_ROW}
                     FROM messages AS m
                    WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                      AND m.seq > %(after_seq)s AND m.seq < %(before_seq)s AND m.seq <= b.head_seq
                      AND NOT b.is_walked
                      AND {IS_NEW}
                    ORDER BY m.seq DESC
                    LIMIT %(limit)s OFFSET %(offset)s) AS m
            ORDER BY m.seq"""


def _last_in_branch(runs: LiteralString, condition: LiteralString, limit: LiteralString) -> LiteralString:
    return f"""
           SELECT {BRANCH_COLUMNS}
             FROM (SELECT {MESSAGE_ROW}
                     FROM ({runs}) AS run
                    CROSS JOIN LATERAL (
                          SELECT {MESSAGE_ROW}
                            FROM messages AS m
                           WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                             AND m.seq >= run.first_seq AND m.seq <= run.last_seq AND {condition}
                           ORDER BY m.seq DESC) AS m
                    LIMIT {limit}) AS m
            ORDER BY m.seq"""


LAST_IN_BRANCH: LiteralString = _last_in_branch(
    _RUNS_AFTER, "m.seq > %(after_seq)s AND m.seq < %(before_seq)s", "%(limit)s OFFSET %(offset)s"
)
# The newest messages of a branch, all of them without a limit.
NEWEST_IN_BRANCH: LiteralString = _last_in_branch(_RUNS, "true", "%(messages_limit)s::int")

# The messages that are read at a time until the tokens of a window are used up.
_PIECE: LiteralString = "64"
# The window begins at the oldest user message for which the tokens suffice; otherwise it is the newest
# message alone. System messages before it belong to it, and their tokens count first. The other messages are
# read from the head on, in pieces of a run, with the sum of the tokens from each message to the head.
# `next_seq` of the oldest message of a piece is the end of the next piece.
WINDOW: LiteralString = f"""
             WITH RECURSIVE system_message AS (
                  SELECT m.seq, m.token_count
                    FROM ({_RUNS}) AS run
                    JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                     AND m.role = 'system' AND m.seq >= run.first_seq AND m.seq <= run.last_seq),
                  message (seq, role, tokens, next_seq) AS (
                  SELECT NULL::int, NULL::text, coalesce(sum(m.token_count), 0)::bigint, b.head_seq
                    FROM system_message AS m
                   UNION ALL
                  SELECT older.seq, older.role, message.tokens + older.tokens, older.next_seq
                    FROM message
                   CROSS JOIN LATERAL (
                         SELECT m.seq, m.role,
                                sum(CASE WHEN m.role = 'system' THEN 0 ELSE m.token_count END) OVER newer
                                    AS tokens,
                                CASE WHEN lead(m.seq) OVER newer IS NULL
                                     THEN coalesce(m.parent_seq, m.seq - 1) END AS next_seq
                           FROM (SELECT m.seq, m.role, m.token_count, m.parent_seq
                                   FROM messages AS m
                                  WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                                    AND m.seq <= message.next_seq AND m.seq >= coalesce((
                                        SELECT j.seq
                                          FROM messages AS j
                                         WHERE j.user_id = %(user_id)s AND j.session_id = %(session_id)s
                                           AND j.seq <= message.next_seq AND j.parent_seq IS NOT NULL
                                           AND b.is_walked
                                         ORDER BY j.seq DESC
                                         LIMIT 1), 1)
                                  ORDER BY m.seq DESC
                                  LIMIT {_PIECE}) AS m
                         WINDOW newer AS (ORDER BY m.seq DESC)) AS older
                   WHERE message.next_seq > 0 AND message.tokens <= %(max_tokens)s)
           SELECT coalesce(start.seq, b.head_seq) AS first_seq,
                  CASE WHEN start.seq IS NULL THEN ARRAY[b.head_seq]
                       ELSE ARRAY(SELECT message.seq FROM message WHERE message.seq >= start.seq
                                   UNION ALL
                                  SELECT m.seq FROM system_message AS m WHERE m.seq < start.seq)
                        END AS seqs,
                  CASE WHEN start.seq IS NOT NULL
                       THEN EXISTS (SELECT FROM message
                                     WHERE message.seq < start.seq AND message.role <> 'system')
                       ELSE EXISTS (SELECT FROM messages AS h
                                      JOIN messages AS o
                                        ON o.user_id = %(user_id)s AND o.session_id = %(session_id)s
                                       AND o.seq <= coalesce(h.parent_seq, h.seq - 1)
                                     WHERE h.user_id = %(user_id)s AND h.session_id = %(session_id)s
                                       AND h.seq = b.head_seq) END AS has_previous
             FROM (SELECT min(message.seq) AS seq
                     FROM message
                    WHERE message.role = 'user' AND message.tokens <= %(max_tokens)s) AS start"""


def fetch_branch(
    conn: Connection, in_range: LiteralString, in_branch: LiteralString, params: Mapping[str, Any]
) -> tuple[Any, ...] | None:
    """Run `in_range`, and then `in_branch` if the last column says that the branch must be walked.

    The row comes from one statement, so writes between the two do not matter.
    """
    row = fetch_one(conn, in_range, params)
    return fetch_one(conn, in_branch, params) if row is not None and row[-1] else row


def check_head(head_id: UUID | None, head_seq: int | None, where: str) -> None:
    """Refuse a head that is not a message of the session. Raises Invalid."""
    if head_id is not None and head_seq is None:
        raise Invalid(unknown_message(where, "head_id"))


def unknown_message(*loc: str | int) -> BrokenRule:
    """Return the error for the id of a message that the session does not have."""
    return broken_rule(loc, "Not a message of this session.", "unknown")
