"""Search."""

from typing import Any

from flask import Response

from mai_sessions.api.blueprint import api
from mai_sessions.api.requests import json_response, stale_read
from mai_sessions.identity import current_user_id
from mai_sessions.repository import search
from mai_sessions.schemas.search import SearchQuery, SearchResults


@api.get("/search", tags=["search"])
@api.arguments(SearchQuery(), location="query")
@api.response(200, SearchResults)
def search_all(query: dict[str, Any]) -> Response:
    """Search titles and messages, best match first"""
    return json_response(stale_read(search.search, current_user_id(), **query))
