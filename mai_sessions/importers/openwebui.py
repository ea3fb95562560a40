"""Open WebUI: an array of chats, or one chat a line, each a tree in `chat.history.messages`."""

import html
import re

from mai_sessions.content.attachments import decode_base64
from mai_sessions.content.message import ROLES
from mai_sessions.importers import tree
from mai_sessions.importers.container import Files
from mai_sessions.importers.model import Conversation, Image, Json, Message
from mai_sessions.importers.values import (
    mapping,
    objects,
    paragraphs,
    sequence,
    text,
    timestamp,
    without_empty,
)

_DETAILS = re.compile(
    r'<details\s+type="(reasoning|tool_calls|code_interpreter)"([^>]*)>(.*?)</details>\s*', re.DOTALL
)
_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_SUMMARY = re.compile(r"\s*<summary>.*?</summary>\s*", re.DOTALL)
_QUOTE = re.compile(r"^> ?", re.MULTILINE)
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,", re.IGNORECASE)


def detect(value: Json) -> bool:
    """Return whether an element is one of Open WebUI's chats."""
    chat = mapping(value.get("chat"))
    return isinstance(chat.get("history"), dict) or isinstance(chat.get("messages"), list)


def owner(value: Json) -> str:
    """Return the id of the user that a chat belongs to; "" where the file names none."""
    return text(value.get("user_id"))


def read(value: Json, files: Files) -> Conversation:
    """Read a chat. `files` is not used: the export has images as data URLs or not at all."""
    chat = mapping(value.get("chat"))
    history = mapping(chat.get("history"))
    raw_messages = {
        key: raw for key, raw in mapping(history.get("messages")).items() if isinstance(raw, dict)
    }
    if not raw_messages:
        raw_messages = _listed(chat)
    parents = tree.break_cycles({key: text(raw.get("parentId")) or None for key, raw in raw_messages.items()})
    messages = {}
    for key, raw in raw_messages.items():
        message = _message(key, raw)
        if message.content or message.parts or message.images or message.documents:
            messages[key] = message
    tree.bridge(messages, parents)
    ordered = tree.parents_first(messages)
    created_at = timestamp(value.get("created_at")) or timestamp(chat.get("timestamp"))
    tree.fill_times(messages, ordered, created_at)
    current = text(history.get("currentId")) or text(value.get("current_message_id"))
    meta = mapping(value.get("meta"))
    models = [model for model in sequence(chat.get("models")) if isinstance(model, str) and model]
    return Conversation(
        source="openwebui",
        id=text(value.get("id")) or text(chat.get("id")) or next(iter(raw_messages), ""),
        title=text(value.get("title")) or text(chat.get("title")) or None,
        model_id=models[0] if models else None,
        created_at=created_at,
        updated_at=timestamp(value.get("updated_at")),
        archived=value.get("archived") is True,
        metadata=without_empty(
            {"pinned": value.get("pinned") or None, "tags": meta.get("tags") or chat.get("tags")}
        ),
        origin=without_empty({"folder_id": value.get("folder_id"), "params": chat.get("params")}),
        head_id=tree.shown_head(current, parents, messages, ordered),
        messages=ordered,
    )


def _listed(chat: Json) -> dict[str, Json]:
    """Return the messages of a very old file, which has the shown branch alone, as a chain."""
    chain: dict[str, Json] = {}
    previous = None
    for index, raw in enumerate(objects(chat.get("messages"))):
        key = text(raw.get("id")) or f"#{index}"
        chain[key] = {"parentId": previous, **raw}
        previous = key
    return chain


def _message(key: str, raw: Json) -> Message:
    role = text(raw.get("role"))
    message = Message(
        key, None, role if role in ROLES else "user", created_at=timestamp(raw.get("timestamp"))
    )
    if message.role == "assistant":
        message.model_id = text(raw.get("model")) or None
    message.content, parts = _content(raw, message)
    # The original reasoning and tool calls are more exact than the HTML rendered from them.
    if output := objects(raw.get("output")):
        parts = output
        message.content = message.content or paragraphs(
            text(piece.get("text")) for item in output for piece in objects(item.get("content"))
        )
    for name in ("sources", "citations"):
        if raw.get(name):
            parts = parts or ([{"type": "text", "text": message.content}] if message.content else [])
            parts = [*parts, {"type": name, name: raw[name]}]
    message.parts = parts or None
    for file in objects(raw.get("files")):
        _take_file(message, file)
    message.is_error = bool(raw.get("error"))
    message.status = "interrupted" if raw.get("done") is False else "complete"
    rating = mapping(raw.get("annotation")).get("rating")
    message.metadata = without_empty(
        {
            "usage": raw.get("usage") or mapping(raw.get("info")).get("usage"),
            "feedback": {1: "up", -1: "down"}.get(rating) if isinstance(rating, int) else None,
            "error": raw.get("error") if isinstance(raw.get("error"), dict | str) else None,
        }
    )
    return message


def _content(raw: Json, message: Message) -> tuple[str, list[Json]]:
    """Return the text without its HTML of reasoning and tools, and the parts, in their order."""
    if pieces := objects(raw.get("content")):
        for piece in pieces:
            if url := text(mapping(piece.get("image_url")).get("url")):
                _take_file(message, {"type": "image", "url": url})
        kept = [piece for piece in pieces if piece.get("type") != "image_url"]
        return paragraphs(text(piece.get("text")) for piece in kept), kept if len(kept) > 1 else []
    written = text(raw.get("content"))
    parts: list[Json] = []
    shown, position = [], 0
    for match in _DETAILS.finditer(written):
        shown.append(written[position : match.start()].strip())
        parts += [{"type": "text", "text": shown[-1]}] if shown[-1] else []
        parts.append(_detail(match[1], match[2], match[3]))
        position = match.end()
    if not parts:
        return written, []
    shown.append(written[position:].strip())
    parts += [{"type": "text", "text": shown[-1]}] if shown[-1] else []
    return paragraphs(shown), parts


def _detail(kind: str, attributes: str, body: str) -> Json:
    values = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(attributes)}
    body = html.unescape(_SUMMARY.sub("", body)).strip()
    if kind == "reasoning":
        return without_empty(
            {"type": "reasoning", "text": _QUOTE.sub("", body), "duration": values.get("duration")}
        )
    return {"type": "tool_call" if kind == "tool_calls" else kind, **without_empty({"text": body, **values})}


def _take_file(message: Message, file: Json) -> None:
    """Take an image that the export holds, and keep the name of any other file."""
    url = text(file.get("url"))
    if match := _DATA_URL.match(url):
        data = url[match.end() :]
        message.images.append(Image(text(file.get("name")) or "image", lambda: decode_base64(data) or b""))
        return
    inner = mapping(file.get("file"))
    name = (
        text(file.get("name"))
        or text(inner.get("filename"))
        or text(file.get("id"))
        or url.rpartition("/")[2]
    )
    if name:
        message.documents.append(name)
