"""The statements that append messages to a session."""

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.long_text import utf8_size
from mai_sessions.content.message import NewMessage, has_long_text
from mai_sessions.errors import Invalid, NotFound
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, run_transaction
from mai_sessions.repository.append_keys import FORGET_KEY, GET_KEY, KEEP_KEY, USED_KEY
from mai_sessions.repository.attachments import LOCK_ATTACHMENTS, LOCK_UPLOADS
from mai_sessions.repository.columns import (
    LOCK_SESSION,
    MESSAGE_COLUMNS,
    SUMMARY_COLUMNS,
    check_locked,
    time_as_json,
)
from mai_sessions.repository.message_json import Placement, message_json
from mai_sessions.repository.new_messages import (
    FIND_UNKNOWN,
    MOVE_SESSION,
    READ_REPLY,
    UNKNOWN_IMAGES,
    UNKNOWN_MESSAGES,
    insert_statement,
    message_params,
    replayed_messages,
    statements_after_insert,
    unknown_references,
)
from mai_sessions.repository.plain_appends import append_plain_message, is_plain
from mai_sessions.repository.response_size import NO_LIMIT, too_large
from mai_sessions.repository.session_changes import (
    CHANGE_SESSION,
    LOCK_USER,
    METADATA_FIT,
    SessionChanges,
    change_params,
    change_statements,
    refuse_metadata,
)


class AppendReply(NamedTuple):
    """Messages that were appended: their ids and JSON, in the order in which they were given.

    `session` is the JSON of the session's summary, for a batch. `version` is the session's, None in a reply
    of release 0.1. `is_new` tells that something was added, now or by the request before; `is_replay`, that
    this is the first reply again.
    """

    ids: list[UUID]
    messages: list[bytes]
    session: bytes | None
    version: UUID | None
    is_new: bool
    is_replay: bool = False


# Of a batch with ids of its own, messages may be there, and larger than those that were sent.
_STORED_FIT: LiteralString = """
(SELECT count(*) <= 1 OR sum(octet_length(o.content)) <= %(max_stored_bytes)s
   FROM messages AS o
  WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.id = ANY (%(message_ids)s::uuid[]))"""


# Where a condition decides, a version that is new tells the statements after it that the condition held.
def _claim_session(condition: LiteralString) -> LiteralString:
    return f"""
    UPDATE /* append_messages */ sessions AS s
       SET version = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))
       AND {METADATA_FIT} AND {condition}
       AND NOT EXISTS ({USED_KEY})
       AND NOT EXISTS ({UNKNOWN_MESSAGES})
       AND NOT EXISTS ({UNKNOWN_IMAGES})
       AND EXISTS (SELECT FROM unnest(%(message_ids)s::uuid[]) AS r (id)
                    WHERE NOT EXISTS (SELECT FROM messages AS o
                                       WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s
                                         AND o.id = r.id))"""


CLAIM_SESSION: LiteralString = _claim_session("true")
CLAIM_FITTING: LiteralString = _claim_session(_STORED_FIT)


def _read_messages(condition: LiteralString) -> LiteralString:
    return f"""
    SELECT /* append_messages */ m.id, (SELECT row_to_json(r) FROM (SELECT {MESSAGE_COLUMNS}) AS r)
      FROM messages AS m
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
       AND m.id = ANY (%(message_ids)s::uuid[]) AND {condition}"""


READ_MESSAGES: LiteralString = _read_messages("true")
# Those that were there before, if nothing was added.
READ_STORED: LiteralString = _read_messages("""NOT EXISTS (
           SELECT FROM sessions AS s
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s)""")
READ_FITTING: LiteralString = f"""
    SELECT /* append_messages */ m.id, CASE WHEN s.version = %(version)s OR {_STORED_FIT}
           THEN (SELECT row_to_json(r) FROM (SELECT {MESSAGE_COLUMNS}) AS r) END
      FROM sessions AS s
      JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s
       AND m.id = ANY (%(message_ids)s::uuid[])
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
READ_SUMMARY: LiteralString = f"""
    SELECT /* append_messages */ s.version, (SELECT row_to_json(r) FROM (SELECT {SUMMARY_COLUMNS}) AS r)
      FROM sessions AS s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""


