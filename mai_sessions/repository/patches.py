"""The statements that change a message.

While a message is `streaming`, a change writes only its content and the session's version, and no index. The
change that ends the streaming adds the words, tokens and sums.
"""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, LiteralString, NamedTuple, Unpack
from uuid import UUID

from mai_sessions.content.lexemes import WEEK_SECONDS, message_vector, user_prefix
from mai_sessions.content.long_text import Content, LongText, dump_text, head, read_json
from mai_sessions.content.message import MessageChanges
from mai_sessions.content.metadata import MAX_METADATA
from mai_sessions.errors import Invalid, NotFound
from mai_sessions.ids import new_id
from mai_sessions.postgres.adapters import Json
from mai_sessions.postgres.connection import Connection, fetch_all, run_transaction
from mai_sessions.repository.attachments import (
    DROP_UNKNOWN_LINKS,
    LOCK_UPLOADS,
    SWEEP_ATTACHMENTS,
    attachment_params,
    lock_attachments,
    refer_to_attachments,
    release_attachments,
    store_attachments,
)
from mai_sessions.repository.columns import (
    HEAD_SEQ,
    LOCK_SESSION,
    MESSAGE_COLUMNS,
    NEXT_UPDATED_AT,
    PARENT_ID,
    PREVIEW_CHARACTERS,
    check_locked,
    compact_json,
    message_columns,
)
from mai_sessions.repository.daily_usage import count_messages
from mai_sessions.repository.message_json import content_param
from mai_sessions.repository.messages import MessageReply, read_message
from mai_sessions.repository.new_messages import FIND_UNKNOWN, UNKNOWN_IMAGES, unknown_images
from mai_sessions.repository.session_changes import refuse_metadata

_NEXT_METADATA: LiteralString = """
CASE WHEN %(metadata)s::jsonb IS NULL THEN m.metadata
     ELSE (m.metadata || %(metadata)s::jsonb) - %(removed_keys)s::text[] END"""
_METADATA_FIT: LiteralString = f"""
(%(metadata)s::jsonb IS NULL OR octet_length({compact_json(f"({_NEXT_METADATA})")}) <= %(max_metadata)s)"""


# The new version tells the later statements that the conditions held.
def _touch_session(
    operation: LiteralString, updated_at: LiteralString, condition: LiteralString
) -> LiteralString:
    return f"""
    UPDATE /* {operation} */ sessions AS s
       SET version              = %(version)s,
           last_message_preview = CASE WHEN m.seq = {HEAD_SEQ} AND %(preview)s::text IS NOT NULL
                                       THEN %(preview)s::text ELSE s.last_message_preview END,
           updated_at           = {updated_at}
      FROM messages AS m
     WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s
       AND m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
       AND (%(if_match)s::uuid[] IS NULL OR s.version = ANY (%(if_match)s::uuid[]))
       AND {_METADATA_FIT} AND {condition}"""


# Neither a piece of a stream nor its end, if it was abandoned, moves the session in the list. A statement
# that waits for another writer sees the message as it was before, so it also requires the version from then.
TOUCH_STREAMING: LiteralString = _touch_session(
    "patch_message",
    "s.updated_at",
    """(m.status = 'streaming' OR %(status)s::text = 'streaming')
       AND (%(parts)s::json IS NULL OR m.part_attachments = '{}')
       AND s.version = (SELECT o.version
                          FROM sessions AS o
                         WHERE o.user_id = %(user_id)s AND o.id = %(session_id)s)""",
)
TOUCH_ABANDONED: LiteralString = _touch_session("interrupt_stream", "s.updated_at", "m.status = 'streaming'")
TOUCH_SESSION: LiteralString = _touch_session(
    "patch_message", NEXT_UPDATED_AT, f"NOT EXISTS ({UNKNOWN_IMAGES})"
)

# As in message_vector: the days since 1970, divided by eight.
_WEEK_KEY: LiteralString = """
array_to_tsvector(ARRAY[%(user_prefix)s || '_w' || to_hex(
                        ((m.created_at AT TIME ZONE 'UTC')::date - %(epoch)s) / %(week_days)s)])"""
