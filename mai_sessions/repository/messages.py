"""The statements on messages.

Each write moves its session's counters in the same statement, and takes the lock of the session's row before
any message's, so that writers queue there and do not deadlock."""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple
from uuid import UUID

from mai_sessions.content.attachments import Attachment
from mai_sessions.content.lexemes import message_vector
from mai_sessions.errors import Conflict, NotFound, Stale
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import made_at, new_id
from mai_sessions.postgres.connection import Connection, fetch_one
from mai_sessions.repository.analytics import COUNT_MESSAGE, RECOUNT_MESSAGE

MAX_SEQ = 2**31 - 1

MESSAGE_COLUMNS: LiteralString = """
m.id, m.session_id, m.seq, m.role, m.content, m.token_count, m.model_id, m.agent_name, m.response_time_ms, m.is_error,
CASE WHEN m.images = '{}' THEN '[]'::json
     ELSE (SELECT json_agg('/api/v1/attachments/' || i) FROM unnest(m.images) AS i) END AS images,
m.documents, m.created_at"""


class MessageReply(NamedTuple):
    """A message: its id, the version of its session unless this is the first reply again, and the JSON of the
    reply.
    """

    id: UUID
    version: UUID | None
    body: bytes


class MessagePage(NamedTuple):
    """A page of messages: the version of their session, JSON, the first and last `seq`, and whether there are
    messages around.
    """

    version: UUID
    body: bytes
    first_seq: int | None
    last_seq: int | None
    has_previous: bool
    has_next: bool


APPEND_MESSAGE: LiteralString = (
    """
    WITH /* append_message */ s AS (
        UPDATE sessions
           SET message_count        = message_count + 1,
               last_seq             = last_seq + 1,
               newest_seq           = last_seq + 1,
               last_message_preview = left(%(content)s, 100),
               updated_at           = GREATEST(updated_at, now()),
               version              = %(version)s
         WHERE user_id = %(user_id)s AND id = %(session_id)s
        RETURNING user_id, id, last_seq, updated_at),
    k AS (
        INSERT INTO idempotency_keys (user_id, path, key, fingerprint, id, seq, created_at)
        SELECT s.user_id, %(path)s, %(key)s, %(fingerprint)s, %(message_id)s, s.last_seq, s.updated_at
          FROM s
         WHERE %(key)s::text IS NOT NULL),
    a AS (
        INSERT INTO attachments (user_id, sha256, content_type, size, reference_count, content)
        SELECT s.user_id, i.sha256, i.content_type, octet_length(i.content), 1, i.content
          FROM s, unnest(%(sha256s)s::text[], %(content_types)s::text[], %(contents)b::bytea[])
               AS i (sha256, content_type, content)
            ON CONFLICT (user_id, sha256) DO UPDATE SET reference_count = attachments.reference_count + 1),
    m AS (
        INSERT INTO messages (user_id, session_id, id, seq, role, content, token_count, model_id, agent_name,
                              response_time_ms, is_error, images, documents, words, created_at)
        SELECT s.user_id, s.id, %(message_id)s, s.last_seq, %(role)s, %(content)s, %(token_count)s,
        %(model_id)s,
               %(agent_name)s, %(response_time_ms)s::float8, %(is_error)s, %(images)s::text[],
               %(documents)s::text[], %(words)s::tsvector, s.updated_at
          FROM s
        RETURNING user_id, id, session_id, seq, role, content, token_count, model_id, agent_name,
        response_time_ms, is_error,
                  images, documents, created_at),
    moved AS (
        SELECT 1 AS sign, user_id, session_id, seq, role, token_count, model_id, agent_name, response_time_ms,
        is_error,
               created_at
          FROM m),
    counted AS ("""
    + COUNT_MESSAGE
    + """)
    SELECT row_to_json(r) FROM (SELECT """
    + MESSAGE_COLUMNS
    + """ FROM m) AS r"""
)
REPLAY_MESSAGE: LiteralString = (
    """
    SELECT /* append_message, replayed */ k.fingerprint = %(fingerprint)s, k.id, (
        SELECT row_to_json(r) FROM (SELECT """
    + MESSAGE_COLUMNS
    + """
          FROM (SELECT k.id, %(session_id)s AS session_id, k.seq, %(role)s AS role, %(content)s AS content,
                       %(token_count)s AS token_count, %(model_id)s AS model_id, %(agent_name)s AS agent_name,
                       %(response_time_ms)s::float8 AS response_time_ms, %(is_error)s AS is_error,
                       %(images)s::text[] AS images, %(documents)s::text[] AS documents, k.created_at) AS m) AS r)
      FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s"""
)


