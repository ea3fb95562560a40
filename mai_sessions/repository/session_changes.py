"""The statements that change a session, alone or together with new messages.

All but FIND_HEAD require the new version of the session, which an earlier statement wrote if all conditions
held.
"""

from typing import Any, LiteralString, NoReturn, TypedDict
from uuid import UUID

from mai_sessions.content.lexemes import fold_title, title_vector
from mai_sessions.content.metadata import MAX_METADATA, Metadata
from mai_sessions.errors import Invalid, broken_rule
from mai_sessions.postgres.adapters import Json
from mai_sessions.repository.columns import compact_json, preview_of
from mai_sessions.repository.session_batches import ARCHIVE_SESSIONS, COUNT_ARCHIVED


class SessionChanges(TypedDict, total=False):
    """The changes of a session: missing fields do not change, metadata are merged."""

    title: str
    agent_name: str
    model_id: str
    metadata: Metadata
    archived: bool
    head_id: UUID


# The merged metadata: members that are null are removed (RFC 7396).
_MERGED_METADATA: LiteralString = """
           SELECT (t.metadata || %(members)s::jsonb) - %(removed)s::text[] AS metadata
             FROM session_titles AS t
            WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s"""
METADATA_FIT: LiteralString = f"""
(%(members)s::jsonb IS NULL OR %(max_metadata)s >= (
 SELECT octet_length({compact_json("t.metadata")}) FROM ({_MERGED_METADATA}) AS t))"""

CHANGE_SESSION: LiteralString = """
    UPDATE /* change_session */ sessions AS s
       SET title      = coalesce(%(title)s, s.title),
           agent_name = coalesce(%(agent_name)s, s.agent_name),
           model_id   = coalesce(%(model_id)s, s.model_id)
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
CHANGE_TITLE: LiteralString = """
    UPDATE /* change_session */ session_titles AS t
       SET title = %(folded_title)s,
           words = %(words)s::tsvector
      FROM sessions AS s
     WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
MERGE_METADATA: LiteralString = """
    UPDATE /* change_session */ session_titles AS t
       SET metadata = (t.metadata || %(members)s::jsonb) - %(removed)s::text[]
      FROM sessions AS s
     WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
MARK_METADATA: LiteralString = """
    UPDATE /* change_session */ sessions AS s
       SET has_metadata = t.metadata <> '{}'
      FROM session_titles AS t
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
       AND t.user_id = %(user_id)s AND t.session_id = %(session_id)s
       AND s.has_metadata <> (t.metadata <> '{}')"""
MOVE_HEAD: LiteralString = f"""
    UPDATE /* change_session */ sessions AS s
       SET head_seq             = m.seq,
           head_id              = m.id,
           is_branched          = s.is_branched OR m.seq <> s.newest_seq,
           last_message_preview = {preview_of("m.content")}
      FROM messages AS m
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
       AND m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(new_head_id)s"""
FIND_HEAD: LiteralString = """
    SELECT /* change_session */ m.seq
      FROM messages AS m
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(new_head_id)s"""


# A writer of attachments locks the count first, as in a creation. Without the session it locks nothing:
# another writer may make the session, lock it, and then the count.
LOCK_USER: LiteralString = """
    SELECT /* lock_user */ u.user_id
      FROM users AS u
     WHERE u.user_id = %(user_id)s
       AND EXISTS (SELECT FROM sessions AS s WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s)
       FOR UPDATE OF u"""


def change_statements(changes: SessionChanges) -> list[LiteralString]:
    """Return the statements for the title, the metadata, the count of archived sessions, and the head."""
    return [
        *([CHANGE_TITLE] if "title" in changes else []),
        *([MERGE_METADATA, MARK_METADATA] if "metadata" in changes else []),
        *([COUNT_ARCHIVED, ARCHIVE_SESSIONS] if "archived" in changes else []),
        *([MOVE_HEAD] if "head_id" in changes else []),
    ]


def change_params(user_id: str, session_id: UUID, changes: SessionChanges) -> dict[str, Any]:
    """Return the parameters of these statements, except the version."""
    title, metadata = changes.get("title"), changes.get("metadata")
    return {
        "user_id": user_id,
        "session_id": session_id,
        "session_ids": [session_id],
        "title": title,
        "folded_title": None if title is None else fold_title(title),
        "words": None if title is None else title_vector(user_id, session_id, title),
        "agent_name": changes.get("agent_name"),
        "model_id": changes.get("model_id"),
        "members": None if metadata is None else Json(metadata.members),
        "removed": [] if metadata is None else list(metadata.removed),
        "max_metadata": MAX_METADATA,
        "archived": changes.get("archived"),
        "new_head_id": changes.get("head_id"),
    }


def refuse_metadata(*loc: str) -> NoReturn:
    """Raise Invalid for metadata that become too large by a merge. `loc` leads to them in the body."""
    text = f"More than {MAX_METADATA} bytes of JSON after the merge."
    raise Invalid(broken_rule(["body", *loc, "metadata"], text, "too_long"))
