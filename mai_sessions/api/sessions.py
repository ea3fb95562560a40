"""Sessions."""

from typing import Any
from uuid import UUID

import flask
from flask import Response, request
from werkzeug.exceptions import MethodNotAllowed

from mai_sessions.auth.identity import current_user_id
from mai_sessions.content.message import with_tokens, with_words
from mai_sessions.ids import new_id
from mai_sessions.repository import creations, session_batches, session_list, sessions
from mai_sessions.repository.creations import NewSession
from mai_sessions.schemas.session_changes import with_defaults
from mai_sessions.schemas.sessions import (
    MessagesLimitQuery,
    SessionBatch,
    SessionBatchResult,
    SessionCreate,
    SessionDetail,
    SessionList,
    SessionListQuery,
    SessionPatch,
    SessionQuery,
)
from mai_sessions.web.blueprint import api
from mai_sessions.web.conditions import if_match_versions, if_none_match_versions, must_be_new
from mai_sessions.web.database import connection
from mai_sessions.web.idempotency_key import idempotency_key
from mai_sessions.web.responses import created_response, empty_response, json_response
from mai_sessions.web.state import current_state


@api.get("/sessions", tags=["sessions"])
@api.arguments(SessionListQuery(), location="query")
@api.response(200, SessionList)
def list_sessions(query: dict[str, Any]) -> Response:
    """List sessions, most recently written first"""
    with connection() as conn:
        page = session_list.list_sessions(conn, current_user_id(), **query)
    return json_response(page.body, version=page.tag)


@api.post("/sessions", tags=["sessions"])
@api.arguments(SessionCreate(), required=False)
@api.response(201, SessionDetail)
@api.alt_response(
    200, schema=SessionDetail, description="The caller had a session with this id: as it stands"
)
def create_session(payload: dict[str, Any]) -> Response:
    """Create a session"""
    key = idempotency_key("sessions", payload)
    messages, head_id = payload.pop("messages", ()), payload.pop("head_id", None)
    session = NewSession(**{**payload, "id": payload["id"] or new_id()})
    given = [with_tokens(message, current_state().count_tokens) for message in messages]
    with_lexemes = with_words(given, current_user_id(), session.id)
    with connection() as conn:
        reply = creations.create_session(
            conn,
            current_user_id(),
            session,
            with_lexemes,
            head_id=head_id,
            key=key,
            must_be_new=must_be_new(),
            max_bytes=current_state().settings.max_response,
        )
    return created_response(
        f"/sessions/{reply.id}",
        reply.body,
        version=reply.version,
        status=201 if reply.is_new else 200,
        is_replay=reply.is_replay,
    )


@api.get("/sessions/<session_id>", tags=["sessions"])
@api.arguments(SessionQuery(), location="query")
@api.response(200, SessionDetail)
def get_session(query: dict[str, Any], session_id: UUID) -> Response:
    """Read a session with its messages"""
    with connection() as conn:
        reply = sessions.get_session(
            conn,
            current_user_id(),
            session_id,
            known_versions=if_none_match_versions(),
            max_bytes=current_state().settings.max_response,
            **query,
        )
    return json_response(reply.body, version=reply.version)


@api.patch("/sessions/<session_id>", tags=["sessions"])
@api.arguments(MessagesLimitQuery(), location="query")
@api.arguments(SessionPatch(), required=False)
@api.response(200, SessionDetail)
@api.doc(requestBody={"content": {"application/merge-patch+json": {"schema": SessionPatch}}})
def patch_session(query: dict[str, Any], payload: dict[str, Any], session_id: UUID) -> Response:
    """Change a session"""
    if request.mimetype == "application/merge-patch+json":
        clear_model_id = payload.get("model_id", "") is None
        payload = with_defaults(payload)
    else:
        clear_model_id = False
    changes = {name: value for name, value in payload.items() if value is not None}
    with connection() as conn:
        reply = sessions.patch_session(
            conn,
            current_user_id(),
            session_id,
            if_match=if_match_versions(),
            messages_limit=query["messages_limit"],
            max_bytes=current_state().settings.max_response,
            clear_model_id=clear_model_id,
            **with_defaults(changes),
        )
    return json_response(reply.body, version=reply.version)


@api.delete("/sessions/<session_id>", tags=["sessions"])
@api.response(204)
def delete_session(session_id: UUID) -> Response:
    """Delete a session and everything in it"""
    with connection() as conn:
        session_batches.delete_session(conn, current_user_id(), session_id, if_match=if_match_versions())
    return empty_response()


def _refuse_method() -> Response:
    """Refuse the other methods of /sessions/batch, which the path of a session would match."""
    if request.method == "OPTIONS":
        return Response(headers={"Allow": ", ".join(_BATCH_METHODS)})
    raise MethodNotAllowed(_BATCH_METHODS)


_BATCH_METHODS = ["OPTIONS", "POST"]
# Past flask-smorest, which would document them.
flask.Blueprint.add_url_rule(
    api,
    "/sessions/batch",
    view_func=_refuse_method,
    methods=["OPTIONS", "GET", "HEAD", "PUT", "PATCH", "DELETE"],
    strict_slashes=False,
    merge_slashes=False,
)


@api.post("/sessions/batch", tags=["sessions"])
@api.arguments(SessionBatch())
@api.response(200, SessionBatchResult)
def batch_sessions(payload: dict[str, Any]) -> Response:
    """Delete, archive or unarchive many sessions, all or none"""
    key = idempotency_key("sessions/batch", payload)
    with connection() as conn:
        reply = session_batches.batch_sessions(
            conn, current_user_id(), payload["ids"], payload["action"], key=key
        )
    return json_response(reply.body, headers={"Idempotency-Replayed": "true"} if reply.is_replayed else None)
