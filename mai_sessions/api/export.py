"""Export."""

from itertools import chain
from typing import Any

from flask import Response, stream_with_context

from mai_sessions.auth.identity import current_user_id
from mai_sessions.repository.exports import stream_export
from mai_sessions.schemas.export import ExportQuery
from mai_sessions.schemas.sessions import SessionDetail
from mai_sessions.web.blueprint import api
from mai_sessions.web.database import connection
from mai_sessions.web.responses import NDJSON
from mai_sessions.web.urls import with_attachment_urls


@api.get("/export", tags=["export"])
@api.arguments(ExportQuery(), location="query")
@api.response(200, SessionDetail, content_type=NDJSON, description="A session in each line")
def export_sessions(query: dict[str, Any]) -> Response:
    """Stream every session with all its messages, oldest first"""
    pieces = stream_export(connection, current_user_id(), **query)
    # The first piece is read before the status is sent, so that an error has a status of its own.
    pieces = chain([next(pieces)], pieces)
    return Response(stream_with_context(map(with_attachment_urls, pieces)), content_type=NDJSON)
