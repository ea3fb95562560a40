"""Analytics, for the dashboard."""

import re
from typing import Any

import orjson
from flask import Response

from mai_sessions.auth.identity import current_user_id
from mai_sessions.repository import analytics
from mai_sessions.schemas.analytics import AgentsUsage, ModelsUsage, Summary, Usage, WindowQuery, window
from mai_sessions.web.blueprint import api
from mai_sessions.web.database import stale_read
from mai_sessions.web.responses import json_response


@api.get("/analytics/usage", tags=["analytics"])
@api.arguments(WindowQuery(), location="query", cache=False)
@api.response(200, Usage)
def get_usage(query: dict[str, Any]) -> Response:
    """Read the usage in total and for each day"""
    return json_response(stale_read(analytics.get_usage, current_user_id(), **query))


@api.get("/analytics/agents", tags=["analytics"])
@api.arguments(WindowQuery(), location="query", cache=False)
@api.response(200, AgentsUsage)
def get_agents(query: dict[str, Any]) -> Response:
    """Read the usage of each agent, most used first"""
    return json_response(stale_read(analytics.get_agents, current_user_id(), **query))


@api.get("/analytics/models", tags=["analytics"])
@api.arguments(WindowQuery(), location="query", cache=False)
@api.response(200, ModelsUsage)
def get_models(query: dict[str, Any]) -> Response:
    """Read the usage of each model, most used first"""
    models = stale_read(analytics.get_models, current_user_id(), **query)
    body = {
        "models": [
            {
                "model_id": m.model_id,
                "model_name": model_name(m.model_id),
                "usage_count": m.usage_count,
                "total_tokens": m.total_tokens,
            }
            for m in models
        ],
        "total_usage": sum(m.usage_count for m in models),
    }
    return json_response(orjson.dumps(body))


@api.get("/analytics/summary", tags=["analytics"])
@api.response(200, Summary)
def get_summary() -> Response:
    """Read a summary of the last 30 days"""
    return json_response(stale_read(analytics.get_summary, current_user_id(), **window()))


def model_name(model_id: str) -> str:
    """Return a model's name for people: the last segment of its path, without a file extension, in title
    case.
    """
    name = re.sub(r"\.(gguf|bin)$", "", model_id.rstrip("/").rpartition("/")[2])
    return re.sub("[-_]", " ", name).title()
