"""The statements that add messages to a new or existing session.

New messages are numbered from the session's `last_seq`, which is updated last. Until then, the messages above
it are the new ones. After a conditional claim the session has the version `claimed`; otherwise they add
nothing.
"""

from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, LiteralString
from uuid import UUID

from mai_sessions.content.message import UNSET, NewMessage
from mai_sessions.errors import BrokenRule, Invalid, broken_rule
from mai_sessions.postgres.adapters import JsonOf
from mai_sessions.repository.attachments import (
    DROP_UNKNOWN_LINKS,
    attachment_params,
    refer_to_attachments,
    store_attachments,
)
from mai_sessions.repository.branches import unknown_message
from mai_sessions.repository.columns import (
    HEAD_ID,
    NEXT_UPDATED_AT,
    PARENT_ID,
    SUMMARY_COLUMNS,
    preview_of,
)
from mai_sessions.repository.daily_usage import count_messages
from mai_sessions.repository.message_json import Placement, message_json, message_rows

_GIVEN_MESSAGES: LiteralString = """
           SELECT g.place, g.id, g.role, g.content, g.token_count, g.model_id, g.agent_name,
                  g.response_time_ms, g.is_error, g.images, g.documents, g.parts, g.part_attachments,
                  g.metadata, g.status, g.words, g.created_at
             FROM json_to_recordset(%(messages)s) AS g (
                  place int, id uuid, role text, content text, token_count int, model_id text,
                  agent_name text, response_time_ms float8, is_error boolean, images text[], documents text[],
                  parts json, part_attachments text[], metadata jsonb, status text, words tsvector,
                  created_at timestamptz)"""
_MISSING_MESSAGES: LiteralString = f"""
           SELECT row_number() OVER (ORDER BY g.place)::int AS place, g.id, g.role, g.content, g.token_count,
                  g.model_id, g.agent_name, g.response_time_ms, g.is_error, g.images, g.documents, g.parts,
                  g.part_attachments, g.metadata, g.status, g.words, g.created_at
             FROM ({_GIVEN_MESSAGES}) AS g
            WHERE NOT EXISTS (SELECT FROM messages AS o
                               WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s
                                 AND o.id = g.id)"""


# FOR UPDATE locks only the session: the messages are not yet rows. The first message follows the head, each
# other one the message before it.
def _insert_messages(new: LiteralString) -> LiteralString:
    return f"""
    INSERT /* add_messages */ INTO messages AS m (
           user_id, session_id, id, seq, parent_seq, role, content, token_count, model_id, agent_name,
           response_time_ms, is_error, images, documents, parts, part_attachments, metadata, status, words,
           created_at)
    SELECT s.user_id, s.id, n.id, s.last_seq + n.place,
           CASE WHEN n.place = 1 AND s.is_branched
            AND s.head_seq IS DISTINCT FROM s.newest_seq THEN coalesce(s.head_seq, 0) END,
           n.role, n.content, n.token_count, n.model_id, n.agent_name, n.response_time_ms, n.is_error,
           n.images, n.documents, n.parts, n.part_attachments, n.metadata, n.status, n.words,
           coalesce(n.created_at, {NEXT_UPDATED_AT})
      FROM sessions AS s
     CROSS JOIN ({new}) AS n
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND (%(claimed)s::uuid IS NULL OR s.version = %(claimed)s)
       FOR UPDATE OF s
    RETURNING m.id, m.seq, m.created_at"""


INSERT_MESSAGES: LiteralString = _insert_messages(_GIVEN_MESSAGES)
INSERT_MISSING_MESSAGES: LiteralString = _insert_messages(_MISSING_MESSAGES)

