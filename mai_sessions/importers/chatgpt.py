"""ChatGPT: `conversations.json`, or `conversations-000.json` and on, with a tree in `mapping`."""

import re
from typing import Any

from mai_sessions.importers import tree
from mai_sessions.importers.container import Files
from mai_sessions.importers.model import Conversation, Json, Message, UnreadableConversation
from mai_sessions.importers.values import (
    mapping,
    objects,
    paragraphs,
    sequence,
    text,
    timestamp,
    without_empty,
)

_ROLES = {"user": "user", "assistant": "assistant", "system": "system", "tool": "tool", "function": "tool"}
_REASONING = ("thoughts", "reasoning_recap")
_CONTEXT = ("user_editable_context", "model_set_context")
_UNFINISHED = ("in_progress", "finished_partial_completion")
# Citations in the text are enclosed in private-use characters, or written as 【12†source】 in old files.
_MARK = re.compile("\ue200([^\ue200\ue201]*)\ue201|[\ue200-\ue206]|【\\d+(?::\\d+)?(?:†[^】]*)?】")
_ENTITY = re.compile('entity\ue202\\["[^"]*","([^"]*)"')


def detect(value: Json) -> bool:
    """Return whether an element is one of ChatGPT's conversations."""
    return isinstance(value.get("mapping"), dict)


def read(value: Json, files: Files) -> Conversation:
    """Read a conversation. Raises UnreadableConversation for an entry without `mapping`."""
    nodes = {key: node for key, node in mapping(value.get("mapping")).items() if isinstance(node, dict)}
    if not nodes:
        raise UnreadableConversation("it has no messages (no mapping)")
    parents = tree.break_cycles({key: text(node.get("parent")) or None for key, node in nodes.items()})
    model = text(value.get("default_model_slug")) or None
    messages = {}
    for key, node in nodes.items():
        if (message := _message(key, mapping(node.get("message")), model, files)) is not None:
            messages[key] = message
    _attach_reasoning(nodes, parents, messages, model)
    tree.bridge(messages, parents)
    created_at = timestamp(value.get("create_time"))
    ordered = tree.parents_first(messages)
    tree.fill_times(messages, ordered, created_at)
    return Conversation(
        source="chatgpt",
        id=text(value.get("conversation_id")) or text(value.get("id")),
        title=text(value.get("title")) or None,
        model_id=model or next((message.model_id for message in reversed(ordered) if message.model_id), None),
        created_at=created_at,
        updated_at=timestamp(value.get("update_time")),
        archived=value.get("is_archived") is True,
        metadata={"pinned": True} if value.get("is_starred") is True else {},
        origin=without_empty({"gizmo_id": value.get("gizmo_id")}),
        head_id=tree.shown_head(text(value.get("current_node")), parents, messages, ordered),
        messages=ordered,
    )


def _message(key: str, raw: Json, model: str | None, files: Files) -> Message | None:
    """Return the message of a node, and None for a node that is bridged."""
    author, metadata, content = (
        mapping(raw.get("author")),
        mapping(raw.get("metadata")),
        mapping(raw.get("content")),
    )
    role, kind = _ROLES.get(text(author.get("role"))), text(content.get("content_type"))
    recipient = text(raw.get("recipient")) or "all"
    if (
        role is None
        or kind in _REASONING
        or kind in _CONTEXT
        or metadata.get("is_visually_hidden_from_conversation")
    ):
        return None
    if role == "system" and not metadata.get("is_user_system_message"):
        return None
    if role == "assistant" and recipient != "all":
        role = "tool"
    message = Message(key, None, role, created_at=timestamp(raw.get("create_time")))
    if role in ("assistant", "tool"):
        message.model_id = text(metadata.get("model_slug")) or model
    message.content, message.parts = _content(kind, content)
    _take_files(message, content, metadata, files)
    if role == "tool" and content:
        is_call = recipient != "all"
        name = recipient if is_call else text(author.get("name"))
        message.parts = [
            {"type": "tool_call" if is_call else "tool_result", "name": name, "content": content}
        ]
    if references := without_empty(
        {name: metadata.get(name) for name in ("citations", "content_references")}
    ):
        message.parts = [
            *(message.parts or _text_parts(message.content)),
            {"type": "citations", **references},
        ]
    if not (message.content or message.parts or message.images or message.documents):
        return None
    status = text(raw.get("status"))
    message.status = "interrupted" if status in _UNFINISHED else "complete"
    message.is_error = status == "error" or kind == "system_error"
    finish = text(mapping(metadata.get("finish_details")).get("type"))
    message.metadata = without_empty({"finish_reason": finish, "channel": raw.get("channel")})
    return message


