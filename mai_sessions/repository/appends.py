"""The statements that append messages to a session.

They are numbered after the session's `last_seq`, which moves last: until then, the messages beyond it are the new
ones.
"""

from collections.abc import Sequence
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.message import UNSET, NewMessage
from mai_sessions.errors import Invalid, NotFound
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection, Json, run_transaction
from mai_sessions.repository.attachments import (
    DROP_UNKNOWN_LINKS,
    LOCK_ATTACHMENTS,
    attachment_params,
    refer_to_attachments,
    store_attachments,
)
from mai_sessions.repository.columns import (
    HEAD_ID,
    LOCK_SESSION,
    MESSAGE_COLUMNS,
    NEXT_UPDATED_AT,
    PARENT_ID,
    SUMMARY_COLUMNS,
    check_locked,
    time_as_json,
)
from mai_sessions.repository.daily_usage import count_messages
from mai_sessions.repository.message_json import Placement, message_json, message_rows
from mai_sessions.repository.plain_appends import append_plain_message, is_plain


class AppendReply(NamedTuple):
    """Messages that were appended: their ids and JSON, in the order in which they were given.

    `session` is the JSON of the session's summary, for a batch. `version` is the session's, or None when this is
    the first reply again. `is_new` tells that something was added, now or by the request before.
    """

    ids: list[UUID]
    messages: list[bytes]
    session: bytes | None
    version: UUID | None
    is_new: bool


# A key whose message is gone, or that is older than a day, is forgotten.
_USED_KEY: LiteralString = """
    SELECT k.fingerprint = %(fingerprint)s, k.reply
      FROM idempotency_keys AS k
      JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = k.id
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND k.created_at > now() - interval '1 day'"""
GET_KEY: LiteralString = f"/* append_messages */ {_USED_KEY}"

_UNKNOWN_MESSAGES: LiteralString = """
    SELECT r.id
      FROM unnest(%(needed_ids)s::uuid[]) AS r (id)
     WHERE NOT EXISTS (SELECT FROM messages AS o
                        WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.id = r.id)"""
_UNKNOWN_IMAGES: LiteralString = """
    SELECT r.sha256
      FROM unnest(%(needed_sha256s)s::text[]) AS r (sha256)
     WHERE NOT EXISTS (SELECT FROM attachments AS a WHERE a.user_id = %(user_id)s AND a.sha256 = r.sha256)"""
FIND_UNKNOWN: LiteralString = f"""
    SELECT /* append_messages */ ARRAY ({_UNKNOWN_MESSAGES}), ARRAY ({_UNKNOWN_IMAGES})"""

# Where a condition decides, a version that is new tells the statements after it that the condition held.
CLAIM_SESSION: LiteralString = f"""
    UPDATE /* append_messages */ sessions AS s
       SET version = %(version)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))
       AND NOT EXISTS ({_USED_KEY})
       AND NOT EXISTS ({_UNKNOWN_MESSAGES})
       AND NOT EXISTS ({_UNKNOWN_IMAGES})
       AND EXISTS (SELECT FROM unnest(%(message_ids)s::uuid[]) AS r (id)
                    WHERE NOT EXISTS (SELECT FROM messages AS o
                                       WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.id = r.id))"""

_GIVEN_MESSAGES: LiteralString = """
           SELECT g.place, g.id, g.role, g.content, g.token_count, g.model_id, g.agent_name, g.response_time_ms,
                  g.is_error, g.images, g.documents, g.parts, g.part_attachments, g.metadata, g.status, g.words, g.created_at
             FROM json_to_recordset(%(messages)s) AS g (
                  place int, id uuid, role text, content text, token_count int, model_id text, agent_name text,
                  response_time_ms float8, is_error boolean, images text[], documents text[], parts json,
                  part_attachments text[], metadata jsonb, status text, words tsvector, created_at timestamptz)"""
_MISSING_MESSAGES: LiteralString = f"""
           SELECT row_number() OVER (ORDER BY g.place)::int AS place, g.id, g.role, g.content, g.token_count, g.model_id,
                  g.agent_name, g.response_time_ms, g.is_error, g.images, g.documents, g.parts, g.part_attachments,
                  g.metadata, g.status, g.words, g.created_at
             FROM ({_GIVEN_MESSAGES}) AS g
            WHERE NOT EXISTS (SELECT FROM messages AS o
                               WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.id = g.id)"""


