"""The readers of the sources: odd files. The golden files are the ordinary ones."""

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.samples import GIF, png

from mai_sessions.importers.model import Conversation, UnreadableFile
from mai_sessions.importers.reader import Export, Refused

FILES = Path(__file__).parent / "files"


def read_all(path: Path, source: str | None = None) -> list[Conversation | Refused]:
    with Export(path, source) as export:
        found = list(export.conversations())
        assert len(found) == export.count
        return found


def read(path: Path, number: int = 0) -> Conversation:
    conversation = read_all(path)[number]
    assert isinstance(conversation, Conversation)
    return conversation


def write(tmp_path: Path, value: object) -> Path:
    path = tmp_path / "export"
    path.write_text(json.dumps(value))
    return path


def tree_of(conversation: Conversation) -> dict[str, str | None]:
    return {message.id: message.parent_id for message in conversation.messages}


def chatgpt(nodes: dict[str, dict[str, Any]], **members: object) -> list[dict[str, Any]]:
    """A ChatGPT export of one conversation; a node is its parent and the members of its message."""
    mapping = {}
    for key, node in nodes.items():
        message = {"author": {"role": "user"}, "content": {"content_type": "text", "parts": [key]}, **node}
        mapping[key] = {"id": key, "parent": message.pop("parent", None), "message": message}
    return [{"conversation_id": "c", "mapping": mapping, **members}]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("chatgpt.json", "chatgpt"),
        ("claude.json", "claude"),
        ("claude_single.json", "claude"),
        ("openwebui.json", "openwebui"),
        ("openwebui.ndjson", "openwebui"),
        ("librechat.json", "librechat"),
        ("librechat_tree.json", "librechat"),
    ],
)
def test_source_is_detected_by_content(tmp_path: Path, name: str, source: str) -> None:
    renamed = tmp_path / "download"
    renamed.write_bytes((FILES / name).read_bytes())
    assert {found.source for found in read_all(renamed) if isinstance(found, Conversation)} == {source}


def test_file_of_another_source_than_the_given_one_is_refused() -> None:
    with pytest.raises(UnreadableFile, match="no conversations of claude"):
        Export(FILES / "chatgpt.json", "claude")


def test_parents_come_before_their_children_in_every_file() -> None:
    for path in FILES.glob("*.*json"):
        for conversation in read_all(path):
            seen: set[str | None] = {None}
            for message in conversation.messages if isinstance(conversation, Conversation) else []:
                assert message.parent_id in seen, (path, message.id)
                seen.add(message.id)


def test_chatgpt_hidden_nodes_are_bridged_and_reasoning_goes_into_each_answer() -> None:
    conversation = read(FILES / "chatgpt.json")
    assert tree_of(conversation) == {"rules": None, "q": "rules", "a1": "q", "a2": "q"}
    assert conversation.head_id == "a2"
    assert (conversation.archived, conversation.metadata) == (True, {"pinned": True})
    first, second = conversation.messages[2:]
    assert (first.content, second.content) == ("Shadow, says a list.", "Inky or So")
    assert (first.model_id, second.model_id) == ("o3", "gpt-4o")
    assert (first.status, second.status) == ("complete", "interrupted")
    for answer in (first, second):
        assert [part["type"] for part in answer.parts or []][:3] == ["reasoning", "reasoning", "text"]


def test_chatgpt_unknown_parents_cycles_and_missing_times_lose_no_message() -> None:
    conversation = read(FILES / "chatgpt.json", 1)
    assert tree_of(conversation) == {
        "q": None, "call": "q", "result": "call", "answer": "result", "loop-1": None, "loop-2": "loop-1",
    }  # fmt: skip
    question, call, result, answer, *_ = conversation.messages
    assert question.created_at == conversation.created_at == datetime.fromtimestamp(1700001000, UTC)
    assert answer.created_at == result.created_at
    assert (call.role, result.role) == ("tool", "tool")
    assert (call.parts or [])[0]["content"] == {"content_type": "code", "language": "python", "text": "1 + 1"}


def test_chatgpt_entry_without_mapping_is_refused_alone() -> None:
    refused = read_all(FILES / "chatgpt.json")[2]
    assert refused == Refused("c-empty", "No mapping here", "it has no messages (no mapping)")


def test_chatgpt_unknown_content_is_kept_in_parts() -> None:
    odd = read(FILES / "chatgpt.json", 3)
    assert (odd.messages[0].content, odd.title) == (
        "a�b � c",
        "NUL � and half � an emoji",
    )
    assert odd.messages[1].parts == [{"type": "brand_new", "content_type": "brand_new", "payload": {"x": 1}}]
    assert odd.messages[1].is_error
    assert odd.messages[2].parts == [{"type": "reasoning", "text": "Cut off while thinking."}]
    assert odd.notes == ["characters that cannot be stored, now U+FFFD: 4"]


