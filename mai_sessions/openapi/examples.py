"""An example of each body in the documentation, by the name of its schema."""

from importlib.metadata import version
from typing import Any

_SESSION_ID = "019a5c1e-7d3a-7c44-b1f0-2f6a54cf9e01"
_MESSAGE_ID = "019a5c1e-9b10-7a02-8c55-6d1f0e9b7a02"

_SUMMARY: dict[str, Any] = {
    "id": _SESSION_ID,
    "title": "Trip to Lisbon",
    "agent_name": "chat",
    "model_id": "org/qwen2.5-7b_chat.gguf",
    "created_at": "2025-11-22T09:15:02.123456+00:00",
    "updated_at": "2025-11-22T09:15:09.654321+00:00",
    "message_count": 1,
    "last_message_preview": "What is there to see in two days?",
    "metadata": {"pinned": True},
    "archived": False,
    "head_id": _MESSAGE_ID,
    "version": "019a5c1e-9b11-7f30-9a3e-5d2c1b0a9f8e",
}
_MESSAGE: dict[str, Any] = {
    "id": _MESSAGE_ID,
    "session_id": _SESSION_ID,
    "seq": 1,
    "role": "user",
    "content": "What is there to see in two days?",
    "token_count": 8,
    "model_id": None,
    "agent_name": None,
    "response_time_ms": None,
    "is_error": False,
    "images": ["/api/v1/attachments/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"],
    "documents": ["plan.pdf"],
    "parts": [{"type": "text", "text": "What is there to see in two days?"}],
    "metadata": {},
    "status": "complete",
    "parent_id": None,
    "created_at": "2025-11-22T09:15:09.654321+00:00",
    "updated_at": "2025-11-22T09:15:09.654321+00:00",
}
_DETAIL = {**_SUMMARY, "messages": [_MESSAGE]}
# The smallest PNG.
_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

EXAMPLES: dict[str, Any] = {
    "SessionCreate": {"title": "Trip to Lisbon", "model_id": "org/qwen2.5-7b_chat.gguf"},
    "SessionPatch": {"title": "Two days in Lisbon"},
    "SessionList": {"sessions": [_SUMMARY], "total": 1, "limit": 50, "offset": 0, "next_cursor": None},
    "SessionDetail": _DETAIL,
    "MessageCreate": {
        "role": "user",
        "content": "What is there to see in two days?",
        "images": [_PNG],
        "documents": ["plan.pdf"],
    },
    "MessageBatch": {
        "messages": [
            {"role": "user", "content": "And what to eat?"},
            {"role": "assistant", "content": "Grilled sardines.", "metadata": {"finish_reason": "stop"}},
        ],
        "session": {"metadata": {"tags": ["travel"]}},
    },
    "AppendedMessages": {"messages": [_MESSAGE], "session": _SUMMARY},
    "SessionBatch": {"ids": [_SESSION_ID], "action": "archive"},
    "SessionBatchResult": {"done": [_SESSION_ID], "not_found": []},
    "MessagePatch": {"content": "Start with the castle …", "response_time_ms": 812.5},
    "Message": _MESSAGE,
    "SearchResults": {
        "results": [
            {
                "session": {"id": _SESSION_ID, "title": "Trip to Lisbon"},
                "message_id": "019a5c1e-9b10-7a02-8c55-6d1f0e9b7a02",
                "seq": 1,
                "role": "user",
                "snippet": "What is there to see in two <mark>days</mark>?",
                "created_at": "2025-11-22T09:15:09.654321+00:00",
            }
        ],
        "next_cursor": None,
        "truncated": False,
    },
    "Usage": {
        "total_messages": 3,
        "total_tokens": 412,
        "total_sessions": 1,
        "avg_response_time_ms": 812.5,
        "daily_usage": [
            {"date": "2025-11-21", "messages": 0, "tokens": 0, "sessions": 0},
            {"date": "2025-11-22", "messages": 3, "tokens": 412, "sessions": 1},
        ],
    },
    "AgentsUsage": {
        "agents": [
            {
                "name": "chat",
                "usage_count": 2,
                "total_tokens": 404,
                "avg_response_time_ms": 812.5,
                "error_count": 1,
                "error_rate": 50.0,
            }
        ],
        "total_calls": 2,
    },
    "ModelsUsage": {
        "models": [
            {
                "model_id": "org/qwen2.5-7b_chat.gguf",
                "model_name": "Qwen2.5 7B Chat",
                "usage_count": 2,
                "total_tokens": 404,
            }
        ],
        "total_usage": 2,
    },
    "Summary": {
        "total_messages": 3,
        "active_sessions": 1,
        "total_tokens": 412,
        "avg_response_time_ms": 812.5,
    },
    "Service": {"name": "mai-sessions", "version": version("mai-sessions"), "docs": "/docs"},
    "Health": {"status": "ok", "timestamp": "2025-11-22T09:15:02.123456+00:00"},
    "Alive": {"status": "alive"},
    "Ready": {"status": "ready"},
    "DetailedHealth": {
        "status": "healthy",
        "services": {
            "postgres": {
                "ok": True,
                "latency_ms": 0.412,
                "details": {"pool_max": 4, "pool_size": 1, "pool_available": 1, "requests_waiting": 0},
            }
        },
        "total_latency_ms": 0.412,
        "timestamp": "2025-11-22T09:15:02.123456+00:00",
        "version": version("mai-sessions"),
    },
}