STREAM_MESSAGE: LiteralString = f"""
    UPDATE /* patch_message */ messages AS m
       SET content    = coalesce(%(content)s::text, m.content),
           parts      = coalesce(%(parts)s::json, m.parts),
           metadata   = {_NEXT_METADATA},
           status     = 'streaming',
           updated_at = now()
      FROM sessions AS s
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""

# Subtract the message before the change, and add it after the change.
RECOUNT_MESSAGE: LiteralString = count_messages("""
           SELECT c.sign, s.user_id, m.session_id, m.seq, m.role, m.created_at,
                  coalesce(CASE c.sign WHEN 1 THEN %(token_count)s::int END, m.token_count) AS token_count,
                  coalesce(CASE c.sign WHEN 1 THEN %(model_id)s::text END, m.model_id) AS model_id,
                  coalesce(CASE c.sign WHEN 1 THEN %(agent_name)s::text END, m.agent_name) AS agent_name,
                  CASE c.sign WHEN 1 THEN coalesce(%(response_time_ms)s::float8, m.response_time_ms)
                       ELSE m.response_time_ms END AS response_time_ms,
                  coalesce(CASE c.sign WHEN 1 THEN %(is_error)s::boolean END, m.is_error) AS is_error
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id AND m.id = %(message_id)s
            CROSS JOIN (VALUES (-1), (1)) AS c (sign)
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s""")

PATCH_MESSAGE: LiteralString = f"""
    UPDATE /* patch_message */ messages AS m
       SET content          = coalesce(%(content)s::text, m.content),
           words            = coalesce(%(words)s::tsvector || {_WEEK_KEY}, m.words),
           token_count      = coalesce(%(token_count)s::int, m.token_count),
           model_id         = coalesce(%(model_id)s::text, m.model_id),
           agent_name       = coalesce(%(agent_name)s::text, m.agent_name),
           response_time_ms = coalesce(%(response_time_ms)s::float8, m.response_time_ms),
           is_error         = coalesce(%(is_error)s::boolean, m.is_error),
           images           = coalesce(%(images)s::text[], m.images),
           documents        = coalesce(%(documents)s::text[], m.documents),
           parts            = coalesce(%(parts)s::json, m.parts),
           part_attachments = coalesce(%(part_attachments)s::text[], m.part_attachments),
           metadata         = {_NEXT_METADATA},
           status           = coalesce(%(status)s::text, m.status),
           updated_at       = now()
      FROM sessions AS s
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""

