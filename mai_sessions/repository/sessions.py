"""The statements on sessions."""

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.lexemes import fold_title, title_vector
from mai_sessions.content.metadata import MAX_METADATA, NO_METADATA, Metadata
from mai_sessions.errors import Invalid, NotFound, Stale
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, Json, fetch_one, run_transaction
from mai_sessions.repository.branches import BRANCH, BRANCH_COLUMNS, RANGE_COLUMNS, WALK, check_head
from mai_sessions.repository.columns import (
    LOCK_SESSION,
    NEXT_UPDATED_AT,
    SUMMARY_COLUMNS,
    check_locked,
    compact_json,
    time_as_json,
)
from mai_sessions.repository.session_batches import ARCHIVE_SESSIONS, COUNT_ARCHIVED


class SessionReply(NamedTuple):
    """A session: its id, its version unless this is the first reply again, the JSON of the reply, and whether it
    was made now.
    """

    id: UUID
    version: UUID | None
    body: bytes
    is_new: bool = False


# The newest messages are those above the seq of the one after them: in this form the primary key gives them in
# order. Who knows the version already gets none.
_NEWEST_MESSAGES: LiteralString = f"""
          (SELECT {RANGE_COLUMNS}
             FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
              AND m.seq <= b.head_seq AND NOT b.is_walked
              AND m.seq > CASE WHEN %(messages_limit)s::int IS NULL THEN 0 ELSE coalesce((
                      SELECT o.seq FROM messages AS o
                       WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.seq <= b.head_seq
                       ORDER BY o.seq DESC
                      OFFSET %(messages_limit)s::int LIMIT 1), 0) END
              AND s.version <> ALL (%(known_versions)s::uuid[])
            ORDER BY m.seq)
            UNION ALL
          (SELECT {BRANCH_COLUMNS}
             FROM (SELECT w.seq
                     FROM ({WALK}) AS w
                    WHERE s.version <> ALL (%(known_versions)s::uuid[])
                    LIMIT %(messages_limit)s::int) AS w
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq = w.seq
            ORDER BY m.seq)"""

GET_SESSION: LiteralString = f"""
    SELECT /* get_session */ s.id, s.version, (
           SELECT row_to_json(d) FROM (
               SELECT {SUMMARY_COLUMNS}, (
                      SELECT coalesce(array_to_json(array_agg(r)), '[]') FROM ({_NEWEST_MESSAGES}) AS r) AS messages) AS d),
           b.head_seq
      FROM sessions AS s
     CROSS JOIN LATERAL ({BRANCH}) AS b
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


def get_session(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    messages_limit: int | None = None,
    head_id: UUID | None = None,
    branches: str | None = None,
    known_versions: Sequence[UUID] = (),
) -> SessionReply:
    """Read a session with the newest messages of its branch, all of them by default.

    `head_id` asks for the branch that ends at that message, `all` for `branches` for every message. Raises NotFound,
    and Invalid for a `head_id` that is not a message of the session.
    """
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "messages_limit": messages_limit,
        "head_id": head_id,
        "all_branches": branches == "all",
        "known_versions": list(known_versions),
    }
    row = fetch_one(conn, GET_SESSION, params)
    if row is None:
        raise NotFound("Session not found")
    *reply, head_seq = row
    check_head(head_id, head_seq, "query")
    return SessionReply(*reply)


# A key whose session is gone, or that is older than a day, is forgotten.
FORGET_KEY: LiteralString = """
    DELETE /* create_session */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND (k.created_at <= now() - interval '1 day'
            OR NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = %(user_id)s AND s.id = k.id))"""
# Retries queue here. The key stands before the session that is made for it, which is what the next statement asks.
KEEP_KEY: LiteralString = """
    INSERT /* create_session */ INTO idempotency_keys (user_id, path, key, fingerprint, id, created_at, reply)
    VALUES (%(user_id)s, %(path)s, %(key)s, %(fingerprint)s, %(session_id)s, now(), %(reply)s::json)
        ON CONFLICT (user_id, path, key) DO NOTHING"""
GET_KEY: LiteralString = """
    SELECT /* create_session */ k.fingerprint = %(fingerprint)s, k.id, k.created_at, k.reply
      FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s"""
# Where the id was there already, nothing was made for the key.
DROP_KEY: LiteralString = """
    DELETE /* create_session */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s AND k.created_at = now()
       AND NOT EXISTS (SELECT FROM sessions AS s
                        WHERE s.user_id = %(user_id)s AND s.id = k.id AND s.version = %(version)s)
    RETURNING k.id"""

# The session before the user's count, as where one is deleted: otherwise the two would deadlock over an id that
# comes again.
CREATE_SESSION: LiteralString = """
    INSERT /* create_session */ INTO sessions AS s (
           user_id, id, title, agent_name, model_id, created_at, updated_at, archived, has_metadata, version)
    VALUES (%(user_id)s, %(session_id)s, %(title)s, %(agent_name)s, %(model_id)s, coalesce(%(created_at)s, now()),
            coalesce(%(created_at)s, now()), %(archived)s, %(has_metadata)s, %(version)s)
        ON CONFLICT (user_id, id) DO NOTHING
    RETURNING s.created_at"""
CREATE_SESSION_OF_KEY: LiteralString = """
    INSERT /* create_session */ INTO sessions AS s (
           user_id, id, title, agent_name, model_id, created_at, updated_at, archived, has_metadata, version)
    SELECT k.user_id, k.id, %(title)s, %(agent_name)s, %(model_id)s, coalesce(%(created_at)s, now()),
           coalesce(%(created_at)s, now()), %(archived)s::boolean, %(has_metadata)s::boolean, %(version)s::uuid
      FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND k.id = %(session_id)s AND k.fingerprint = %(fingerprint)s
        ON CONFLICT (user_id, id) DO NOTHING
    RETURNING s.created_at"""
CREATE_TITLE: LiteralString = """
    INSERT /* create_session */ INTO session_titles (user_id, session_id, created_at, title, words, metadata)
    SELECT s.user_id, s.id, s.created_at, %(folded_title)s, %(words)s::tsvector, %(metadata)s::jsonb
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
COUNT_SESSION: LiteralString = """
    INSERT /* create_session */ INTO users AS u (user_id, session_count, archived_count)
    SELECT s.user_id, 1, s.archived::int
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
        ON CONFLICT (user_id) DO UPDATE
       SET session_count  = u.session_count + 1,
           archived_count = u.archived_count + excluded.archived_count"""