# Only the row of the session is locked: the messages are not rows of a table yet. The first one follows the head,
# each other one the message before it.
def _insert_messages(new: LiteralString) -> LiteralString:
    return f"""
    INSERT /* append_messages */ INTO messages AS m (
           user_id, session_id, id, seq, parent_seq, role, content, token_count, model_id, agent_name,
           response_time_ms, is_error, images, documents, parts, part_attachments, metadata, status, words, created_at)
    SELECT s.user_id, s.id, n.id, s.last_seq + n.place,
           CASE WHEN n.place = 1 AND s.is_branched AND s.head_seq IS DISTINCT FROM s.newest_seq THEN coalesce(s.head_seq, 0) END,
           n.role, n.content, n.token_count, n.model_id, n.agent_name, n.response_time_ms, n.is_error, n.images,
           n.documents, n.parts, n.part_attachments, n.metadata, n.status, n.words, coalesce(n.created_at, {NEXT_UPDATED_AT})
      FROM sessions AS s
     CROSS JOIN ({new}) AS n
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(claimed)s::uuid IS NULL OR s.version = %(claimed)s)
       FOR UPDATE OF s
    RETURNING m.id, m.seq, m.created_at"""


INSERT_MESSAGES: LiteralString = _insert_messages(_GIVEN_MESSAGES)
INSERT_MISSING_MESSAGES: LiteralString = _insert_messages(_MISSING_MESSAGES)

# A parent that is the message before it anyway needs no mention, so that nothing is branched by it.
SET_PARENTS: LiteralString = """
    UPDATE /* append_messages */ messages AS m
       SET parent_seq = nullif(coalesce(p.seq, 0), coalesce((
           SELECT o.seq
             FROM messages AS o
            WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.seq < m.seq
            ORDER BY o.seq DESC
            LIMIT 1), 0))
      FROM sessions AS s
     CROSS JOIN unnest(%(child_ids)s::uuid[], %(parent_ids)s::uuid[]) AS c (id, parent_id)
      LEFT JOIN messages AS p ON p.user_id = %(user_id)s AND p.session_id = %(session_id)s AND p.id = c.parent_id
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = c.id AND m.seq > s.last_seq
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s"""

