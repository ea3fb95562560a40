"""The statements that create a session, alone or with its first messages."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.lexemes import fold_title, title_vector
from mai_sessions.content.message import UNSET, NewMessage, has_long_text
from mai_sessions.content.metadata import NO_METADATA, Metadata
from mai_sessions.errors import Invalid, Stale
from mai_sessions.idempotency import NO_KEY, IdempotencyKey, check_same_body
from mai_sessions.ids import new_id
from mai_sessions.postgres.adapters import Json
from mai_sessions.postgres.connection import Connection, run_transaction
from mai_sessions.repository.attachments import LOCK_ATTACHMENTS, LOCK_UPLOADS
from mai_sessions.repository.columns import time_as_json
from mai_sessions.repository.new_messages import (
    FIND_UNKNOWN,
    KEPT_REPLY,
    READ_REPLY,
    insert_statement,
    message_params,
    replayed_messages,
    statements_after_insert,
    unknown_references,
)
from mai_sessions.repository.response_size import NO_LIMIT
from mai_sessions.repository.session_changes import MOVE_HEAD
from mai_sessions.repository.sessions import GET_SESSION, GET_SESSION_BRANCH, SessionReply, get_session

# A key expires after a day, or when its session is deleted.
FORGET_KEY: LiteralString = """
    DELETE /* create_session */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s
       AND (k.created_at <= now() - interval '1 day'
            OR NOT EXISTS (SELECT FROM sessions AS s WHERE s.user_id = %(user_id)s AND s.id = k.id))"""
# Concurrent retries queue here. The next statement creates the session only for the key that was stored.
KEEP_KEY: LiteralString = """
    INSERT /* create_session */ INTO idempotency_keys (user_id, path, key, fingerprint, id, created_at, reply)
    VALUES (%(user_id)s, %(path)s, %(key)s, %(fingerprint)s, %(session_id)s, now(), %(reply)s::json)
        ON CONFLICT (user_id, path, key) DO NOTHING"""
# Release 0.1 stored no reply: then the current version of the session is returned.
GET_KEY: LiteralString = """
    SELECT /* create_session */ k.fingerprint = %(fingerprint)s, k.id, k.created_at,
           coalesce(k.reply, json_build_object('version', s.version))
      FROM idempotency_keys AS k
      JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = k.id
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s"""
# With messages, the key also stores their ids and places, and the session of the first reply.
REPLACE_KEY: LiteralString = """
    DELETE /* create_session */ FROM idempotency_keys AS k
     USING sessions AS s
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s AND k.id = %(session_id)s
       AND s.user_id = %(user_id)s AND s.id = %(session_id)s AND s.version = %(version)s"""
KEEP_REPLY: LiteralString = f"""
    INSERT /* create_session */ INTO idempotency_keys (user_id, path, key, fingerprint, id, created_at, reply)
    SELECT kept.user_id, %(path)s, %(key)s, %(fingerprint)s, %(session_id)s, now(), kept.reply
      FROM ({KEPT_REPLY}) AS kept"""

# If the session existed, nothing was created for the key.
DROP_KEY: LiteralString = """
    DELETE /* create_session */ FROM idempotency_keys AS k
     WHERE k.user_id = %(user_id)s AND k.path = %(path)s AND k.key = %(key)s AND k.created_at = now()
       AND NOT EXISTS (SELECT FROM sessions AS s
                        WHERE s.user_id = %(user_id)s AND s.id = k.id AND s.version = %(version)s)
    RETURNING k.id"""

# A deletion locks the session before the count of the user, too. In another order, a creation and a deletion
# of the same id would deadlock.
CREATE_SESSION: LiteralString = """
    INSERT /* create_session */ INTO sessions AS s (
           user_id, id, title, agent_name, model_id, created_at, updated_at, archived, has_metadata, version)
    VALUES (%(user_id)s, %(session_id)s, %(title)s, %(agent_name)s, %(model_id)s,
            coalesce(%(created_at)s, now()), coalesce(%(created_at)s, now()), %(archived)s, %(has_metadata)s,
            %(version)s)
        ON CONFLICT (user_id, id) DO NOTHING
    RETURNING s.created_at"""
CREATE_SESSION_OF_KEY: LiteralString = """
    INSERT /* create_session */ INTO sessions AS s (
           user_id, id, title, agent_name, model_id, created_at, updated_at, archived, has_metadata, version)
    SELECT k.user_id, k.id, %(title)s, %(agent_name)s, %(model_id)s, coalesce(%(created_at)s, now()),
           coalesce(%(created_at)s, now()), %(archived)s::boolean, %(has_metadata)s::boolean,
           %(version)s::uuid
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
    """A session to create. `created_at` is given by clients that import a session."""

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
    messages: Sequence[NewMessage] = (),
    *,
    head_id: UUID | None = None,
    key: IdempotencyKey | None = None,
    must_be_new: bool = False,
    max_bytes: int = NO_LIMIT,
) -> SessionReply:
    """Create a session with its first messages, or repeat the first reply if the key was used. The last
    message becomes the head, unless `head_id` names another.

    If the user has a session with this id, it is returned unchanged, with the newest messages that fit into
    `max_bytes` of JSON; with `must_be_new` that raises Stale. Raises Invalid for a key that was used with
    another body, and for an unknown parent, head or image.
    """
    version = new_id()
    if head_id is not None and not messages:
        raise _unknown_references((), head_id, [head_id])
    params = _params(user_id, session, version, key)
    added: list[LiteralString] = []
    reply_statement = _reply_statement(messages, head_id)
    if messages:
        params |= _message_params(params, messages, head_id)
        added = [
            insert_statement(messages),
            *statements_after_insert(params),
            *([MOVE_HEAD] if head_id else []),
            *([REPLACE_KEY, KEEP_REPLY] if key else []),
            reply_statement,
        ]
    insert: LiteralString = CREATE_SESSION_OF_KEY if key else CREATE_SESSION
    statements: list[LiteralString] = [
        *([FORGET_KEY, KEEP_KEY] if key else []),
        insert,
        CREATE_TITLE,
        COUNT_SESSION,
        *([LOCK_UPLOADS, LOCK_ATTACHMENTS] if params.get("named_sha256s") else []),
        *added,
        *([GET_KEY, DROP_KEY] if key else []),
    ]
    rows = _run(conn, statements, params, messages)
    while key and not any(rows[statement] for statement in (insert, GET_KEY, DROP_KEY)):
        # The session of the key was deleted meanwhile: now the key is forgotten.
        rows = _run(conn, statements, params, messages)
    for (created_at,) in rows[insert]:
        if READ_REPLY in rows:
            body = _first_body(session, messages, created_at, orjson.loads(rows[READ_REPLY][0][0]))
        else:
            body = rows[reply_statement][0][2] if messages else _new_session(session, created_at, version)
        return SessionReply(session.id, version, body, is_new=True)
    if key is None or rows[DROP_KEY]:
        if must_be_new:
            raise Stale("The session is there already")
        return get_session(conn, user_id, session.id, max_bytes=max_bytes, must_fit=False)
    return _replay(session, messages, rows[GET_KEY])


