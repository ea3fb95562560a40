"""LibreChat: one conversation a file, its messages flat or nested one level for each."""

from mai_sessions.importers import tree
from mai_sessions.importers.container import Files
from mai_sessions.importers.model import Conversation, Json, Message
from mai_sessions.importers.values import mapping, objects, paragraphs, text, timestamp, without_empty


def detect(value: Json) -> bool:
    """Return whether an element is one of LibreChat's conversations."""
    return "conversationId" in value and any(
        isinstance(value.get(name), list) for name in ("messages", "messagesTree")
    )


def read(value: Json, files: Files) -> Conversation:
    """Read a conversation. `files` is not used: the export names the files of the old server alone."""
    messages: dict[str, Message] = {}
    parents: dict[str, str | None] = {}
    for raw, above in _flatten(value):
        key = text(raw.get("messageId")) or f"#{len(parents)}"
        parents[key] = text(raw.get("parentMessageId")) or above
        message = _message(key, raw)
        if message.content or message.parts or message.documents:
            messages[key] = message
    parents = tree.break_cycles(parents)
    tree.bridge(messages, parents)
    ordered = tree.parents_first(messages)
    times = [message.created_at for message in ordered if message.created_at]
    created_at = min(times, default=None)
    tree.fill_times(messages, ordered, created_at)
    options = mapping(value.get("options"))
    return Conversation(
        source="librechat",
        id=text(value.get("conversationId")),
        title=text(value.get("title")) or None,
        model_id=text(options.get("model"))
        or next((message.model_id for message in ordered if message.model_id), None),
        created_at=created_at,
        updated_at=max(times, default=None),
        origin=without_empty({"endpoint": value.get("endpoint"), "options": options}),
        head_id=tree.newest_leaf(ordered),
        messages=ordered,
    )


def _flatten(value: Json) -> list[tuple[Json, str | None]]:
    """Return each message with the id of the one that it is nested in, a parent before its children."""
    found: list[tuple[Json, str | None]] = []
    waiting: list[tuple[Json, str | None]] = [
        (raw, None) for raw in reversed(objects(value.get("messagesTree")) or objects(value.get("messages")))
    ]
    while waiting:
        raw, above = waiting.pop()
        found.append((raw, above))
        key = text(raw.get("messageId")) or f"#{len(found) - 1}"
        waiting += [(child, key) for child in reversed(objects(raw.get("children")))]
    return found


def _message(key: str, raw: Json) -> Message:
    pieces = objects(raw.get("content"))
    written = paragraphs(_piece_text(piece) for piece in pieces if piece.get("type") == "text")
    files = objects(raw.get("files")) + objects(raw.get("attachments"))
    names = [text(file.get("filename")) or text(file.get("filepath")).rpartition("/")[2] for file in files]
    message = Message(
        key,
        None,
        "user" if raw.get("isCreatedByUser") is True else "assistant",
        content=text(raw.get("text")) or written,
        parts=pieces if any(piece.get("type") != "text" for piece in pieces) else None,
        created_at=timestamp(raw.get("createdAt")),
        documents=[name for name in dict.fromkeys(names) if name],
        is_error=raw.get("error") is True,
        status="interrupted" if raw.get("unfinished") is True else "complete",
        metadata=without_empty({name: raw.get(name) for name in ("finish_reason", "feedback")}),
    )
    if message.role == "assistant":
        message.model_id = text(raw.get("model")) or None
    if isinstance(count := raw.get("tokenCount"), int) and not isinstance(count, bool) and count > 0:
        message.token_count = count
    return message


def _piece_text(piece: Json) -> str:
    return text(piece.get("text")) or text(mapping(piece.get("text")).get("value"))
