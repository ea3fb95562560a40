"""Columns, expressions and statements that the statements of several resources share."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString
from uuid import UUID

from mai_sessions.errors import NotFound, Stale

# Now, or the session's last write if that is later by less than a minute: the time of a session never goes
# back, and a clock that was ahead is corrected. Without CASE, because Citus refuses now() in it.
NEXT_UPDATED_AT: LiteralString = """
GREATEST(now(), nullif(s.updated_at, GREATEST(s.updated_at, now() + interval '1 minute')))"""

_PREVIEW_CHARACTERS: LiteralString = "100"
PREVIEW_CHARACTERS = int(_PREVIEW_CHARACTERS)


def preview_of(content: LiteralString) -> LiteralString:
    """Make the expression for the `last_message_preview` of a content: its first PREVIEW_CHARACTERS."""
    return f"left({content}, {_PREVIEW_CHARACTERS})"


# What SUMMARY_COLUMNS reads of the row of a session.
SESSION_ROW: LiteralString = """
s.id, s.title, s.agent_name, s.model_id, s.created_at, s.updated_at, s.message_count, s.last_message_preview,
s.has_metadata, s.archived, s.is_branched, s.newest_seq, s.head_seq, s.head_id, s.version"""

# What message_columns reads of the row of a message.
MESSAGE_ROW: LiteralString = """
m.id, m.session_id, m.seq, m.parent_seq, m.role, m.content, m.parts, m.part_attachments, m.token_count,
m.model_id, m.agent_name, m.response_time_ms, m.is_error, m.images, m.documents, m.metadata, m.status,
m.created_at, m.updated_at"""


def compact_json(value: LiteralString) -> LiteralString:
    """Make the expression for a jsonb object as compact JSON text: PostgreSQL writes a blank after each
    separator.

    An operator makes the text, because Citus knows that it is immutable; of a cast it does not.
    """
    return rf"""regexp_replace({value} #>> '{{}}', '("(?:[^"\\]|\\.)*")|([:,]) ', '\1\2', 'g')"""


# The seq of the head: without branches, the newest message.
HEAD_SEQ: LiteralString = "CASE WHEN s.is_branched THEN s.head_seq ELSE s.newest_seq END"

# The id of the head. Release 0.1 updates only newest_seq; then the id is looked up.
HEAD_ID: LiteralString = """
CASE WHEN s.is_branched OR s.head_seq IS NOT DISTINCT FROM s.newest_seq THEN s.head_id
     ELSE (SELECT h.id
             FROM messages AS h
            WHERE h.user_id = %(user_id)s AND h.session_id = s.id AND h.seq = s.newest_seq) END"""


def summary_columns(head_id: LiteralString) -> LiteralString:
    """Return the columns of a session `s`, in the order of its JSON. `head_id` is an expression."""
    return f"""
s.id, s.title, s.agent_name, s.model_id, s.created_at, s.updated_at, s.message_count, s.last_message_preview,
CASE WHEN s.has_metadata
     THEN (SELECT {compact_json("t.metadata")}::json
             FROM session_titles AS t
            WHERE t.user_id = %(user_id)s AND t.session_id = s.id)
     ELSE '{{}}'::json END AS metadata, s.archived, {head_id} AS head_id, s.version"""


SUMMARY_COLUMNS: LiteralString = summary_columns(HEAD_ID)

# The id of the message before `m` in its branch. OFFSET 0 keeps the primary key in use under any plan.
PARENT_ID: LiteralString = """
(SELECT p.id
   FROM messages AS p
  WHERE p.user_id = %(user_id)s AND p.session_id = %(session_id)s AND p.seq <= coalesce(m.parent_seq,
         m.seq - 1)
  ORDER BY p.seq DESC
  LIMIT 1)"""


# The window over a page of messages. All functions use the same one, so that PostgreSQL makes one pass.
IN_PAGE: LiteralString = "(ORDER BY m.seq ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"
# Whether the JSON of a page certainly fits into a response, by sizes that PostgreSQL knows without reading
# the values. A character takes at most six bytes, as U+0001 does. Parts count as their limit of 256 KiB, and
# all other fields of a message as 9,600 bytes.
_FITS: LiteralString = f"""
6 * sum(octet_length(m.content) + CASE WHEN m.parts IS NULL THEN 1600 ELSE 45300 END) OVER {IN_PAGE}
  <= %(max_bytes)s"""


def message_columns(
    parent_id: LiteralString, *, is_page: bool = False, has_content: bool = True
) -> LiteralString:
    """Return the columns of a message `m`, in the order of its JSON. `parent_id` is an expression.

    In a page that may be too large for a response, large columns are null, and the content always is.
    Without `has_content` the content is null.

    Links in `images` and `parts` begin with U+0000, which no text of a user holds: web/urls.py turns them
    into URLs.
    """
    content: LiteralString = f"CASE WHEN {_FITS} THEN m.content END" if is_page else "m.content"
    if not has_content:
        content = "NULL"
    if_fits: LiteralString = f"WHEN {_FITS} THEN" if is_page else "ELSE"
    return f"""
m.id, m.session_id, m.seq, m.role, {content} AS content,
CASE WHEN m.part_attachments = '{{}}' THEN m.parts
     {if_fits} replace(m.parts::text, '"/api/v1/attachments/', '"\\u0000')::json END AS parts,
m.token_count, m.model_id, m.agent_name, m.response_time_ms, m.is_error,
CASE WHEN m.images = '{{}}' THEN '[]'::json
     ELSE ('["\\u0000' || array_to_string(m.images, '","\\u0000') || '"]')::json END AS images,
m.documents, CASE WHEN m.metadata = '{{}}' THEN '{{}}'
     {if_fits} {compact_json("m.metadata")}::json END AS metadata, m.status,
{parent_id} AS parent_id, m.created_at, coalesce(m.updated_at, m.created_at) AS updated_at"""


MESSAGE_COLUMNS: LiteralString = message_columns(PARENT_ID)

# Writers of a session queue here. Each then sees the rows of the previous writer.
LOCK_SESSION: LiteralString = """
    SELECT /* lock_session */ s.version
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       FOR UPDATE"""


def check_locked(locked: Sequence[tuple[UUID, ...]], if_match: Sequence[UUID] | None) -> None:
    """Check the row of LOCK_SESSION. Raises NotFound, and Stale unless its version is one of `if_match`."""
    if not locked:
        raise NotFound("Session not found")
    if if_match is not None and locked[0][0] not in if_match:
        raise Stale("The session has been changed since")


def time_as_json(moment: datetime) -> str:
    """Write a moment of UTC like PostgreSQL in JSON: without zeros at the end of the fraction."""
    text = moment.isoformat()
    return text if not moment.microsecond else text[:26].rstrip("0") + text[26:]


def number_as_json(number: float | None) -> float | None:
    """Write a number like PostgreSQL writes a float8 in JSON: a whole number without a fraction."""
    return int(number) if number is not None and number.is_integer() else number