def append_messages(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    messages: Sequence[NewMessage],
    *,
    changes: SessionChanges | None = None,
    is_batch: bool = False,
    key: IdempotencyKey | None = None,
    if_match: Sequence[UUID] | None = None,
    max_bytes: int = NO_LIMIT,
) -> AppendReply:
    """Add messages: the first after the session's head, each other one after the one before it, unless they
    name their parents. The last one becomes the head, unless `changes` name another.

    A message whose id the session already has is not changed. If that holds for all, nothing is written,
    whatever `if_match` and the key are. A key that was used repeats the first reply. Raises NotFound, Stale
    unless the session's version is one of `if_match`, and Invalid for a key that was used with another body,
    for an unknown parent, head or image, for metadata of the session that become too large, and for existing
    messages of more than `max_bytes` of JSON, if they are larger than the request.
    """
    if not is_batch and if_match is None and is_plain(messages[0]):
        plain = append_plain_message(conn, user_id, session_id, messages[0], key)
        if plain.added:
            message_id, version, body = plain.added
            return AppendReply([message_id], [body], None, version, is_new=True)
        # A message that is there comes before its key.
        if messages[0].id is None and plain.kept:
            return _replay(session_id, messages, *plain.kept[0])
    ids = [message.id or new_id() for message in messages]
    changes = changes or {}
    params = {
        **change_params(user_id, session_id, changes),
        **message_params(user_id, session_id, messages, ids, changes.get("head_id"), is_batch=is_batch),
        **(key or NO_KEY)._asdict(),
        "version": (version := new_id()),
        "if_match": if_match,
        "max_bytes": max_bytes,
    }
    statements = _statements(messages, params, changes, is_batch=is_batch, has_key=key is not None)
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    insert = insert_statement(messages)
    read = READ_FITTING if READ_FITTING in rows else READ_STORED if READ_STORED in rows else READ_MESSAGES
    if rows[insert] and (rows.get(READ_REPLY) or read not in rows):
        return _reply_from_body(session_id, messages, rows, rows[insert][0], version)
    if not rows[insert] and not rows.get(LOCK_SESSION):
        raise NotFound("Session not found")
    stored: dict[UUID, bytes] = dict(rows.get(read, ()))
    if None in stored.values():
        raise too_large(("body", "messages"), max_bytes, "Messages of these ids exist: read them in pages.")
    if rows[insert] or (any(message.id for message in messages) and len(stored) == len(ids)):
        session = rows[READ_SUMMARY][0][1] if is_batch else None
        now = version if rows[insert] else rows[LOCK_SESSION][0][0]
        return AppendReply(ids, [stored[each] for each in ids], session, now, is_new=bool(rows[insert]))
    for same_body, reply in rows.get(GET_KEY, ()):
        return _replay(session_id, messages, same_body, reply)
    check_locked(rows[LOCK_SESSION], if_match)
    raise _refusal(rows, messages, changes.get("head_id"), is_batch=is_batch)


def _refusal(
    rows: dict[LiteralString, Any], messages: Sequence[NewMessage], head_id: UUID | None, *, is_batch: bool
) -> Invalid:
    """Return the error of messages that were refused for what they name. Raises Invalid for metadata."""
    unknown_ids, unknown_images = rows[FIND_UNKNOWN][0] if FIND_UNKNOWN in rows else ([], [])
    if not unknown_ids and not unknown_images:
        refuse_metadata("session")
    return unknown_references(messages, head_id, unknown_ids, unknown_images, is_batch=is_batch)


def _statements(
    messages: Sequence[NewMessage],
    params: dict[str, Any],
    changes: SessionChanges,
    *,
    is_batch: bool,
    has_key: bool,
) -> list[LiteralString]:
    """Return the statements of an append, and set the parameters that only some of them need."""
    has_own_ids = any(message.id for message in messages)
    is_fitting = is_batch and has_own_ids
    if is_fitting:
        sent = sum(utf8_size(message.content) for message in messages)
        params["max_stored_bytes"] = max(params["max_bytes"] // 6, sent)  # 6 bytes of JSON a character
    links = bool(params["named_sha256s"])
    needs = bool(params["needed_ids"] or params["needed_sha256s"])
    reads = is_batch or has_own_ids or links or bool(params["child_ids"])
    read: list[LiteralString] = [READ_FITTING if is_fitting else READ_MESSAGES]
    if has_long_text(messages) and not (is_fitting or links):
        read = [READ_REPLY, *([READ_STORED] if has_own_ids else [])]
    has_condition = has_key or params["if_match"] is not None or "metadata" in changes
    is_conditional = has_condition or has_own_ids or needs
    params["claimed"] = params["version"] if is_conditional else None
    return [
        *([LOCK_SESSION] if is_conditional or links else []),
        *([LOCK_USER] if links and "archived" in changes else []),
        *([LOCK_UPLOADS, LOCK_ATTACHMENTS] if links else []),
        *([CLAIM_FITTING if is_fitting else CLAIM_SESSION] if is_conditional else []),
        insert_statement(messages),
        *statements_after_insert(params),
        *([CHANGE_SESSION, *change_statements(changes)] if changes else []),
        *([FORGET_KEY, KEEP_KEY, GET_KEY] if has_key else []),
        *(read if reads else []),
        *([READ_SUMMARY] if is_batch else []),
        *([FIND_UNKNOWN] if needs else []),
    ]


def _reply_from_body(
    session_id: UUID,
    messages: Sequence[NewMessage],
    rows: dict[LiteralString, Any],
    first: tuple[Any, ...],
    version: UUID,
) -> AppendReply:
    """The reply for messages that were added and not read back. `first` is what the first one became."""
    if READ_REPLY in rows:
        return _replay(session_id, messages, True, rows[READ_REPLY][0][0])._replace(is_replay=False)
    message_id, seq, created_at = first
    placement = Placement(message_id, seq, time_as_json(created_at), rows[MOVE_SESSION][0][0])
    body = message_json(session_id, messages[0], placement)
    return AppendReply([message_id], [body], None, version, is_new=True)


def _replay(session_id: UUID, messages: Sequence[NewMessage], same_body: bool, reply: bytes) -> AppendReply:
    check_same_body(same_body)
    kept = orjson.loads(reply)
    bodies = replayed_messages(session_id, messages, kept)
    session = None if kept["session"] is None else orjson.dumps(kept["session"])
    version = UUID(kept["version"]) if "version" in kept else None
    return AppendReply(list(bodies), list(bodies.values()), session, version, is_new=True, is_replay=True)