# parent_seq remains null if the parent is the previous message: such a parent makes no branch. A row whose
# parent is right already is not written again.
SET_PARENTS: LiteralString = """
    UPDATE /* add_messages */ messages AS m
       SET parent_seq = child.parent_seq
      FROM (SELECT n.seq, nullif(coalesce(p.seq, 0), coalesce((
                   SELECT o.seq
                     FROM messages AS o
                    WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.seq < n.seq
                    ORDER BY o.seq DESC
                    LIMIT 1), 0)) AS parent_seq
              FROM sessions AS s
             CROSS JOIN unnest(%(child_ids)s::uuid[], %(parent_ids)s::uuid[]) AS c (id, parent_id)
              JOIN messages AS n ON n.user_id = %(user_id)s AND n.session_id = %(session_id)s
               AND n.id = c.id AND n.seq > s.last_seq
              LEFT JOIN messages AS p ON p.user_id = %(user_id)s AND p.session_id = %(session_id)s
                    AND p.id = c.parent_id
             WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s) AS child
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.seq = child.seq
       AND m.parent_seq IS DISTINCT FROM child.parent_seq"""

_NEW_MESSAGES: LiteralString = """
           SELECT 1 AS sign, s.user_id, m.session_id, m.id, m.seq, m.parent_seq, m.role, m.content,
                  m.token_count, m.model_id, m.agent_name, m.response_time_ms, m.is_error, m.images,
                  m.part_attachments, m.created_at
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s
              AND m.seq > s.last_seq
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
STORE_ATTACHMENTS: LiteralString = store_attachments(_NEW_MESSAGES)
REFER_TO_ATTACHMENTS: LiteralString = refer_to_attachments(_NEW_MESSAGES)
COUNT_MESSAGES: LiteralString = count_messages(_NEW_MESSAGES)

# Returns the previous head, the parent of the first message.
MOVE_SESSION: LiteralString = f"""
    UPDATE /* add_messages */ sessions AS s
       SET message_count        = s.message_count + added.messages,
           last_seq             = added.last_seq,
           newest_seq           = added.last_seq,
           last_message_preview = added.preview,
           updated_at           = GREATEST(nullif(s.updated_at,
                                                  GREATEST(s.updated_at, now() + interval '1 minute')),
                                           added.created_at),
           version              = %(version)s,
           is_branched          = s.is_branched OR added.is_branched,
           head_seq             = added.last_seq,
           head_id              = added.last_id
      FROM (SELECT count(*)::int AS messages, max(m.seq) AS last_seq, max(m.created_at) AS created_at,
                   bool_or(m.parent_seq IS NOT NULL) AS is_branched,
                   (array_agg(m.id ORDER BY m.seq DESC))[1] AS last_id,
                   (array_agg({preview_of("m.content")} ORDER BY m.seq DESC))[1] AS preview
              FROM ({_NEW_MESSAGES}) AS m
            HAVING count(*) > 0) AS added
     CROSS JOIN (SELECT {HEAD_ID} AS id
                   FROM sessions AS s
                  WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s) AS head
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
    RETURNING head.id"""

# The parts of the first reply that the body of a retry does not contain.
KEPT_REPLY: LiteralString = f"""
           SELECT s.user_id, (array_agg(m.id ORDER BY m.place))[1] AS first_id,
                  (array_agg(m.seq ORDER BY m.place))[1] AS first_seq,
                  json_build_object(
                      'version', s.version,
                      'messages', json_agg(json_build_array(m.id, m.seq, m.created_at, m.parent_id)
                                           ORDER BY m.place),
                      'session', CASE WHEN %(is_batch)s
                      THEN (SELECT row_to_json(r) FROM (SELECT {SUMMARY_COLUMNS}) AS r) END)
                      AS reply
             FROM sessions AS s
            CROSS JOIN LATERAL (
                  SELECT m.id, m.seq, m.created_at, {PARENT_ID} AS parent_id,
                         array_position(%(message_ids)s::uuid[], m.id) AS place
                    FROM messages AS m
                   WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                     AND m.id = ANY (%(message_ids)s::uuid[])) AS m
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s
            GROUP BY s.user_id, s.id"""

# Long messages are not read back: the reply is made from the body, too.
READ_REPLY: LiteralString = f"""
    SELECT /* read_reply */ kept.reply
      FROM ({KEPT_REPLY}) AS kept"""

UNKNOWN_MESSAGES: LiteralString = """
    SELECT r.id
      FROM unnest(%(needed_ids)s::uuid[]) AS r (id)
     WHERE NOT EXISTS (SELECT FROM messages AS o
                        WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s AND o.id = r.id)"""
UNKNOWN_IMAGES: LiteralString = """
    SELECT r.sha256
      FROM unnest(%(needed_sha256s)s::text[]) AS r (sha256)
     WHERE NOT EXISTS (SELECT FROM attachments AS a WHERE a.user_id = %(user_id)s AND a.sha256 = r.sha256)"""
FIND_UNKNOWN: LiteralString = f"""
    SELECT /* find_unknown */ ARRAY ({UNKNOWN_MESSAGES}), ARRAY ({UNKNOWN_IMAGES})"""


def insert_statement(messages: Sequence[NewMessage]) -> LiteralString:
    """Return the statement that inserts messages. If they have ids, it skips those that the session has."""
    return INSERT_MISSING_MESSAGES if any(message.id for message in messages) else INSERT_MESSAGES


def statements_after_insert(params: dict[str, Any]) -> list[LiteralString]:
    """Return the statements that follow the insertion, those that the messages need."""
    return [
        *([SET_PARENTS] if params["child_ids"] else []),
        *([DROP_UNKNOWN_LINKS, STORE_ATTACHMENTS] if params["named_sha256s"] else []),
        *([REFER_TO_ATTACHMENTS] if params["named_sha256s"] != params["sha256s"] else []),
        COUNT_MESSAGES,
        MOVE_SESSION,
    ]


def message_params(
    user_id: str,
    session_id: UUID,
    messages: Sequence[NewMessage],
    ids: Sequence[UUID],
    head_id: UUID | None,
    *,
    is_batch: bool,
) -> dict[str, Any]:
    """Return the parameters of these statements, except the versions. `is_batch`: the body has `messages`.

    Raises Invalid for a parent that comes after its child.
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
        raise unknown_references(messages, None, later, [], is_batch=is_batch)
    uploaded = {attachment.sha256 for message in messages for attachment in message.attachments}
    images = {sha256 for message in messages for sha256 in message.images}
    links = {sha256 for message in messages for sha256 in message.part_attachments}
    return {
        "user_id": user_id,
        "session_id": session_id,
        "is_batch": is_batch,
        "message_ids": ids,
        "messages": JsonOf(partial(message_rows, user_id, session_id, messages, ids)),
        "child_ids": [id for id, _ in children],
        "parent_ids": [parent_id for _, parent_id in children],
        "needed_ids": list(needed - set(ids)),
        "needed_sha256s": list(images - uploaded),
        **attachment_params(
            (attachment for message in messages for attachment in message.attachments), images | links
        ),
    }