class NewSession(NamedTuple):
    """A session to make. `created_at` is given by clients that bring a session from elsewhere."""

    id: UUID
    title: str
    agent_name: str
    model_id: str | None = None
    metadata: Metadata = NO_METADATA
    archived: bool = False
    created_at: datetime | None = None


def create_session(
    conn: Connection,
    user_id: str,
    session: NewSession,
    *,
    key: IdempotencyKey | None = None,
    must_be_new: bool = False,
) -> SessionReply:
    """Make a session, or give the first reply again when the key was used.

    A session of the user's that has this id already is returned as it stands, or raises Stale if it `must_be_new`.
    Raises Invalid for a key that was used with another body.
    """
    version = new_id()
    params = {
        "user_id": user_id,
        "session_id": session.id,
        "version": version,
        "title": session.title,
        "folded_title": fold_title(session.title),
        "words": title_vector(user_id, session.id, session.title),
        "agent_name": session.agent_name,
        "model_id": session.model_id,
        "metadata": Json(session.metadata.members),
        "has_metadata": session.metadata.members != b"{}",
        "archived": session.archived,
        "created_at": session.created_at,
        "reply": Json(orjson.dumps({"version": version})),
        **(key or NO_KEY)._asdict(),
    }
    creation: list[LiteralString] = [
        CREATE_SESSION_OF_KEY if key else CREATE_SESSION,
        CREATE_TITLE,
        COUNT_SESSION,
    ]
    statements: list[LiteralString] = (
        [FORGET_KEY, KEEP_KEY, *creation, GET_KEY, DROP_KEY] if key else creation
    )
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    for (created_at,) in rows[creation[0]]:
        return SessionReply(session.id, version, _new_session(session, created_at, version), is_new=True)
    if key is None or rows[DROP_KEY]:
        if must_be_new:
            raise Stale("The session is there already")
        return get_session(conn, user_id, session.id)
    [(same_body, session_id, kept_at, reply)] = rows[GET_KEY]
    check_same_body(same_body)
    first = session._replace(id=session_id)
    body = _new_session(first, session.created_at or kept_at, reply and orjson.loads(reply)["version"])
    return SessionReply(session_id, None, body, is_new=True)


def _new_session(session: NewSession, created_at: datetime, version: UUID | None) -> bytes:
    """The JSON of a session that was made now, as GET_SESSION gives it."""
    moment = time_as_json(created_at)
    return orjson.dumps(
        {
            "id": session.id,
            "title": session.title,
            "agent_name": session.agent_name,
            "model_id": session.model_id,
            "created_at": moment,
            "updated_at": moment,
            "message_count": 0,
            "last_message_preview": None,
            "metadata": orjson.Fragment(session.metadata.members),
            "archived": session.archived,
            "head_id": None,
            "version": version,
            "messages": [],
        }
    )


