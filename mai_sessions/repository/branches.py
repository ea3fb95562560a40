"""How the messages of a branch are read.

A session without branches is a range of the primary key. A branch is walked from its head to its first
message, a step of the primary key for each. Each has a statement, as PostgreSQL takes longer to start a walk
than to read a short range. The queries here belong into a statement that has the session as `s` and, from
BRANCH, what is asked for as `b`.
"""

from collections.abc import Mapping
from typing import Any, LiteralString
from uuid import UUID

from mai_sessions.errors import Invalid
from mai_sessions.postgres.connection import Connection, fetch_one
from mai_sessions.repository.columns import IN_PAGE, PARENT_ID, message_columns

# In a range, a message that names no parent follows the one before it; in a branch, each does. Only the first
# one's has to be looked up.
RANGE_COLUMNS: LiteralString = message_columns(
    f"coalesce(CASE WHEN m.parent_seq IS NULL THEN lag(m.id) OVER {IN_PAGE} END, {PARENT_ID})", is_page=True
)
BRANCH_COLUMNS: LiteralString = message_columns(
    f"coalesce(lag(m.id) OVER {IN_PAGE}, {PARENT_ID})", is_page=True
)
# In a window, the messages of the system stand apart from the others.
WINDOW_COLUMNS: LiteralString = message_columns(PARENT_ID, is_page=True)
# A page as JSON, or, where it may be too large for a response, the seq of its messages instead.
AS_JSON: LiteralString = """
           SELECT array_to_json(array_agg(r) FILTER (WHERE r.content IS NOT NULL)) AS messages,
                  array_agg(r.seq) FILTER (WHERE r.content IS NULL) AS unread_seqs,
                  min(r.seq) AS first_seq, max(r.seq) AS last_seq"""

# The message that the branch ends at, null where there is none, and whether the branch has to be walked.
BRANCH: LiteralString = """
           SELECT CASE WHEN %(head_id)s::uuid IS NOT NULL
                       THEN (SELECT h.seq FROM messages AS h
                              WHERE h.user_id = %(user_id)s AND h.session_id = %(session_id)s
                                AND h.id = %(head_id)s)
                       WHEN s.is_branched AND NOT %(all_branches)s THEN s.head_seq
                       ELSE s.newest_seq END AS head_seq,
                  s.is_branched AND NOT %(all_branches)s AS is_walked"""
# Whether the statement of a range leaves its messages to that of a walk. Who knows the version needs none.
IS_LEFT: LiteralString = "b.is_walked AND s.version <> ALL (%(known_versions)s::uuid[])"


def _walk(head_seq: LiteralString) -> LiteralString:
    """Make the query for the seq of each message from the head on, the newest first: as one step makes one
    row, a LIMIT ends the walk.
    """
    return f"""
             WITH RECURSIVE branch AS (
                  SELECT head.seq, head.parent_seq
                    FROM (SELECT h.seq, h.parent_seq
                            FROM messages AS h
                           WHERE h.user_id = %(user_id)s AND h.session_id = %(session_id)s
                             AND h.seq <= {head_seq}
                           ORDER BY h.seq DESC
                           LIMIT 1) AS head
                   UNION ALL
                  SELECT parent.seq, parent.parent_seq
                    FROM branch
                   CROSS JOIN LATERAL (
                         SELECT p.seq, p.parent_seq
                           FROM messages AS p
                          WHERE p.user_id = %(user_id)s AND p.session_id = %(session_id)s
                            AND p.seq <= coalesce(branch.parent_seq, branch.seq - 1)
                          ORDER BY p.seq DESC
                          LIMIT 1) AS parent)
             SELECT branch.seq FROM branch"""


WALK: LiteralString = _walk("b.head_seq")

# The oldest messages after a seq, and the newest ones before one. Who knows the version already gets none.
FIRST_IN_RANGE: LiteralString = f"""
           SELECT {RANGE_COLUMNS}
             FROM (SELECT *
                     FROM messages AS m
                    WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                      AND m.seq > %(after_seq)s AND m.seq <= b.head_seq AND NOT b.is_walked
                      AND s.version <> ALL (%(known_versions)s::uuid[])
                    ORDER BY m.seq
                    LIMIT %(limit)s OFFSET %(offset)s) AS m
            ORDER BY m.seq"""