def replayed_messages(
    session_id: UUID, messages: Sequence[NewMessage], kept: dict[str, Any]
) -> dict[UUID, bytes]:
    """Return the messages of the first reply, from the body of a retry and the stored parts of the reply."""
    return {
        UUID(fields[0]): message_json(session_id, message, Placement(*fields))
        for message, fields in zip(messages, kept["messages"], strict=True)
    }


def unknown_references(
    messages: Sequence[NewMessage],
    head_id: UUID | None,
    unknown_ids: Sequence[object],
    unknown_sha256s: Collection[str],
    *,
    is_batch: bool,
    head_loc: Sequence[str] = ("session", "head_id"),
) -> Invalid:
    """Return the error that names each unknown parent, head and image. `head_loc` leads to the head."""
    errors: list[BrokenRule] = []
    for index, message in enumerate(messages):
        place: list[str | int] = ["body", "messages", index] if is_batch else ["body"]
        if message.parent_id in unknown_ids:
            errors.append(unknown_message(*place, "parent_id"))
        errors += unknown_images(message.images, unknown_sha256s, place)
    if head_id in unknown_ids:
        errors.append(unknown_message("body", *head_loc))
    return Invalid(*errors)


def unknown_images(
    images: Sequence[str], unknown_sha256s: Collection[str], place: Sequence[str | int]
) -> list[BrokenRule]:
    """Return an error for each unknown image of the message at this place."""
    return [
        broken_rule([*place, "images", number], "Not one of your attachments.", "unknown")
        for number, sha256 in enumerate(images)
        if sha256 in unknown_sha256s
    ]