# What the metadata become: its members that are given as null go (RFC 7396).
_MERGED_METADATA: LiteralString = """
           SELECT (t.metadata || %(members)s::jsonb) - %(removed)s::text[] AS metadata
             FROM session_titles AS t
            WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s"""


# A version that is new tells the statements after it that the conditions held.
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
       AND (%(members)s::jsonb IS NULL OR %(max_metadata)s >= (
            SELECT octet_length({compact_json("t.metadata")}) FROM ({_MERGED_METADATA}) AS t))
       AND (%(new_head_id)s::uuid IS NULL OR EXISTS (
            SELECT FROM messages AS m
             WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(new_head_id)s))"""


PATCH_SESSION: LiteralString = _patch_session(NEXT_UPDATED_AT)
PATCH_SESSION_IN_PLACE: LiteralString = _patch_session("s.updated_at")
PATCH_TITLE: LiteralString = """
    UPDATE /* patch_session */ session_titles AS t
       SET title = %(folded_title)s,
           words = %(words)s::tsvector
      FROM sessions AS s
     WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
PATCH_METADATA: LiteralString = """
    UPDATE /* patch_session */ session_titles AS t
       SET metadata = (t.metadata || %(members)s::jsonb) - %(removed)s::text[]
      FROM sessions AS s
     WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
MARK_METADATA: LiteralString = """
    UPDATE /* patch_session */ sessions AS s
       SET has_metadata = t.metadata <> '{}'
      FROM session_titles AS t
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
       AND t.user_id = %(user_id)s AND t.session_id = %(session_id)s
       AND s.has_metadata <> (t.metadata <> '{}')"""
MOVE_HEAD: LiteralString = """
    UPDATE /* patch_session */ sessions AS s
       SET head_seq             = m.seq,
           head_id              = m.id,
           is_branched          = s.is_branched OR m.seq <> s.newest_seq,
           last_message_preview = left(m.content, 100)
      FROM messages AS m
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
       AND m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(new_head_id)s"""
FIND_HEAD: LiteralString = """
    SELECT /* patch_session */ m.seq
      FROM messages AS m
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(new_head_id)s"""


def patch_session(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    title: str | None = None,
    agent_name: str | None = None,
    model_id: str | None = None,
    clear_model_id: bool = False,
    metadata: Metadata | None = None,
    archived: bool | None = None,
    new_head_id: UUID | None = None,
    messages_limit: int | None = None,
    if_match: Sequence[UUID] | None = None,
) -> SessionReply:
    """Change what is given of a session; metadata are merged.

    Metadata, `archived` and the head alone leave `updated_at` as it is. Raises NotFound, Stale unless the version is one
    of `if_match`, and Invalid for metadata that become too large, or a head that is not a message of the session.
    """
    version = new_id()
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "session_ids": [session_id],
        "title": title,
        "folded_title": None if title is None else fold_title(title),
        "words": None if title is None else title_vector(user_id, session_id, title),
        "agent_name": agent_name,
        "model_id": model_id,
        "clear_model_id": clear_model_id,
        "members": None if metadata is None else Json(metadata.members),
        "removed": [] if metadata is None else list(metadata.removed),
        "max_metadata": MAX_METADATA,
        "archived": archived,
        "new_head_id": new_head_id,
        "head_id": None,
        "all_branches": False,
        "messages_limit": messages_limit,
        "known_versions": [],
        "version": version,
        "if_match": if_match,
    }
    in_place = [metadata, archived, new_head_id] != [None] * 3
    moves = not in_place or clear_model_id or [title, agent_name, model_id] != [None] * 3
    statements: list[LiteralString] = [
        LOCK_SESSION,
        PATCH_SESSION if moves else PATCH_SESSION_IN_PLACE,
        *([PATCH_TITLE] if title is not None else []),
        *([PATCH_METADATA, MARK_METADATA] if metadata is not None else []),
        *([COUNT_ARCHIVED, ARCHIVE_SESSIONS] if archived is not None else []),
        *([MOVE_HEAD, FIND_HEAD] if new_head_id is not None else []),
        GET_SESSION,
    ]
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    check_locked(rows[LOCK_SESSION], if_match)
    if new_head_id is not None and not rows[FIND_HEAD]:
        check_head(new_head_id, None, "body")
    *reply, _ = rows[GET_SESSION][0]
    if reply[1] != version:
        refuse_metadata()
    return SessionReply(*reply)


def refuse_metadata() -> None:
    """Refuse metadata that would become too large by what is merged into them. Raises Invalid."""
    text = f"Merged, more than {MAX_METADATA} bytes of JSON."
    raise Invalid(f"body.metadata: {text}", [{"loc": ["body", "metadata"], "msg": text, "type": "too_long"}])