_NEW_MESSAGES: LiteralString = """
           SELECT 1 AS sign, s.user_id, m.session_id, m.id, m.seq, m.parent_seq, m.role, m.content, m.token_count,
                  m.model_id, m.agent_name, m.response_time_ms, m.is_error, m.images, m.part_attachments, m.created_at
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq > s.last_seq
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
STORE_ATTACHMENTS: LiteralString = store_attachments(_NEW_MESSAGES)
REFER_TO_ATTACHMENTS: LiteralString = refer_to_attachments(_NEW_MESSAGES)
COUNT_MESSAGES: LiteralString = count_messages(_NEW_MESSAGES)

# Returned is the id of the first one's parent: the head as it was.
MOVE_SESSION: LiteralString = f"""
    UPDATE /* append_messages */ sessions AS s
       SET message_count        = s.message_count + added.messages,
           last_seq             = added.last_seq,
           newest_seq           = added.last_seq,
           last_message_preview = added.preview,
           updated_at           = GREATEST(nullif(s.updated_at, GREATEST(s.updated_at, now() + interval '1 minute')),
                                           added.created_at),
           version              = %(version)s,
           is_branched          = s.is_branched OR added.is_branched,
           head_seq             = added.last_seq,
           head_id              = added.last_id
      FROM (SELECT count(*)::int AS messages, max(m.seq) AS last_seq, max(m.created_at) AS created_at,
                   bool_or(m.parent_seq IS NOT NULL) AS is_branched,
                   (array_agg(m.id ORDER BY m.seq DESC))[1] AS last_id,
                   (array_agg(left(m.content, 100) ORDER BY m.seq DESC))[1] AS preview
              FROM ({_NEW_MESSAGES}) AS m
            HAVING count(*) > 0) AS added
     CROSS JOIN (SELECT {HEAD_ID} AS id
                   FROM sessions AS s
                  WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s) AS head
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
    RETURNING head.id"""

MOVE_HEAD: LiteralString = """
    UPDATE /* move_head */ sessions AS s
       SET head_seq             = m.seq,
           head_id              = m.id,
           is_branched          = s.is_branched OR m.seq <> s.newest_seq,
           last_message_preview = left(m.content, 100)
      FROM messages AS m
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
       AND m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(head_id)s"""

# What the body of a retry does not tell of the first reply.
FORGET_KEY: LiteralString = f"""
    DELETE /* append_messages */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND NOT EXISTS ({_USED_KEY})"""
KEEP_KEY: LiteralString = f"""
    INSERT /* append_messages */ INTO idempotency_keys AS k (user_id, path, key, fingerprint, id, created_at, reply)
    SELECT s.user_id, %(path)s, %(key)s, %(fingerprint)s, (array_agg(m.id ORDER BY m.place))[1], now(),
           json_build_object(
               'messages', json_agg(json_build_array(m.id, m.seq, m.created_at, m.parent_id) ORDER BY m.place),
               'session', CASE WHEN %(is_batch)s THEN (SELECT row_to_json(r) FROM (SELECT {SUMMARY_COLUMNS}) AS r) END)
      FROM sessions AS s
     CROSS JOIN LATERAL (
           SELECT m.id, m.seq, m.created_at, {PARENT_ID} AS parent_id,
                  array_position(%(message_ids)s::uuid[], m.id) AS place
             FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = ANY (%(message_ids)s::uuid[])) AS m
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
     GROUP BY s.user_id, s.id
        ON CONFLICT (user_id, path, key) DO NOTHING"""

READ_MESSAGES: LiteralString = f"""
    SELECT /* append_messages */ m.id, (SELECT row_to_json(r) FROM (SELECT {MESSAGE_COLUMNS}) AS r)
      FROM messages AS m
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = ANY (%(message_ids)s::uuid[])"""
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
    head_id: UUID | None = None,
    is_batch: bool = False,
    key: IdempotencyKey | None = None,
    if_match: Sequence[UUID] | None = None,
) -> AppendReply:
    """Add messages, the first one after the session's head and each other one after the one before it, unless they
    name their parents. The last one becomes the head, or `head_id` does.

    A message whose id the session has already is left as it stands; with all of them nothing is written, whatever
    `if_match` and the key say. A key that was used gives the first reply again. Raises NotFound, Stale unless the
    session's version is one of `if_match`, and Invalid for a key that was used with another body, and for a parent,
    a head or an image that is not there.
    """
    if not (is_batch or key or if_match is not None) and is_plain(messages[0]):
        plain = append_plain_message(conn, user_id, session_id, messages[0])
        if plain is not None:
            message_id, version, body = plain
            return AppendReply([message_id], [body], None, version, is_new=True)
    ids = [message.id or new_id() for message in messages]
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "if_match": if_match,
        "head_id": head_id,
        "is_batch": is_batch,
        "message_ids": ids,
        "messages": Json(message_rows(user_id, session_id, messages, ids)),
        **_references(messages, ids, head_id, is_batch),
        **(key or NO_KEY)._asdict(),
    }
    params["version"] = params["claimed"] = new_id()
    has_own_ids = any(message.id for message in messages)
    parents = bool(params["child_ids"])
    links = any(params["named_sha256s"])
    needs = bool(params["needed_ids"] or params["needed_sha256s"])
    reads = is_batch or has_own_ids or parents or links
    is_conditional = key is not None or if_match is not None or has_own_ids or needs
    if not is_conditional:
        params["claimed"] = None
    insert = INSERT_MISSING_MESSAGES if has_own_ids else INSERT_MESSAGES
    statements: list[LiteralString] = [
        *([LOCK_SESSION] if is_conditional or links else []),
        *([LOCK_ATTACHMENTS] if links else []),
        *([CLAIM_SESSION] if is_conditional else []),
        insert,
        *([SET_PARENTS] if parents else []),
        *([DROP_UNKNOWN_LINKS, STORE_ATTACHMENTS, REFER_TO_ATTACHMENTS] if links else []),
        COUNT_MESSAGES,
        MOVE_SESSION,
        *([MOVE_HEAD] if head_id else []),
        *([FORGET_KEY, KEEP_KEY, GET_KEY] if key else []),
        *([READ_MESSAGES] if reads else []),
        *([READ_SUMMARY] if is_batch else []),
        *([FIND_UNKNOWN] if needs else []),
    ]
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    if rows[insert] and not reads:
        [[message_id, seq, created_at]], [[parent_id]] = rows[insert], rows[MOVE_SESSION]
        placement = Placement(message_id, seq, time_as_json(created_at), parent_id)
        body = message_json(session_id, messages[0], placement)
        return AppendReply(ids, [body], None, params["version"], is_new=True)
    stored: dict[UUID, bytes] = dict(rows.get(READ_MESSAGES, ()))
    if rows[insert] or (has_own_ids and len(stored) == len(ids)):
        session = rows[READ_SUMMARY][0][1] if is_batch else None
        version = params["version"] if rows[insert] else rows[LOCK_SESSION][0][0]
        return AppendReply(ids, [stored[each] for each in ids], session, version, is_new=bool(rows[insert]))
    if not rows.get(LOCK_SESSION):
        raise NotFound("Session not found")
    for same_body, reply in rows.get(GET_KEY, ()):
        check_same_body(same_body)
        return _replay(session_id, messages, reply)
    check_locked(rows[LOCK_SESSION], if_match)
    raise _unknown(messages, is_batch, head_id, *rows[FIND_UNKNOWN][0])


def _references(
    messages: Sequence[NewMessage], ids: Sequence[UUID], head_id: UUID | None, is_batch: bool
) -> dict[str, list[Any]]:
    """The parameters for what messages refer to: their parents, images and files. Raises Invalid for a parent that
    comes after its child.
    """
    children = [
        (id, message.parent_id)
        for id, message in zip(ids, messages, strict=True)
        if message.parent_id is not UNSET
    ]
    needed = {parent_id for _, parent_id in children if parent_id is not None} | (
        {head_id} if head_id else set()
    )
    later = [message.parent_id for place, message in enumerate(messages) if message.parent_id in ids[place:]]
    if later:
        raise _unknown(messages, is_batch, None, later, [])
    uploaded = {attachment.sha256 for message in messages for attachment in message.attachments}
    images = {sha256 for message in messages for sha256 in message.images}
    links = {sha256 for message in messages for sha256 in message.part_attachments}
    return {
        "child_ids": [id for id, _ in children],
        "parent_ids": [parent_id for _, parent_id in children],
        "needed_ids": list(needed - set(ids)),
        "needed_sha256s": list(images - uploaded),
        **attachment_params(
            (attachment for message in messages for attachment in message.attachments), images | links
        ),
    }


def _replay(session_id: UUID, messages: Sequence[NewMessage], reply: bytes) -> AppendReply:
    """The first reply again, from the body of the retry and what was kept of the reply."""
    kept = orjson.loads(reply)
    bodies = [
        message_json(session_id, message, Placement(*fields))
        for message, fields in zip(messages, kept["messages"], strict=True)
    ]
    session = None if kept["session"] is None else orjson.dumps(kept["session"])
    return AppendReply([UUID(fields[0]) for fields in kept["messages"]], bodies, session, None, is_new=True)


def _unknown(
    messages: Sequence[NewMessage],
    is_batch: bool,
    head_id: UUID | None,
    unknown_ids: Sequence[object],
    unknown_images: Sequence[str],
) -> Invalid:
    """The error that names each parent, head and image that is not there."""
    errors: list[dict[str, object]] = []

    def add(loc: Sequence[str | int], msg: str) -> None:
        errors.append({"loc": ["body", *loc], "msg": msg, "type": "unknown"})

    for index, message in enumerate(messages):
        place: list[str | int] = ["messages", index] if is_batch else []
        if message.parent_id in unknown_ids:
            add([*place, "parent_id"], "No message of this session.")
        for number, sha256 in enumerate(message.images):
            if sha256 in unknown_images:
                add([*place, "images", number], "No attachment of yours.")
    if head_id in unknown_ids:
        add(["session", "head_id"], "No message of this session.")
    return Invalid(" ".join(f"{error['loc']}: {error['msg']}" for error in errors), errors)
