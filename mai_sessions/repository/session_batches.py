"""The statements that delete, archive or unarchive one or many sessions.

The sessions for which the conditions hold first get a new version, which the later statements require.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.errors import NotFound, Stale
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, run_transaction
from mai_sessions.repository.attachments import SWEEP_ATTACHMENTS, release_attachments


class BatchReply(NamedTuple):
    """The JSON of the reply to a batch, and whether it is a replay."""

    body: bytes
    is_replayed: bool


# Always in the same order, so that two batches cannot deadlock.
LOCK_SESSIONS: LiteralString = """
    SELECT /* lock_sessions */ s.id, s.version
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s)
     ORDER BY s.id
       FOR UPDATE"""
CLAIM_SESSIONS: LiteralString = """
    UPDATE /* claim_sessions */ sessions AS s
       SET version = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s)
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))
    RETURNING s.id"""

DELETE_IMAGES: LiteralString = release_attachments("""
           SELECT m.images, m.part_attachments
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id
            WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s) AND s.version = %(version)s
              AND (m.images <> '{}' OR m.part_attachments <> '{}')""")
DELETE_KEYS: LiteralString = """
    DELETE /* delete_sessions */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = ANY (%(messages_paths)s)
       AND EXISTS (SELECT FROM sessions AS s
                    WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s)
                      AND s.version = %(version)s)"""
COUNT_OUT_SESSIONS: LiteralString = """
    UPDATE /* delete_sessions */ users AS u
       SET session_count  = u.session_count - deleted.sessions,
           archived_count = u.archived_count - deleted.archived
      FROM (SELECT count(*) AS sessions, count(*) FILTER (WHERE s.archived) AS archived
              FROM sessions AS s
             WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s)
               AND s.version = %(version)s) AS deleted
     WHERE u.user_id = %(user_id)s AND deleted.sessions > 0"""
# The foreign keys delete their messages, titles and sums.
DELETE_SESSIONS: LiteralString = """
    DELETE /* delete_sessions */ FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s) AND s.version = %(version)s"""

COUNT_ARCHIVED: LiteralString = """
    UPDATE /* archive_sessions */ users AS u
       SET archived_count = u.archived_count + CASE WHEN %(archived)s THEN moved.sessions ELSE -moved.sessions
           END
      FROM (SELECT count(*) AS sessions
              FROM sessions AS s
             WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s) AND s.version = %(version)s
               AND s.archived <> %(archived)s) AS moved
     WHERE u.user_id = %(user_id)s AND moved.sessions > 0"""
ARCHIVE_SESSIONS: LiteralString = """
    UPDATE /* archive_sessions */ sessions AS s
       SET archived = %(archived)s
     WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s) AND s.version = %(version)s
       AND s.archived <> %(archived)s"""

# The count of the user before the images, as in a creation.
_DELETION: list[LiteralString] = [
    COUNT_OUT_SESSIONS,
    DELETE_IMAGES,
    DELETE_KEYS,
    DELETE_SESSIONS,
    SWEEP_ATTACHMENTS,
]
_ARCHIVING: list[LiteralString] = [COUNT_ARCHIVED, ARCHIVE_SESSIONS]


def delete_session(
    conn: Connection, user_id: str, session_id: UUID, *, if_match: Sequence[UUID] | None = None
) -> None:
    """Delete a session and everything in it.

    Raises NotFound, and Stale unless its version is one of `if_match`.
    """
    params = {
        "user_id": user_id,
        "session_ids": [session_id],
        "messages_paths": [_messages_path(session_id)],
        "version": new_id(),
        "if_match": if_match,
    }
    # Without a condition, the claim itself locks the session and finds out whether it exists.
    lock: list[LiteralString] = [] if if_match is None else [LOCK_SESSIONS]
    found, *_ = run_transaction(conn, [*lock, CLAIM_SESSIONS, *_DELETION], params)
    if not found:
        raise NotFound("Session not found")
    if if_match is not None and found[0][1] not in if_match:
        raise Stale("The session has been changed since")


def _messages_path(session_id: UUID) -> str:
    return f"sessions/{session_id}/messages"


FORGET_BATCH: LiteralString = """
    DELETE /* batch_sessions */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND k.created_at <= now() - interval '1 day'"""
# Retries queue here. The reply tells which sessions there were, and only those are claimed: one that is made
# since is not found.
KEEP_BATCH: LiteralString = """
    INSERT /* batch_sessions */ INTO idempotency_keys AS k (
           user_id, path, key, fingerprint, id, created_at, reply)
    SELECT u.user_id, %(path)s, %(key)s, %(fingerprint)s, %(version)s::uuid, now(), (
           SELECT coalesce(json_agg(s.id), '[]')
             FROM sessions AS s
            WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s))
      FROM users AS u
     WHERE u.user_id = %(user_id)s
        ON CONFLICT (user_id, path, key) DO NOTHING"""
CLAIM_BATCH: LiteralString = """
    UPDATE /* batch_sessions */ sessions AS s
       SET version = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = ANY (%(session_ids)s)
       AND s.id IN (SELECT kept.id::uuid
                      FROM idempotency_keys AS k
                     CROSS JOIN json_array_elements_text(k.reply) AS kept (id)
                     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
                       AND k.id = %(version)s)"""
GET_BATCH: LiteralString = """
    SELECT /* batch_sessions */ k.fingerprint = %(fingerprint)s, k.id, k.reply
      FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s"""


def batch_sessions(
    conn: Connection,
    user_id: str,
    session_ids: Sequence[UUID],
    action: str,
    *,
    key: IdempotencyKey | None = None,
) -> BatchReply:
    """Delete, archive or unarchive sessions, all or none, in as many statements for one as for 500.

    `session_ids` are different from each other; those that are not there are no error. Raises Invalid for a
    key that was used with another body.
    """
    version = new_id()
    params = {
        "user_id": user_id,
        "session_ids": list(session_ids),
        "messages_paths": [_messages_path(session_id) for session_id in session_ids],
        "version": version,
        "if_match": None,
        "archived": action == "archive",
        **(key or NO_KEY)._asdict(),
    }
    change: list[LiteralString] = _DELETION if action == "delete" else _ARCHIVING
    if key is None:
        # The claim may find a session that was made after the lock.
        _, claimed, *_ = run_transaction(conn, [LOCK_SESSIONS, CLAIM_SESSIONS, *change], params)
        return BatchReply(_result(session_ids, {id for (id,) in claimed}), is_replayed=False)
    statements: list[LiteralString] = [
        FORGET_BATCH,
        KEEP_BATCH,
        LOCK_SESSIONS,
        CLAIM_BATCH,
        *change,
        GET_BATCH,
    ]
    *_, kept = run_transaction(conn, statements, params)
    if not kept:
        return BatchReply(_result(session_ids, set()), is_replayed=False)
    [(same_body, first, reply)] = kept
    check_same_body(same_body)
    return BatchReply(_result(session_ids, set(map(UUID, orjson.loads(reply)))), is_replayed=first != version)


def _result(session_ids: Sequence[UUID], done: set[UUID]) -> bytes:
    return orjson.dumps(
        {
            "done": [id for id in session_ids if id in done],
            "not_found": [id for id in session_ids if id not in done],
        }
    )
