"""The export of this service: a session with all its messages a line, as `mai-sessions export` writes it."""

import re

from mai_sessions.content.attachments import MAX_FILE_NAME, Attachment, decode_base64, read_data_url
from mai_sessions.importers import tree
from mai_sessions.importers.container import Files
from mai_sessions.importers.model import Conversation, Image, Json, Message
from mai_sessions.importers.values import mapping, number, objects, sequence, text, timestamp

_DATA_URL = re.compile(r"data:([^,;]{0,200})[^,]{0,200};base64,")


def detect(value: Json) -> bool:
    """Return whether an element is a session of this service."""
    return isinstance(value.get("messages"), list) and "message_count" in value and "agent_name" in value


def read(value: Json, files: Files) -> Conversation:
    """Read a session. The ids are those of the export, which are UUIDs already."""
    raw_messages = objects(value.get("messages"))
    messages = {message.id: message for message in map(_message, raw_messages)}
    parents = tree.break_cycles({message.id: message.parent_id for message in messages.values()})
    tree.bridge(messages, parents)
    ordered = tree.in_file_order(messages)
    created_at = timestamp(value.get("created_at"))
    tree.fill_times(messages, ordered, created_at)
    conversation = Conversation(
        source="mai",
        id=text(value.get("id")),
        title=text(value.get("title")) or None,
        agent_name=text(value.get("agent_name")) or None,
        model_id=text(value.get("model_id")) or None,
        created_at=created_at,
        updated_at=timestamp(value.get("updated_at")),
        archived=value.get("archived") is True,
        metadata=mapping(value.get("metadata")),
        head_id=tree.shown_head(text(value.get("head_id")), parents, messages, ordered),
        messages=ordered,
        files=[file for url in sequence(value.get("attachments")) if (file := _file(url))],
    )
    # GET /api/v1/export has links in place of images, which lead nowhere in another place.
    links = sum(not _DATA_URL.match(text(url)) for raw in raw_messages for url in sequence(raw.get("images")))
    if links:
        conversation.notes.append(f"images that are only links: {links}")
    return conversation


def _message(raw: Json) -> Message:
    message = Message(
        text(raw.get("id")),
        text(raw.get("parent_id")) or None,
        text(raw.get("role")),
        content=text(raw.get("content")),
        parts=objects(raw.get("parts")) if isinstance(raw.get("parts"), list) else None,
        metadata=mapping(raw.get("metadata")),
        model_id=text(raw.get("model_id")) or None,
        agent_name=text(raw.get("agent_name")) or None,
        created_at=timestamp(raw.get("created_at")),
        documents=[name for name in sequence(raw.get("documents")) if isinstance(name, str)],
        token_count=number(raw.get("token_count")),
        response_time_ms=number(raw.get("response_time_ms")),
        seq=number(raw.get("seq")),
        updated_at=timestamp(raw.get("updated_at")),
        is_error=raw.get("is_error") is True,
        status=text(raw.get("status")) or "complete",
    )
    for image in sequence(raw.get("images")):
        if match := _DATA_URL.match(text(image)):
            message.images.append(_image(image[match.end() :]))
    return message


def _image(data: str) -> Image:
    return Image("image", lambda: decode_base64(data) or b"")


def _file(raw: object) -> Attachment | None:
    """Read a file that parts link to: a data URL, and its name."""
    value = mapping(raw)
    try:
        return read_data_url(text(value.get("url")), text(value.get("name"))[:MAX_FILE_NAME] or None)
    except ValueError:
        return None
