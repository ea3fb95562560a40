"""How many messages fit into one response.

The statements that read messages judge a page by the sizes that PostgreSQL keeps of each value, and read
nothing where it may be too large. The messages of such a page are measured here.
"""

from collections.abc import Sequence
from typing import LiteralString
from uuid import UUID

from mai_sessions.errors import Invalid, broken_rule
from mai_sessions.postgres.connection import Connection, fetch_all
from mai_sessions.repository.columns import compact_json

# For callers that do not send the messages in a response.
NO_LIMIT = 2**62
# Messages that are measured at once, and the bytes of the fields that are not measured.
_BATCH = 500
_SMALL_FIELDS: LiteralString = "1024"

MEASURE_MESSAGES: LiteralString = f"""
    SELECT /* count_fitting */ {_SMALL_FIELDS} + octet_length(to_json(m.content)::text)
           + coalesce(octet_length(m.parts::text), 0)
           + CASE WHEN m.metadata = '{{}}' THEN 2 ELSE octet_length({compact_json("m.metadata")}) END
           + CASE WHEN m.documents = '{{}}' THEN 2 ELSE octet_length(to_json(m.documents)::text) END
      FROM messages AS m
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq = ANY (%(seqs)s::int[])
     ORDER BY m.seq DESC"""


def count_fitting(
    conn: Connection, user_id: str, session_id: UUID, seqs: Sequence[int], max_bytes: int
) -> int | None:
    """Count how many of these messages, the newest first, fit into a response of `max_bytes`. None if all do.

    The newest one always fits: a message is no larger than the request that brought it.
    """
    newest_first = sorted(seqs, reverse=True)
    size = fitting = 0
    for start in range(0, len(seqs), _BATCH):
        batch = newest_first[start : start + _BATCH]
        params = {"user_id": user_id, "session_id": session_id, "seqs": batch}
        for (message_size,) in fetch_all(conn, MEASURE_MESSAGES, params):
            size += message_size
            if size > max_bytes and fitting:
                return fitting
            fitting += 1
    return None


def too_large(loc: Sequence[str], max_bytes: int, advice: str) -> Invalid:
    """Return the error for a read with a response above `max_bytes`. `advice` says how to read it."""
    text = f"The response would be larger than {max_bytes} bytes. {advice}"
    return Invalid(broken_rule(loc, text, "too_large"))
