"""The schema of messages: the values that it loads, and the errors that it reports."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from marshmallow import ValidationError
from support.samples import base64_of, data_url, png

from mai_sessions.content.attachments import LINK
from mai_sessions.content.message import UNSET
from mai_sessions.content.parts import MAX_PARTS
from mai_sessions.schemas.messages import MAX_RESPONSE_TIME_MS, MessageAppend, MessagePatch

ID = "01a2044b-8f5b-75ef-b6c9-5def5b9b2ec1"
USER = {"role": "user", "content": "hi"}


def errors_of(body: Any) -> list[tuple[list[Any], str]]:
    """The path and type of each error."""
    with pytest.raises(ValidationError) as caught:
        MessageAppend().load(body)

    def flat(messages: Any, path: list[Any]) -> Iterator[tuple[list[Any], str]]:
        if isinstance(messages, dict):
            for key, inner in messages.items():
                yield from flat(inner, [*path, key])
        else:
            yield from ((path, getattr(text, "type", "invalid")) for text in messages)

    return list(flat(caught.value.messages, []))


def test_single_message_is_a_batch_of_one() -> None:
    loaded = MessageAppend().load({**USER, "unknown": 1})
    [message] = loaded["messages"]
    assert loaded["session"] == {}
    assert (message.role, message.content, message.token_count, message.parent_id) == (
        "user",
        "hi",
        None,
        UNSET,
    )


def test_batch_keeps_its_order_and_the_changes_of_its_session() -> None:
    session = {
        "title": " ",
        "agent_name": None,
        "metadata": {"a": 1, "b": None},
        "archived": True,
        "head_id": ID,
    }
    loaded = MessageAppend().load({"messages": [USER, {**USER, "content": "b"}], "session": session})
    assert [message.content for message in loaded["messages"]] == ["hi", "b"]
    changes = loaded["session"]
    assert changes.pop("metadata")[1:] == (b'{"a":1}', ("b",))
    assert changes == {"title": "New Chat", "archived": True, "head_id": UUID(ID)}


@pytest.mark.parametrize(
    ("given", "expected"), [({}, UNSET), ({"parent_id": None}, None), ({"parent_id": ID}, UUID(ID))]
)
def test_parent_is_unset_null_or_a_message(given: dict[str, Any], expected: Any) -> None:
    [message] = MessageAppend().load({**USER, **given})["messages"]
    assert message.parent_id == expected


def test_null_is_not_given() -> None:
    names = (
        "id",
        "metadata",
        "status",
        "parts",
        "images",
        "documents",
        "created_at",
        "token_count",
        "is_error",
    )
    [message] = MessageAppend().load({**USER, **dict.fromkeys(names)})["messages"]
    assert message == MessageAppend().load(USER)["messages"][0]


def test_time_may_be_in_small_letters() -> None:
    [small] = MessageAppend().load({**USER, "created_at": "2020-01-01t00:00:00.5z"})["messages"]
    [large] = MessageAppend().load({**USER, "created_at": "2020-01-01T00:00:00.5Z"})["messages"]
    assert small == large


def test_content_is_the_text_of_the_parts_unless_it_is_given() -> None:
    parts = [{"type": "text", "text": "from the parts"}]
    [derived] = MessageAppend().load({"role": "user", "parts": parts})["messages"]
    [given] = MessageAppend().load({"role": "user", "parts": parts, "content": ""})["messages"]
    assert (derived.content, given.content) == ("from the parts", "")


def test_images_and_files_are_stored_once() -> None:
    pdf = data_url(b"%PDF" * 500, "application/pdf")
    link = LINK + "ab" * 32
    body = {
        **USER,
        "images": [data_url(png()), link, base64_of(png())],
        "parts": [{"url": pdf}, {"url": link}],
    }
    [message] = MessageAppend().load(body)["messages"]
    image, file = message.attachments
    assert (image.content_type, file.content_type) == ("image/png", "application/pdf")
    assert message.images == (image.sha256, "ab" * 32, image.sha256)
    assert message.part_attachments == (file.sha256, "ab" * 32)


@pytest.mark.parametrize(
    ("change", "path", "type"),
    [
        ({"content": None}, ["content"], "required"),
        ({"content": 1}, ["content"], "invalid"),
        ({"role": "robot"}, ["role"], "choice"),
        ({"status": "done"}, ["status"], "choice"),
        ({"parts": {}}, ["parts"], "invalid"),
        ({"parts": [1]}, ["parts", 0], "invalid"),
        ({"parts": [{"a": ["\0"]}]}, ["parts", 0, "a", 0], "nul"),
        ({"parts": [{"a": f"data:x/y;base64,{'*' * 2000}"}]}, ["parts", 0, "a"], "base64"),
        ({"parts": [{"a": "x" * MAX_PARTS}]}, ["parts"], "too_long"),
        ({"metadata": []}, ["metadata"], "invalid"),
        ({"metadata": {"a": "x" * 20_000}}, ["metadata"], "too_long"),
        ({"metadata": {"a": {"b": "\0"}}}, ["metadata", "a", "b"], "nul"),
        ({"images": ["x"]}, ["images", 0], "invalid"),
        ({"images": [LINK + "x"]}, ["images", 0], "invalid"),
        ({"images": [base64_of(png())] * 21}, ["images"], "too_many"),
        ({"documents": ["x" * 256]}, ["documents", 0], "too_long"),
        ({"id": "1"}, ["id"], "invalid_uuid"),
        ({"parent_id": "1"}, ["parent_id"], "invalid_uuid"),
        ({"created_at": "2999-01-01T00:00:00Z"}, ["created_at"], "future"),
        ({"created_at": "2020-01-01T00:00:00"}, ["created_at"], "invalid"),
        ({"created_at": "yesterday"}, ["created_at"], "invalid"),
        ({"created_at": "2020-01-01T00:00:00Z\0"}, ["created_at"], "invalid"),
        ({"created_at": "2020-01-01\n00:00:00Z"}, ["created_at"], "invalid"),
        ({"created_at": 1}, ["created_at"], "invalid"),
        ({"created_at": "0001-01-01T00:00:00+14:00"}, ["created_at"], "invalid"),
        ({"response_time_ms": MAX_RESPONSE_TIME_MS * 2}, ["response_time_ms"], "range"),
        ({"response_time_ms": -1}, ["response_time_ms"], "range"),
    ],
)
def test_wrong_value_is_named_by_its_path_alone_and_in_a_batch(
    change: Any, path: list[Any], type: str
) -> None:
    body = {**USER, **change}
    body = {name: value for name, value in body.items() if name != "content" or value is not None}
    assert errors_of(body) == [(path, type)]
    assert errors_of({"messages": [USER, body]}) == [(["messages", 1, *path], type)]


@pytest.mark.parametrize(
    ("body", "path", "type"),
    [
        ({"messages": []}, ["messages"], "too_few"),
        ({"messages": [USER] * 101}, ["messages"], "too_many"),
        ({"messages": None}, ["messages"], "null"),
        ({"messages": {}}, ["messages"], "invalid"),
        ({"messages": [{**USER, "id": ID}, {**USER, "id": ID.upper()}]}, ["messages", 1, "id"], "repeated"),
        ({"messages": [USER], "session": []}, ["session", "_schema"], "invalid"),
        ({"messages": [USER], "session": {"archived": 1}}, ["session", "archived"], "invalid"),
    ],
)
def test_wrong_batch_is_named_by_its_path(body: Any, path: list[Any], type: str) -> None:
    assert errors_of(body) == [(path, type)]


def test_patch_changes_what_is_given() -> None:
    assert MessagePatch().load({"metadata": None, "images": None}) == {}
    assert MessagePatch().load({"images": [], "documents": ["a"], "status": "complete"}) == {
        "images": (),
        "attachments": (),
        "documents": ["a"],
        "status": "complete",
    }
    assert MessagePatch().load({"parts": [{"type": "text", "text": "a b"}]}) == {
        "content": "a b",
        "parts": b'[{"type":"text","text":"a b"}]',
        "part_attachments": (),
        "attachments": (),
    }
