"""Claude: `conversations.json`, or a conversation saved by a browser extension."""

from datetime import datetime

from mai_sessions.importers import tree
from mai_sessions.importers.container import Files
from mai_sessions.importers.model import Conversation, Json, Message
from mai_sessions.importers.values import mapping, objects, paragraphs, text, timestamp, without_empty

_ROLES = {"human": "user", "user": "user", "assistant": "assistant"}
_DROPPED = ("token_budget",)
_TITLE_FROM_SUMMARY = 80


def detect(value: Json) -> bool:
    """Return whether an element is one of Claude's conversations."""
    return isinstance(value.get("chat_messages"), list)


def read(value: Json, files: Files) -> Conversation:
    """Read a conversation. `files` is not used: the export has no bytes of attachments."""
    raw_messages = objects(value.get("chat_messages"))
    parents: dict[str, str | None] = {}
    messages: dict[str, Message] = {}
    model = text(value.get("model")) or None
    # Old exports are linear and name no parents.
    linear = not any("parent_message_uuid" in raw for raw in raw_messages)
    previous = None
    for index, raw in enumerate(raw_messages):
        key = text(raw.get("uuid")) or f"#{index}"
        parents[key] = previous if linear else text(raw.get("parent_message_uuid")) or None
        previous = key
        message = _message(key, raw)
        if message.content or message.parts or message.documents:
            message.model_id = model if message.role == "assistant" else None
            messages[key] = message
    parents = tree.break_cycles(parents)
    tree.bridge(messages, parents)
    ordered = tree.parents_first(messages)
    created_at = timestamp(value.get("created_at"))
    tree.fill_times(messages, ordered, created_at)
    summary = " ".join(text(value.get("summary")).split())
    return Conversation(
        source="claude",
        id=text(value.get("uuid")),
        title=text(value.get("name")).strip() or summary[:_TITLE_FROM_SUMMARY] or None,
        model_id=model,
        created_at=created_at,
        updated_at=timestamp(value.get("updated_at")),
        metadata={"pinned": True} if value.get("is_starred") is True else {},
        origin=without_empty({"project_uuid": value.get("project_uuid")}),
        head_id=tree.shown_head(text(value.get("current_leaf_message_uuid")), parents, messages, ordered),
        messages=ordered,
    )


def _message(key: str, raw: Json) -> Message:
    blocks = [block for block in objects(raw.get("content")) if block.get("type") not in _DROPPED]
    attachments = objects(raw.get("attachments"))
    written = paragraphs(text(block.get("text")) for block in blocks if block.get("type") == "text")
    # The flat rendering repeats tool calls as placeholders, so it counts only where there are no blocks.
    content = written or ("" if blocks else text(raw.get("text")))
    parts = blocks if any(_says_more(block) for block in blocks) else []
    if attachments:
        parts = parts or ([{"type": "text", "text": content}] if content else [])
        parts = [*parts, *({"type": "attachment", **attachment} for attachment in attachments)]
    names = [
        text(file.get("file_name")) or text(file.get("file_uuid"))
        for file in attachments + objects(raw.get("files"))
    ]
    return Message(
        key,
        None,
        _ROLES.get(text(raw.get("sender")), "assistant"),
        content=content,
        parts=parts or None,
        documents=[name for name in dict.fromkeys(names) if name],
        created_at=_created_at(raw),
    )


def _says_more(block: Json) -> bool:
    """Return whether a block holds more than the text of an otherwise plain message."""
    if block.get("type") != "text":
        return True
    return bool(block.get("citations"))


def _created_at(raw: Json) -> datetime | None:
    blocks = [mapping(block) for block in objects(raw.get("content"))]
    return timestamp(raw.get("created_at")) or next(
        (moment for block in blocks if (moment := timestamp(block.get("start_timestamp")))), None
    )
