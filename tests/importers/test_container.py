"""Files for the importer: refusals and their messages."""

import gzip
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from support.samples import png

from mai_sessions.importers import container
from mai_sessions.importers.model import Conversation, UnreadableFile
from mai_sessions.importers.reader import Export

CHAT = {"id": "c", "mapping": {"m": {"message": {"author": {"role": "user"}, "content": {"parts": ["hi"]}}}}}


def zip_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def encrypted() -> bytes:
    """A zip file whose only member is marked as encrypted, in both places where that stands."""
    data = bytearray(zip_of({"conversations.json": json.dumps([CHAT]).encode()}))
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(signature) + offset] |= 1
    return bytes(data)


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("conversations.json"))
    return file.getvalue()


def damaged() -> bytes:
    data = bytearray(zip_of({"conversations.json": json.dumps([CHAT] * 50).encode()}, zipfile.ZIP_STORED))
    data[100] ^= 0xFF
    return bytes(data)


def one_chat_of(user: str) -> dict[str, object]:
    return {"id": user, "user_id": user, "chat": {"messages": [{"role": "user", "content": "hi"}]}}


FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", "it is empty"),
    "text": (lambda: b"Dear diary", "neither a zip file nor JSON"),
    "image": (png, "neither a zip file nor JSON"),
    "other JSON": (lambda: b'{"name": "x", "dependencies": []}', "no conversations of a kind that is known"),
    "numbers": (lambda: b"[1, 2, 3]", "no conversations of a kind that is known"),
    "empty array": (lambda: b"[]", "it holds no conversations$"),
    "UTF-16": (lambda: json.dumps([CHAT]).encode("utf-16"), "it is UTF-16; save it as UTF-8"),
    "UTF-16 without a mark": (lambda: json.dumps([CHAT]).encode("utf-16-le"), "it is UTF-16"),
    "gzip": (lambda: gzip.compress(json.dumps([CHAT]).encode()), "packed by gzip: unpack it first"),
    "7-Zip": (lambda: b"7z\xbc\xaf\x27\x1c\0\4", "packed by 7-Zip: unpack it first"),
    "tar": (tar, "it is a tar file: unpack it first"),
    "web page": (lambda: b"<!DOCTYPE html><html>Log in</html>", "neither a zip file nor JSON"),
    "truncated JSON": (lambda: json.dumps([CHAT, CHAT]).encode()[:-5], "it ends too early"),
    "truncated NDJSON": (lambda: json.dumps(CHAT).encode() + b'\n{"id": "', "it ends too early"),
    "truncated zip": (lambda: zip_of({"conversations.json": b"[]"})[:-30], "damaged or incomplete zip"),
    "beginning of a zip": (lambda: b"PK\3\4", "damaged or incomplete zip"),
    "damaged member": (damaged, "it is damaged"),
    "zip of text": (lambda: zip_of({"readme.txt": b"hi"}), "a zip file without JSON documents"),
    "zip in a zip": (
        lambda: zip_of({"export/chats.zip": zip_of({"conversations.json": b"[]"})}),
        "it holds another zip file: unpack it first",
    ),
    "empty zip": (lambda: zip_of({}), "a zip file without JSON documents"),
    "path upwards": (lambda: zip_of({"../conversations.json": b"[]"}), "a path outside of itself"),
    "path upwards inside": (lambda: zip_of({"a/../../x.json": b"[]"}), "a path outside of itself"),
    "absolute path": (lambda: zip_of({"/etc/x.json": b"[]"}), "a path outside of itself"),
    "Windows path": (lambda: zip_of({"..\\x.json": b"[]"}), "a path outside of itself"),
    "drive": (lambda: zip_of({"C:/x.json": b"[]"}), "a path outside of itself"),
    "password": (encrypted, "protected by a password"),
    "chats of several users": (
        lambda: json.dumps([one_chat_of("u-1"), one_chat_of("u-2"), one_chat_of("u-1")]).encode(),
        "it holds the chats of 2 users",
    ),
}


@pytest.mark.parametrize(("content", "reason"), FILES.values(), ids=FILES.keys())
def test_file_that_cannot_be_imported_is_refused_with_its_reason(
    tmp_path: Path, content: Callable[[], bytes], reason: str
) -> None:
    file = tmp_path / "export"
    file.write_bytes(content())
    with pytest.raises(UnreadableFile, match=reason) as error:
        Export(file)
    assert "\n" not in str(error.value)


def test_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="it is a directory"):
        Export(tmp_path)


def test_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UnreadableFile, match="it is a pipe or device"):
        Export(tmp_path / "pipe")


def test_bad_line_of_ndjson_is_refused_alone(tmp_path: Path) -> None:
    file = tmp_path / "export"
    lines = [CHAT, CHAT | {"id": "d"}, CHAT | {"id": "e"}]
    good, better, best = (json.dumps(line).encode() for line in lines)
    file.write_bytes(
        b"\n".join([b"\xef\xbb\xbf" + good, b"not JSON", better, b'{"id": nonsense}', best, b"end"])
    )
    with Export(file) as export:
        found = [
            each.id if isinstance(each, Conversation) else each.reason for each in export.conversations()
        ]
    bad = "it is malformed JSON"
    assert found == ["c", bad, "d", bad, "e", bad]


@pytest.mark.parametrize("name", ["photo.png", "export.txt", "conversations.json"])
def test_zip_file_is_recognized_under_any_name(tmp_path: Path, name: str) -> None:
    with (
        zipfile.ZipFile(tmp_path / name, "w") as archive,
        archive.open("a.json", "w", force_zip64=True) as member,
    ):
        member.write(json.dumps([CHAT]).encode())
    (tmp_path / "link").symlink_to(tmp_path / name)
    with Export(tmp_path / "link") as export:
        assert export.count == 1


def test_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        Export(tmp_path / "nowhere.zip")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any file")
def test_unreadable_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "export.json"
    file.touch(0)
    file.chmod(0)
    with pytest.raises(UnreadableFile, match="Permission denied"):
        Export(file)


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(container, "_HARMLESS_BYTES", 1000)
    file = tmp_path / "export.zip"
    file.write_bytes(zip_of({"conversations.json": b"[" + b" " * 10_000_000 + b"]"}))
    with pytest.raises(UnreadableFile, match="that is a zip bomb"):
        Export(file)


def test_documents_without_conversations_are_skipped(tmp_path: Path) -> None:
    file = tmp_path / "export.zip"
    members = {
        "__MACOSX/._conversations.json": b"\0\5\26",
        "conversations-000.json": json.dumps([CHAT]).encode(),
        "conversations-001.json": json.dumps([CHAT | {"id": "d"}]).encode(),
        "shared_conversations.json": b'[{"id": "c", "title": "x"}]',
        "user.json": b'{"id": "user-1"}',
        "empty.json": b"",
        "chat.html": b"<html>",
    }
    file.write_bytes(zip_of(members))
    with Export(file) as export:
        assert (export.count, export.sources) == (2, ["chatgpt"])
        assert export.ignored == ["empty.json", "shared_conversations.json", "user.json"]
        assert [conversation.id for conversation in export.conversations()] == ["c", "d"]