def append_message(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    role: str,
    content: str,
    token_count: int,
    model_id: str | None = None,
    agent_name: str | None = None,
    response_time_ms: float | None = None,
    is_error: bool = False,
    images: Sequence[Attachment] = (),
    documents: Sequence[str] = (),
    key: IdempotencyKey | None = None,
) -> MessageReply:
    """Add a message at the end of a session, or answer as the first time when the key was used. Raises
    NotFound and Invalid.
    """
    message_id, version = new_id(), new_id()
    # In the order of their keys, so that two appends with the same images cannot deadlock.
    attachments = sorted({image.sha256: image for image in images}.values())
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "version": version,
        "role": role,
        "content": content,
        "token_count": token_count,
        "model_id": model_id,
        "agent_name": agent_name,
        "response_time_ms": response_time_ms,
        "is_error": is_error,
        "images": [image.sha256 for image in images],
        "documents": list(documents),
        "words": message_vector(user_id, session_id, made_at(message_id), content),
        "sha256s": [attachment.sha256 for attachment in attachments],
        "content_types": [attachment.content_type for attachment in attachments],
        "contents": [attachment.content for attachment in attachments],
        **(key or NO_KEY)._asdict(),
    }
    try:
        row = fetch_one(conn, APPEND_MESSAGE, params)
    except Conflict:
        replay = fetch_one(conn, REPLAY_MESSAGE, params)
        assert replay is not None
        same_body, message_id, body = replay
        check_same_body(same_body)
        return MessageReply(message_id, None, body)
    if row is None:
        raise NotFound("Session not found")
    return MessageReply(message_id, version, row[0])


GET_MESSAGE: LiteralString = (
    """
    SELECT /* message */ m.id, s.version, (SELECT row_to_json(r) FROM (SELECT """
    + MESSAGE_COLUMNS
    + """) AS r)
      FROM sessions AS s
      LEFT JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
)


def message(conn: Connection, user_id: str, session_id: UUID, message_id: UUID) -> MessageReply:
    """Read one message. Raises NotFound."""
    row = fetch_one(
        conn, GET_MESSAGE, {"user_id": user_id, "session_id": session_id, "message_id": message_id}
    )
    if row is None:
        raise NotFound("Session not found")
    if row[0] is None:
        raise NotFound("Message not found")
    return MessageReply(*row)


# For a caller who knows the version already, the messages stay unread.
_PAGE_OF_MESSAGES: LiteralString = (
    """
            SELECT """
    + MESSAGE_COLUMNS
    + """
              FROM messages AS m
             WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
               AND m.seq > %(after_seq)s AND m.seq < %(before_seq)s
               AND s.version <> ALL (%(known_versions)s::uuid[])
"""
)
# Whether there are messages before the page is asked of the first one: in this form the primary key gives it,
# whatever the planner knows of sessions.
_PAGE_IN_SESSION: LiteralString = """
               s.version, coalesce(p.body, '[]'), p.first_seq, p.last_seq,
               coalesce(p.first_seq > (SELECT o.seq FROM messages AS o
                                        WHERE o.user_id = %(user_id)s AND o.session_id = %(session_id)s
                                        ORDER BY o.seq LIMIT 1), false),
               coalesce(s.newest_seq > p.last_seq, false)
          FROM sessions AS s
         CROSS JOIN LATERAL (
            SELECT json_agg(r) AS body, min(r.seq) AS first_seq, max(r.seq) AS last_seq FROM ("""

LIST_MESSAGES: LiteralString = (
    "SELECT /* messages */"
    + _PAGE_IN_SESSION
    + _PAGE_OF_MESSAGES
    + """
             ORDER BY m.seq
             LIMIT %(limit)s OFFSET %(offset)s) AS r) AS p
         WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
)
LIST_LAST_MESSAGES: LiteralString = (
    "SELECT /* messages, the last ones */"
    + _PAGE_IN_SESSION
    + "SELECT * FROM ("
    + _PAGE_OF_MESSAGES
    + """
             ORDER BY m.seq DESC
             LIMIT %(limit)s OFFSET %(offset)s) AS m ORDER BY m.seq) AS r) AS p
         WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s"""
)


