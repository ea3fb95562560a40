"""Messages."""

from typing import Any
from uuid import UUID

from flask import Response

from mai_sessions.auth.identity import current_user_id
from mai_sessions.content.message import MessageChanges, with_tokens, with_words
from mai_sessions.repository import appends, messages, patches
from mai_sessions.repository.session_changes import SessionChanges
from mai_sessions.schemas.fields import MAX_INTEGER
from mai_sessions.schemas.messages import (
    Message,
    MessageAppend,
    MessageBatch,
    MessageCreate,
    MessageListQuery,
    MessagePatch,
)
from mai_sessions.schemas.sessions import AppendedMessages
from mai_sessions.web.blueprint import api
from mai_sessions.web.conditions import if_match_versions, if_none_match_versions
from mai_sessions.web.database import connection
from mai_sessions.web.idempotency_key import idempotency_key
from mai_sessions.web.responses import created_response, empty_response, json_response
from mai_sessions.web.state import current_state
from mai_sessions.web.urls import api_url

# A message, or several together: a body with the members of both is several.
_GIVEN = {"anyOf": [MessageCreate, MessageBatch]}
_APPENDED = {"anyOf": [Message, AppendedMessages]}


@api.get("/sessions/<session_id>/messages", tags=["messages"])
@api.arguments(MessageListQuery(), location="query")
@api.response(200, Message(many=True))
def list_messages(query: dict[str, Any], session_id: UUID) -> Response:
    """List the messages of a session, oldest first"""
    with connection() as conn:
        page = messages.list_messages(
            conn,
            current_user_id(),
            session_id,
            known_versions=if_none_match_versions(),
            max_bytes=current_state().settings.max_response,
            **query,
        )
    return json_response(page.body, version=page.version, headers=_links(page, query, session_id))


@api.post("/sessions/<session_id>/messages", tags=["messages"])
@api.arguments(MessageAppend())
@api.response(201, _APPENDED)
@api.alt_response(200, schema=_APPENDED, description="The session has messages of these ids: as they stand")
@api.doc(requestBody={"content": {"application/json": {"schema": _GIVEN}}})
def append_messages(payload: dict[str, Any], session_id: UUID) -> Response:
    """Append a message to a session, or several together"""
    given = [with_tokens(message, current_state().count_tokens) for message in payload["messages"]]
    is_batch: bool = payload["is_batch"]
    changes: SessionChanges = payload["session"]
    body = {"messages": given, "session": changes} if is_batch else given[0]
    key = idempotency_key(f"sessions/{session_id}/messages", body)
    with_lexemes = with_words(given, current_user_id(), session_id)
    with connection() as conn:
        reply = appends.append_messages(
            conn,
            current_user_id(),
            session_id,
            with_lexemes,
            changes=changes,
            is_batch=is_batch,
            key=key,
            if_match=if_match_versions(),
            max_bytes=current_state().settings.max_response,
        )
    path = f"/sessions/{session_id}/messages"
    if is_batch:
        content = b'{"messages":[%s],"session":%s}' % (b",".join(reply.messages), reply.session)
    else:
        path, [content] = f"{path}/{reply.ids[0]}", reply.messages
    return created_response(
        path,
        content,
        version=reply.version,
        status=201 if reply.is_new else 200,
        is_replay=reply.is_replay,
    )


@api.delete("/sessions/<session_id>/messages", tags=["messages"])
@api.response(204)
def clear_messages(session_id: UUID) -> Response:
    """Delete all messages of a session"""
    with connection() as conn:
        messages.clear_messages(conn, current_user_id(), session_id, if_match=if_match_versions())
    return empty_response()


@api.get("/sessions/<session_id>/messages/<message_id>", tags=["messages"])
@api.response(200, Message)
def get_message(session_id: UUID, message_id: UUID) -> Response:
    """Read a message"""
    with connection() as conn:
        reply = messages.get_message(conn, current_user_id(), session_id, message_id)
    return json_response(reply.body, version=reply.version)


@api.patch("/sessions/<session_id>/messages/<message_id>", tags=["messages"])
@api.arguments(MessagePatch(), required=False)
@api.response(200, Message)
def patch_message(payload: MessageChanges, session_id: UUID, message_id: UUID) -> Response:
    """Change a message"""
    message = (current_user_id(), session_id, message_id)
    if_match = if_match_versions()
    if patches.may_stream(payload):
        with connection() as conn:
            reply = patches.patch_stream(conn, *message, if_match=if_match, **payload)
        if reply is not None:
            return json_response(reply.body, version=reply.version)
    count_tokens = current_state().count_tokens
    counts = patches.count_content(current_user_id(), session_id, payload, count_tokens)
    with connection() as conn:
        reply = patches.patch_message(
            conn, *message, count_tokens=count_tokens, counts=counts, if_match=if_match, **payload
        )
    return json_response(reply.body, version=reply.version)


@api.delete("/sessions/<session_id>/messages/<message_id>", tags=["messages"])
@api.response(204)
def delete_message(session_id: UUID, message_id: UUID) -> Response:
    """Delete a message"""
    with connection() as conn:
        messages.delete_message(conn, current_user_id(), session_id, message_id, if_match=if_match_versions())
    return empty_response()


def _links(page: messages.MessagePage, query: dict[str, Any], session_id: UUID) -> dict[str, str]:
    """Make the Link header (RFC 8288) of the previous and next page, by `offset` or by `seq` as the query."""
    limit, offset = query["limit"], query["offset"]
    after_seq, before_seq = query["after_seq"], query["before_seq"]
    if after_seq is None and before_seq is None and query["max_tokens"] is None:
        # The first page may be shorter, so that no message is on two pages.
        previous = f"limit={min(limit, offset)}&offset={max(0, offset - limit)}"
        following = f"limit={limit}&offset={offset + limit}"
    else:
        first_seq = min((after_seq or 0) + 1, MAX_INTEGER) if page.first_seq is None else page.first_seq
        last_seq = (before_seq or 1) - 1 if page.last_seq is None else page.last_seq
        previous, following = f"limit={limit}&before_seq={first_seq}", f"limit={limit}&after_seq={last_seq}"
    path = f"{api_url()}/sessions/{session_id}/messages"
    branch = "".join(f"&{name}={query[name]}" for name in ("head_id", "branches") if name in query)
    links = [
        f'<{path}?{place}{branch}>; rel="{rel}"'
        for rel, place, there in (("prev", previous, page.has_previous), ("next", following, page.has_next))
        if there
    ]
    return {"Link": ", ".join(links)} if links else {}