FIRST_IN_BRANCH: LiteralString = f"""
           SELECT {BRANCH_COLUMNS}
             FROM (SELECT w.seq
                     FROM ({WALK}) AS w
                    WHERE w.seq > %(after_seq)s AND s.version <> ALL (%(known_versions)s::uuid[])
                    ORDER BY w.seq
                    LIMIT %(limit)s OFFSET %(offset)s) AS w
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq = w.seq
            ORDER BY m.seq"""
LAST_IN_RANGE: LiteralString = f"""
           SELECT {RANGE_COLUMNS}
             FROM (SELECT *
                     FROM messages AS m
                    WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                      AND m.seq > %(after_seq)s AND m.seq < %(before_seq)s AND m.seq <= b.head_seq
                      AND NOT b.is_walked
                      AND s.version <> ALL (%(known_versions)s::uuid[])
                    ORDER BY m.seq DESC
                    LIMIT %(limit)s OFFSET %(offset)s) AS m
            ORDER BY m.seq"""
LAST_IN_BRANCH: LiteralString = f"""
           SELECT {BRANCH_COLUMNS}
             FROM (SELECT w.seq
                     FROM ({WALK}) AS w
                    WHERE w.seq > %(after_seq)s AND w.seq < %(before_seq)s
                      AND s.version <> ALL (%(known_versions)s::uuid[])
                    LIMIT %(limit)s OFFSET %(offset)s) AS w
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq = w.seq
            ORDER BY m.seq"""

# The tokens of each message and of those after it in the branch, but for the system's, whose sum stands
# apart.
_TOKENS: LiteralString = f"""
           SELECT t.seq, t.role,
                  sum(t.token_count) FILTER (WHERE t.role <> 'system') OVER (ORDER BY t.seq DESC) AS tokens,
                  sum(t.token_count) FILTER (WHERE t.role = 'system') OVER () AS system_tokens
             FROM (SELECT m.seq, m.role, m.token_count
                     FROM messages AS m
                    WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                      AND m.seq <= b.head_seq AND NOT b.is_walked
                    UNION ALL
                   SELECT m.seq, m.role, m.token_count
                     FROM ({_walk("CASE WHEN b.is_walked THEN b.head_seq END")}) AS w
                     JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                      AND m.seq = w.seq) AS t"""
# The window begins at the oldest message of a user that the tokens suffice for, or else is the newest
# message. The system's messages before it belong to it, unless it is that one message.
WINDOW: LiteralString = f"""
           SELECT array_agg(f.seq) FILTER (WHERE f.is_in) AS seqs,
                  min(coalesce(f.start, b.head_seq)) AS first_seq, bool_or(NOT f.is_in) AS has_previous
             FROM (SELECT c.seq, c.start, CASE WHEN c.start IS NULL THEN c.seq = b.head_seq
                               ELSE c.seq >= c.start OR c.role = 'system' END AS is_in
                     FROM (SELECT c.seq, c.role,
                                  min(c.seq) FILTER (
                                      WHERE c.role = 'user'
                                        AND coalesce(c.tokens, 0) + coalesce(c.system_tokens,
                                               0) <= %(max_tokens)s
                                  ) OVER () AS start
                             FROM ({_TOKENS}) AS c) AS c) AS f"""


def fetch_branch(
    conn: Connection, in_range: LiteralString, in_branch: LiteralString, params: Mapping[str, Any]
) -> tuple[Any, ...] | None:
    """Run `in_range`, and `in_branch` if the last column of that says that the branch has to be walked.

    The row is that of one statement, so it is consistent whatever is written between the two.
    """
    row = fetch_one(conn, in_range, params)
    return fetch_one(conn, in_branch, params) if row is not None and row[-1] else row


def check_head(head_id: UUID | None, head_seq: int | None, where: str) -> None:
    """Refuse a head that is not a message of the session. Raises Invalid."""
    if head_id is not None and head_seq is None:
        text = "Not a message of this session."
        raise Invalid(
            f"{where}.head_id: {text}", [{"loc": [where, "head_id"], "msg": text, "type": "unknown"}]
        )