def test_chatgpt_times_of_children_before_their_parents_do_not_reorder_the_tree(tmp_path: Path) -> None:
    nodes = {
        "late": {"parent": "early", "create_time": 1.0},
        "early": {"create_time": 9.0},
        "first": {"create_time": 5.0},
    }
    assert list(tree_of(read(write(tmp_path, chatgpt(nodes))))) == ["first", "early", "late"]


def test_chatgpt_images_come_out_of_the_zip(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conversations-000.json", (FILES / "chatgpt.json").read_bytes())
        archive.writestr("user-1/file_0001-cat.dat", png())
    with Export(path) as export:
        conversation = list(export.conversations())[1]
        assert isinstance(conversation, Conversation)
        assert [image.load() for image in conversation.messages[0].images] == [png()]
    assert conversation.messages[0].documents == ["report.pdf", "file-gone"]


@pytest.mark.parametrize(
    "metadata",
    [
        {
            "aggregate_result": {
                "messages": [{"message_type": "stream"}, {"image_url": "file-service://file-1"}]
            }
        },
        {"attachments": [{"id": "file-1", "name": "cat.png", "mimeType": "image/png"}]},
    ],
    ids=["code_interpreter", "old_attachment"],
)
def test_chatgpt_images_that_only_the_metadata_name_are_kept(
    tmp_path: Path, metadata: dict[str, object]
) -> None:
    path = tmp_path / "export.zip"
    content = {"content_type": "execution_output", "text": "<Figure>"}
    nodes = {"m": {"author": {"role": "tool"}, "content": content, "metadata": metadata}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conversations.json", json.dumps(chatgpt(nodes)))
        archive.writestr("file-1-cat.png", png())
    with Export(path) as export:
        [conversation] = export.conversations()
        assert isinstance(conversation, Conversation)
        assert [image.load() for image in conversation.messages[0].images] == [png()]


def test_chinese_brackets_are_not_taken_for_citations(tmp_path: Path) -> None:
    content = {"content_type": "text", "parts": ["【注意】见【12:3†source】和【4】"]}
    assert read(write(tmp_path, chatgpt({"m": {"content": content}}))).messages[0].content == "【注意】见和"


def test_chatgpt_conversation_of_20000_messages_is_read(tmp_path: Path) -> None:
    nodes = {f"m{i}": {"parent": f"m{i - 1}", "create_time": 1e9 + i} for i in range(20_000)}
    conversation = read(write(tmp_path, chatgpt(nodes, current_node="m19999")))
    assert len(conversation.messages) == 20_000
    assert conversation.head_id == conversation.messages[-1].id == "m19999"


def test_claude_branches_blocks_and_attachments_are_kept() -> None:
    conversation = read(FILES / "claude.json")
    assert conversation.title == "**Overview** A talk about primes."
    assert tree_of(conversation) == {"h1": None, "a1b": "h1", "a1": "h1", "a2": "a1"}
    assert conversation.head_id == "a2"
    question, _, answer, _ = conversation.messages
    assert question.documents == ["paste.txt", "board.png"]
    assert (question.parts or [])[1]["extracted_content"] == "91=7*13"
    assert answer.content == "No: 7 \N{MULTIPLICATION SIGN} 13."
    assert [part["type"] for part in answer.parts or []] == ["thinking", "tool_use", "tool_result", "text"]


def test_claude_file_without_parents_is_linear() -> None:
    assert tree_of(read(FILES / "claude.json", 1)) == {"o1": None, "o2": "o1", "o3": "o2"}


def test_claude_conversation_without_messages_is_kept() -> None:
    empty = read(FILES / "claude.json", 2)
    assert (empty.title, empty.messages, empty.head_id) == ("Nothing said", [], None)


def test_claude_pointer_to_the_shown_leaf_wins_over_the_newest() -> None:
    single = read(FILES / "claude_single.json")
    assert (single.head_id, single.metadata, single.origin) == (
        "x2",
        {"pinned": True},
        {"project_uuid": "p-1"},
    )
    assert [message.model_id for message in single.messages] == [None, "claude-sonnet-4", "claude-sonnet-4"]


def test_openwebui_history_wins_over_the_copy_and_details_become_parts() -> None:
    chat = read(FILES / "openwebui.json")
    assert tree_of(chat) == {"u": None, "a": "u", "b": "u", "d": None}
    assert (chat.head_id, chat.metadata) == ("b", {"pinned": True, "tags": ["weather", "oslo"]})
    question, rendered, structured, half = chat.messages
    assert question.content == "Rain in Oslo?"
    assert [image.load() for image in question.images] == [GIF]
    assert question.documents == ["map.png", "oslo.pdf"]
    assert rendered.content == "Yes, it rains."
    assert (rendered.parts or [])[0]["text"] == "It is <Oslo>.\nLook it up."
    assert (rendered.parts or [])[1]["arguments"] == '"{\\"city\\": \\"Oslo\\"}"'
    assert rendered.metadata == {"usage": {"total_tokens": 12}, "feedback": "up"}
    assert [part["type"] for part in structured.parts or []] == [
        "reasoning", "message", "function_call", "function_call_output", "sources",
    ]  # fmt: skip
    assert half.status == "interrupted"


def test_openwebui_old_chat_is_a_chain_and_its_times_are_milliseconds() -> None:
    old = read(FILES / "openwebui.json", 1)
    assert [message.content for message in old.messages] == ["In parts", "As text�"]
    assert tree_of(old) == {"#0": None, "#1": "#0"}
    assert old.created_at == datetime.fromtimestamp(1690000000, UTC)


def test_librechat_role_is_who_created_the_message_and_content_is_read_where_text_is_empty() -> None:
    conversation = read(FILES / "librechat.json")
    assert tree_of(conversation) == {"r1": None, "r3": "r1", "r2": "r1", "r4": "r2"}
    question, stopped, answer, failed = conversation.messages
    assert (question.role, answer.role) == ("user", "assistant")
    assert question.documents == ["fridge.jpg"]
    assert stopped.status == "interrupted"
    assert (answer.content, answer.token_count) == ("Leek soup.", 7)
    assert [part["type"] for part in answer.parts or []] == ["think", "tool_call", "text"]
    assert failed.is_error


def test_librechat_tree_of_3000_levels_is_read(tmp_path: Path) -> None:
    inner = "[]"
    for level in range(2999, -1, -1):
        inner = f'[{{"messageId":"m{level}","isCreatedByUser":true,"text":"{level}","children":{inner}}}]'
    path = tmp_path / "export"
    path.write_text(f'{{"conversationId":"c","recursive":true,"messagesTree":{inner}}}')
    conversation = read(path)
    assert [message.content for message in conversation.messages] == [str(level) for level in range(3000)]
    assert conversation.head_id == "m2999"


@pytest.mark.parametrize(
    ("url", "name", "stored"),
    [
        ("data:text/plain;base64,YQ==", "a" * 300, ("text/plain", "a" * 255)),
        ("data:text/plain;charset=utf-8;base64,YQ==", "", ("text/plain", None)),
        ("data:no type;base64,YQ==", "a", ("application/octet-stream", "a")),
        (f"data:{'x' * 300}/y;base64,YQ==", "a", ("application/octet-stream", "a")),
    ],
)
def test_mai_file_of_any_name_and_type_can_be_stored(
    tmp_path: Path, url: str, name: str, stored: tuple[str, str | None]
) -> None:
    session = {"id": "c", "agent_name": "chat", "message_count": 0, "messages": []}
    conversation = read(write(tmp_path, {**session, "attachments": [{"url": url, "name": name}]}))
    assert [(file.content_type, file.file_name) for file in conversation.files] == [stored]


@pytest.mark.parametrize("source", ["chatgpt", "claude", "openwebui", "librechat", "mai"])
@pytest.mark.parametrize("junk", [None, 1, "x", [], {}, [None, 1, "x", {}], {"x": None}])
def test_members_of_any_type_are_read_or_refused(tmp_path: Path, source: str, junk: object) -> None:
    """Each member of a conversation and of a message in turn has an unexpected type."""
    samples = {
        "chatgpt": json.loads((FILES / "chatgpt.json").read_text())[0],
        "claude": json.loads((FILES / "claude.json").read_text())[0],
        "openwebui": json.loads((FILES / "openwebui.json").read_text())[0],
        "librechat": json.loads((FILES / "librechat.json").read_text()),
        "mai": {
            "id": "c",
            "agent_name": "chat",
            "message_count": 1,
            "messages": [{"id": "m", "role": "user"}],
        },
    }
    samples["openwebui"].pop("user_id")
    variants = [samples[source]]
    for place in _objects_in(samples[source]):
        for key, value in place.items():
            place[key] = junk
            variants.append(json.loads(json.dumps(samples[source])))
            place[key] = value
    for found in read_all(write(tmp_path, variants), source):
        assert isinstance(found, Conversation | Refused)


def _objects_in(value: object) -> list[dict[str, Any]]:
    inner = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    found = [place for item in inner for place in _objects_in(item)]
    return [*found, value] if isinstance(value, dict) else found