def _reply_statement(messages: Sequence[NewMessage], head_id: UUID | None) -> LiteralString:
    """Return the statement that reads the reply to a creation with messages."""
    if has_long_text(messages) and not any(message.part_attachments for message in messages):
        return READ_REPLY
    names_parents = any(message.parent_id is not UNSET for message in messages)
    return GET_SESSION_BRANCH if names_parents or head_id else GET_SESSION


def _run(
    conn: Connection,
    statements: Sequence[LiteralString],
    params: dict[str, Any],
    messages: Sequence[NewMessage],
) -> dict[LiteralString, Any]:
    """Run the statements. Raises Invalid, and writes nothing, if a new session links to an unknown image."""
    if not params.get("needed_sha256s"):
        return dict(zip(statements, run_transaction(conn, statements, params), strict=True))
    with conn.transaction():
        [[(_, unknown_images)], *results] = run_transaction(conn, [FIND_UNKNOWN, *statements], params)
        rows = dict(zip(statements, results, strict=True))
        is_new = rows.get(CREATE_SESSION) or rows.get(CREATE_SESSION_OF_KEY)
        if is_new and unknown_images:
            raise unknown_references(messages, None, [], unknown_images, is_batch=True)
    return rows


def _unknown_references(
    messages: Sequence[NewMessage], head_id: UUID | None, unknown_ids: Sequence[UUID]
) -> Invalid:
    return unknown_references(messages, head_id, unknown_ids, [], is_batch=True, head_loc=("head_id",))


def _params(user_id: str, session: NewSession, version: UUID, key: IdempotencyKey | None) -> dict[str, Any]:
    return {
        "user_id": user_id,
        "session_id": session.id,
        "version": version,
        "title": session.title,
        "folded_title": fold_title(session.title),
        "words": title_vector(user_id, session.id, session.title),
        "agent_name": session.agent_name,
        "model_id": session.model_id,
        "metadata": Json(session.metadata.value),
        "has_metadata": session.metadata.value != b"{}",
        "archived": session.archived,
        "created_at": session.created_at,
        "reply": Json(orjson.dumps({"version": version})),
        **(key or NO_KEY)._asdict(),
    }


def _message_params(
    params: dict[str, Any], messages: Sequence[NewMessage], head_id: UUID | None
) -> dict[str, Any]:
    """Return the parameters of the first messages. Raises Invalid for a parent or head not among them."""
    ids = [message.id or new_id() for message in messages]
    found = message_params(params["user_id"], params["session_id"], messages, ids, head_id, is_batch=True)
    if found["needed_ids"]:
        raise _unknown_references(messages, head_id, found["needed_ids"])
    return {
        **found,
        "claimed": params["version"],
        "new_head_id": head_id,
        "head_id": None,
        "all_branches": False,
        "messages_limit": None,
        "known_versions": [],
        "max_bytes": NO_LIMIT,
    }


def _replay(session: NewSession, messages: Sequence[NewMessage], rows: Sequence[Any]) -> SessionReply:
    """Return the first reply. `rows` are those of GET_KEY."""
    [(same_body, session_id, kept_at, reply)] = rows
    check_same_body(same_body)
    kept = orjson.loads(reply)
    body = _first_body(session._replace(id=session_id), messages, kept_at, kept)
    return SessionReply(session_id, UUID(kept["version"]), body, is_new=True, is_replay=True)


def _first_body(
    session: NewSession, messages: Sequence[NewMessage], kept_at: datetime, kept: dict[str, Any]
) -> bytes:
    """Return the JSON of the first reply, from the body of the request and the stored parts of the reply."""
    if not messages:
        return _new_session(session, session.created_at or kept_at, kept["version"])
    bodies = replayed_messages(session.id, messages, kept)
    parents = {message_id: parent_id for message_id, _, _, parent_id in kept["messages"]}
    shown, message_id = [], kept["session"]["head_id"]
    while message_id:
        shown.append(orjson.Fragment(bodies[UUID(message_id)]))
        message_id = parents[message_id]
    return orjson.dumps({**kept["session"], "messages": shown[::-1]})


def _new_session(session: NewSession, created_at: datetime, version: UUID | None) -> bytes:
    """Return the JSON of a new session, in the form of GET_SESSION."""
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
            "metadata": orjson.Fragment(session.metadata.value),
            "archived": session.archived,
            "head_id": None,
            "version": version,
            "messages": [],
        }
    )