def messages(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    *,
    limit: int,
    offset: int = 0,
    after_seq: int | None = None,
    before_seq: int | None = None,
    known_versions: Sequence[UUID] = (),
) -> MessagePage:
    """Read a page of messages, oldest first: the first ones after `after_seq`, or the last ones before
    `before_seq`.

    Raises NotFound.
    """
    statement = LIST_MESSAGES if before_seq is None else LIST_LAST_MESSAGES
    row = fetch_one(
        conn,
        statement,
        {
            "user_id": user_id,
            "session_id": session_id,
            "limit": limit,
            "offset": offset,
            "after_seq": after_seq or 0,
            "before_seq": MAX_SEQ if before_seq is None else before_seq,
            "known_versions": list(known_versions),
        },
    )
    if row is None:
        raise NotFound("Session not found")
    return MessagePage(*row)


# FOR UPDATE, for what is counted out must be what the last writer left, which the snapshot may not show.
PATCH_MESSAGE: LiteralString = (
    """
    WITH /* patch_message */ s AS (
        UPDATE sessions
           SET updated_at           = GREATEST(updated_at, now()),
               version              = %(version)s,
               last_message_preview = CASE WHEN newest_seq = target.seq AND %(content)s::text IS NOT NULL
                                           THEN left(%(content)s::text, 100) ELSE last_message_preview END
          FROM (SELECT seq FROM messages
                 WHERE user_id = %(user_id)s AND session_id = %(session_id)s AND id = %(message_id)s) AS
                 target
         WHERE user_id = %(user_id)s AND id = %(session_id)s
           AND (%(if_match)s::uuid[] IS NULL OR version = ANY (%(if_match)s::uuid[]))
        RETURNING target.seq),
    old AS (
        SELECT messages.user_id, session_id, messages.seq, role, token_count, model_id, agent_name,
        response_time_ms, is_error,
               created_at
          FROM s
          JOIN messages ON user_id = %(user_id)s AND session_id = %(session_id)s AND messages.seq = s.seq
           FOR UPDATE OF messages),
    m AS (
        UPDATE messages
           SET content          = coalesce(%(content)s::text, content),
               words            = coalesce(%(words)s::tsvector, words),
               token_count      = coalesce(%(token_count)s::int, messages.token_count),
               model_id         = coalesce(%(model_id)s::text, messages.model_id),
               agent_name       = coalesce(%(agent_name)s::text, messages.agent_name),
               response_time_ms = coalesce(%(response_time_ms)s::float8, messages.response_time_ms),
               is_error         = coalesce(%(is_error)s::boolean, messages.is_error)
          FROM old
         WHERE messages.user_id = %(user_id)s AND messages.session_id = %(session_id)s AND messages.seq =
         old.seq
        RETURNING messages.user_id, id, messages.session_id, messages.seq, messages.role, content,
        messages.token_count,
                  messages.model_id, messages.agent_name, messages.response_time_ms, messages.is_error,
                  images, documents, messages.created_at),
    moved AS (
        SELECT -1 AS sign, user_id, session_id, seq, role, token_count, model_id, agent_name,
        response_time_ms, is_error,
               created_at
          FROM old
         UNION ALL
        SELECT 1, user_id, session_id, seq, role, token_count, model_id, agent_name, response_time_ms,
        is_error, created_at
          FROM m),
    counted AS ("""
    + RECOUNT_MESSAGE
    + """)
    SELECT row_to_json(r) FROM (SELECT """
    + MESSAGE_COLUMNS
    + """ FROM m) AS r"""
)


def patch_message(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    *,
    content: str | None = None,
    token_count: int | None = None,
    model_id: str | None = None,
    agent_name: str | None = None,
    response_time_ms: float | None = None,
    is_error: bool | None = None,
    if_match: Sequence[UUID] | None = None,
) -> MessageReply:
    """Change what is given of a message. Raises NotFound, and Stale unless the session's version is one of
    `if_match`.
    """
    version = new_id()
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "version": version,
        "content": content,
        "words": None
        if content is None
        else message_vector(user_id, session_id, made_at(message_id), content),
        "token_count": token_count,
        "model_id": model_id,
        "agent_name": agent_name,
        "response_time_ms": response_time_ms,
        "is_error": is_error,
        "if_match": if_match,
    }
    row = fetch_one(conn, PATCH_MESSAGE, params)
    if row is None:
        message(conn, user_id, session_id, message_id)
        raise Stale("The session has been changed since")
    return MessageReply(message_id, version, row[0])