def _content(kind: str, content: Json) -> tuple[str, list[Json] | None]:
    """Return the text that a reader saw, and the parts where the text alone would lose something."""
    pieces = sequence(content.get("parts"))
    if kind in ("text", "") and all(isinstance(piece, str) for piece in pieces):
        return _clean("\n\n".join(piece for piece in pieces if piece)), None
    if kind in ("text", "", "multimodal_text"):
        parts: list[Json] = [
            {"type": "text", "text": _clean(piece)}
            if isinstance(piece, str)
            else _typed(piece, "content_type")
            for piece in pieces
            if piece
        ]
        return paragraphs(text(part.get("text")) for part in parts), parts or None
    shown = paragraphs(text(content.get(name)) for name in ("title", "url", "text", "snippet", "result"))
    return _clean(shown), [_typed(content, "content_type")]


def _text_parts(content: str) -> list[Json]:
    return [{"type": "text", "text": content}] if content else []


def _typed(value: Any, name: str) -> Json:
    return {
        "type": text(mapping(value).get(name)) or "unknown",
        **(value if isinstance(value, dict) else {"value": value}),
    }


def _clean(shown: str) -> str:
    """Take the marks of citations out of a text. The mark of an entity holds the words themselves."""

    def words(match: re.Match[str]) -> str:
        entity = _ENTITY.match(match[1] or "")
        return entity[1] if entity else ""

    return _MARK.sub(words, shown)


def _take_files(message: Message, content: Json, metadata: Json, files: Files) -> None:
    """Take the images of the export, and keep the names of all other files."""
    pointers = [text(piece.get("asset_pointer")) for piece in objects(content.get("parts"))]
    # What the code interpreter has drawn.
    printed = objects(mapping(metadata.get("aggregate_result")).get("messages"))
    pointers += [text(piece.get("image_url")) for piece in printed]
    ids = [re.split(r"[?#]", pointer.partition("://")[2])[0] for pointer in pointers if pointer]
    taken = set()
    for file_id in ids:
        if image := files.image(file_id):
            message.images.append(image)
            taken.add(file_id)
    for attachment in objects(metadata.get("attachments")):
        file_id, name = text(attachment.get("id")), text(attachment.get("name"))
        if file_id in taken:
            continue
        # Old exports say mimeType.
        media_type = text(attachment.get("mime_type")) or text(attachment.get("mimeType"))
        if media_type.startswith("image/") and (image := files.image(file_id)):
            message.images.append(image)
        elif name or file_id:
            message.documents.append(name or file_id)
        taken.add(file_id)
    message.documents += [file_id for file_id in dict.fromkeys(ids) if file_id not in taken]


def _attach_reasoning(
    nodes: dict[str, Json], parents: dict[str, str | None], messages: dict[str, Message], model: str | None
) -> None:
    """Put the thoughts above an answer into its parts. Without an answer they become a message."""
    with_children = set(parents.values())
    for key, leaf in nodes.items():
        message = messages.get(key)
        is_answer = message is not None and message.role == "assistant"
        if not is_answer and (key in with_children or not _reasoning(leaf)):
            continue
        pieces, node = list(reversed(_reasoning(leaf))), parents[key]
        while node is not None and (node not in messages or messages[node].role == "tool"):
            pieces += reversed(_reasoning(nodes[node]))
            node = parents[node]
        if not pieces:
            continue
        if message is None:
            message = messages[key] = Message(key, None, "assistant", model_id=model, status="interrupted")
            message.created_at = timestamp(mapping(leaf.get("message")).get("create_time"))
        message.parts = [*reversed(pieces), *(message.parts or _text_parts(message.content))]


def _reasoning(node: Json) -> list[Json]:
    content = mapping(mapping(node.get("message")).get("content"))
    if content.get("content_type") == "reasoning_recap":
        return [{"type": "reasoning", "text": text(content.get("content"))}] if content.get("content") else []
    if content.get("content_type") != "thoughts":
        return []
    thoughts = objects(content.get("thoughts"))
    return [
        {
            "type": "reasoning",
            "text": paragraphs([text(thought.get("summary")), text(thought.get("content"))]),
        }
        for thought in thoughts
    ]