_THE_MESSAGE: LiteralString = """
           SELECT m.images, m.part_attachments
             FROM sessions AS s
             JOIN messages AS m ON m.user_id = %(user_id)s AND m.session_id = s.id AND m.id = %(message_id)s
            WHERE s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
# The attachments that the message names before and after the change.
LOCK_ATTACHMENTS: LiteralString = lock_attachments("""ARRAY (
           SELECT unnest(m.images || m.part_attachments || %(named_sha256s)s::text[])
             FROM messages AS m
            WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s)""")
RELEASE_ATTACHMENTS: LiteralString = release_attachments(_THE_MESSAGE)
STORE_ATTACHMENTS: LiteralString = store_attachments(_THE_MESSAGE)
REFER_TO_ATTACHMENTS: LiteralString = refer_to_attachments(_THE_MESSAGE)

# The message as JSON if it was changed.
_IS_CHANGED: LiteralString = "s.version = %(version)s"
READ_CHANGED: LiteralString = read_message("patch_message", MESSAGE_COLUMNS, _IS_CHANGED)
READ_WITHOUT_CONTENT: LiteralString = read_message(
    "patch_message", message_columns(PARENT_ID, has_content=False), _IS_CHANGED
)
GET_CONTENT: LiteralString = """
    SELECT /* patch_message */ to_json(m.content)
      FROM messages AS m
     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s AND m.id = %(message_id)s"""

_EPOCH = date(1970, 1, 1)
# A change of only these fields may be a change of a streaming message.
_STREAMED = frozenset({"content", "parts", "part_attachments", "attachments", "metadata", "status"})


class ContentCounts(NamedTuple):
    """The lexemes of a content, as a tsvector, and its number of tokens."""

    words: str
    token_count: int


def count_content(
    user_id: str, session_id: UUID, changes: MessageChanges, count_tokens: Callable[[Content], int]
) -> ContentCounts | None:
    """Extract what is written beside a new content. None if there is none.

    A long text takes up to a fifth of a second, so it is called before a connection is checked out.
    """
    if "content" not in changes:
        return None
    return _count(user_id, session_id, changes["content"], changes.get("token_count"), count_tokens)


def _count(
    user_id: str,
    session_id: UUID,
    content: Content,
    token_count: int | None,
    count_tokens: Callable[[Content], int],
) -> ContentCounts:
    words = message_vector(user_id, session_id, None, content)
    return ContentCounts(words, count_tokens(content) if token_count is None else token_count)


def may_stream(changes: MessageChanges) -> bool:
    """Return whether this may be a change of a streaming message. Most clients send the status."""
    is_piece = "content" in changes or "parts" in changes or changes.get("status") == "streaming"
    return (
        is_piece
        and changes.keys() <= _STREAMED
        and changes.get("status") in (None, "streaming")
        and not changes.get("part_attachments")
    )


def patch_stream(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    *,
    if_match: Sequence[UUID] | None = None,
    **changes: Unpack[MessageChanges],
) -> MessageReply | None:
    """Change a message that streams, or begins to. None, and nothing is written, if it does not.

    Raises what `patch_message` raises.
    """
    params = _params(user_id, session_id, message_id, changes, if_match)
    statements: list[LiteralString] = [TOUCH_STREAMING, STREAM_MESSAGE, _read(changes)]
    # Another writer may come between: then the second run decides.
    locks: Sequence[Sequence[LiteralString]] = ((), (LOCK_SESSION,))
    for lock in locks:
        *_, found = run_transaction(conn, [*lock, *statements], params)
        if not found or found[0][1] is None or _is_settled(found[0][0], params):
            return _reply(found, params, changes)
        if found[0][1] != "streaming":
            break
    return None


def patch_message(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    *,
    count_tokens: Callable[[Content], int],
    counts: ContentCounts | None = None,
    if_match: Sequence[UUID] | None = None,
    **changes: Unpack[MessageChanges],
) -> MessageReply:
    """Change the given fields of a message that does not stream, or end the streaming.

    `count_tokens` counts the tokens of a content; `counts` are those of a new content, if `count_content` has
    extracted them.

    Raises NotFound, Stale unless the session's version is one of `if_match`, and Invalid for an unknown image
    and for metadata that become too large.
    """
    params = _params(user_id, session_id, message_id, changes, if_match)
    if counts := counts or count_content(user_id, session_id, changes, count_tokens):
        params |= counts._asdict()
    elif changes.get("status") in ("complete", "interrupted"):
        # The end of the streaming: make the lexemes from the stored content.
        with conn.transaction():
            _, stored = run_transaction(conn, [LOCK_SESSION, GET_CONTENT], params)
            if stored:
                content, token_count = read_json(stored[0][0]), params["token_count"]
                counts = _count(user_id, session_id, content, token_count, count_tokens)
                params |= counts._asdict()
            return _patch(conn, params, changes)
    return _patch(conn, params, changes)


def interrupt_stream(
    conn: Connection,
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    *,
    count_tokens: Callable[[Content], int],
    version: UUID,
) -> None:
    """End an abandoned stream: the message becomes `interrupted`, and is found and counted.

    Nothing is written unless the message still streams, and its session has this `version`.
    """
    params = _params(user_id, session_id, message_id, {"status": "interrupted"}, [version])
    for (content,) in fetch_all(conn, GET_CONTENT, params):
        params |= _count(user_id, session_id, read_json(content), None, count_tokens)._asdict()
    # The content is stored already.
    run_transaction(conn, [TOUCH_ABANDONED, RECOUNT_MESSAGE, PATCH_MESSAGE], params)


def _is_settled(version: UUID, params: dict[str, Any]) -> bool:
    """Return whether the message was changed, or must not be because the session has another version."""
    return version == params["version"] or (
        params["if_match"] is not None and version not in params["if_match"]
    )


def _patch(conn: Connection, params: dict[str, Any], changes: MessageChanges) -> MessageReply:
    has_attachments = "images" in changes or "part_attachments" in changes
    counted = ("token_count", "model_id", "agent_name", "response_time_ms", "is_error")
    recounts = any(params[name] is not None for name in counted)
    statements: list[LiteralString] = [
        *([LOCK_SESSION] if has_attachments or "metadata" in changes else []),
        *([LOCK_UPLOADS, LOCK_ATTACHMENTS] if has_attachments else []),
        TOUCH_SESSION,
        *([RECOUNT_MESSAGE] if recounts else []),
        *([RELEASE_ATTACHMENTS] if has_attachments else []),
        PATCH_MESSAGE,
        *(
            [DROP_UNKNOWN_LINKS, STORE_ATTACHMENTS, REFER_TO_ATTACHMENTS, SWEEP_ATTACHMENTS]
            if has_attachments
            else []
        ),
        *([FIND_UNKNOWN] if params["needed_sha256s"] else []),
        _read(changes),
    ]
    rows = dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    _, unknown = rows[FIND_UNKNOWN][0] if FIND_UNKNOWN in rows else ([], [])
    return _reply(rows[_read(changes)], params, changes, unknown)


def _params(
    user_id: str,
    session_id: UUID,
    message_id: UUID,
    changes: MessageChanges,
    if_match: Sequence[UUID] | None,
) -> dict[str, Any]:
    metadata = changes.get("metadata")
    attachments = changes.get("attachments", ())
    images, links = changes.get("images"), changes.get("part_attachments")
    stored = {attachment.sha256 for attachment in attachments}
    return {
        "user_id": user_id,
        "session_id": session_id,
        "message_id": message_id,
        "message_ids": [message_id],
        "version": new_id(),
        "if_match": if_match,
        "content": None if (content := changes.get("content")) is None else content_param(content),
        # The content itself goes to PostgreSQL once.
        "preview": None if content is None else head(content, PREVIEW_CHARACTERS),
        "words": None,
        "user_prefix": user_prefix(user_id),
        "epoch": _EPOCH,
        "week_days": WEEK_SECONDS // 86_400,
        "token_count": changes.get("token_count"),
        "model_id": changes.get("model_id"),
        "agent_name": changes.get("agent_name"),
        "response_time_ms": changes.get("response_time_ms"),
        "is_error": changes.get("is_error"),
        "images": None if images is None else list(images),
        "documents": changes.get("documents"),
        "parts": Json(changes["parts"]) if "parts" in changes else None,
        "part_attachments": None if links is None else list(links),
        "metadata": None if metadata is None else Json(metadata.members),
        "removed_keys": [] if metadata is None else list(metadata.removed),
        "max_metadata": MAX_METADATA,
        "status": changes.get("status"),
        "needed_ids": [],
        "needed_sha256s": [sha256 for sha256 in images or () if sha256 not in stored],
        **attachment_params(attachments, [*(images or ()), *(links or ())]),
    }


def _read(changes: MessageChanges) -> LiteralString:
    """Return the statement that reads the changed message. A content that is long is not read back."""
    is_long = isinstance(changes.get("content"), LongText)
    return READ_WITHOUT_CONTENT if is_long else READ_CHANGED


def _reply(
    found: list[Any], params: dict[str, Any], changes: MessageChanges, unknown: Sequence[str] = ()
) -> MessageReply:
    """Return the changed message, or raise why it was not changed. `unknown` are images to which it links."""
    if not found:
        raise NotFound("Session not found")
    version, status, body = found[0]
    if status is None:
        raise NotFound("Message not found")
    if version == params["version"]:
        if isinstance(content := changes.get("content"), LongText):
            before, name, after = body.partition(b'"content":')
            body = b"".join((before, name, dump_text(content), after.removeprefix(b"null")))
        return MessageReply(params["message_id"], version, body)
    check_locked([(version,)], params["if_match"])
    if errors := unknown_images(changes.get("images", ()), unknown, ["body"]):
        raise Invalid(*errors)
    refuse_metadata()
