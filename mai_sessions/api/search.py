"""Search."""

from typing import Any

from flask import Response

from mai_sessions.auth.identity import current_user_id
from mai_sessions.repository import search as repository_search
from mai_sessions.schemas.search import SearchQuery, SearchResults
from mai_sessions.web.blueprint import api
from mai_sessions.web.database import stale_read
from mai_sessions.web.responses import json_response


@api.get("/search", tags=["search"])
@api.arguments(SearchQuery(), location="query")
@api.response(200, SearchResults)
def search(query: dict[str, Any]) -> Response:
    """Search titles and messages, best match first"""
    return json_response(stale_read(repository_search.search, current_user_id(), **query))
