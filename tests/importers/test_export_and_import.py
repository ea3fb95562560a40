"""An export imported into an empty database gives equal sessions."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from support.samples import GIF, png

from mai_sessions.content.attachments import LINK, Attachment
from mai_sessions.content.parts import dump_json
from mai_sessions.importers.model import Conversation
from mai_sessions.importers.prepare import Preparation
from mai_sessions.importers.reader import Export
from mai_sessions.importers.writer import store
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository.exports import stream_export
from mai_sessions.repository.imports import Batch, ImportedMessage, ImportedSession, write_batch

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
names = texts.map(lambda text: text[:20]).filter(lambda text: text.strip() == text and text)
numbers = st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False, width=32)
values = st.recursive(
    st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, values, max_size=3)
times = st.datetimes(datetime(2000, 1, 1), datetime(2026, 1, 1), timezones=st.just(UTC))
attachments = [
    Attachment(sha256(content).hexdigest(), content_type, content, name)
    for content, content_type, name in (
        (png(), "image/png", None),
        (GIF, "image/gif", None),
        (b"%PDF-1.7", "application/pdf", "a.pdf"),
    )
]
IMAGES, FILE = attachments[:2], attachments[2]


@st.composite
def messages(draw: st.DrawFn) -> list[ImportedMessage]:
    """Messages with gaps between their numbers, each below any before it or below none."""
    seqs = sorted(draw(st.sets(st.integers(1, 400), max_size=8)))
    made = []
    for place, seq in enumerate(seqs):
        parent_seq = draw(st.sampled_from([None, 0, *seqs[:place]]))
        parts = draw(st.none() | st.lists(objects, max_size=3))
        linked = [FILE] if parts is not None and draw(st.booleans()) else []
        if parts is not None and linked:
            parts.append({"type": "file", "url": LINK + FILE.sha256})
        images = draw(st.lists(st.sampled_from(IMAGES), max_size=3))
        created_at = draw(times)
        made.append(
            ImportedMessage(
                id=draw(st.uuids()),
                seq=seq,
                parent_seq=parent_seq,
                role=draw(st.sampled_from(["user", "assistant", "system", "tool"])),
                content=draw(texts),
                token_count=draw(st.integers(0, 2**31 - 1)),
                model_id=draw(st.none() | names),
                agent_name=draw(st.none() | names),
                response_time_ms=draw(st.none() | st.floats(0, 1e9)),
                is_error=draw(st.booleans()),
                images=[image.sha256 for image in images],
                documents=draw(st.lists(names, max_size=3)),
                parts=None if parts is None else dump_json(parts),
                part_attachments=[file.sha256 for file in linked],
                metadata=dump_json(draw(objects)),
                status=draw(st.sampled_from(["complete", "streaming", "interrupted"])),
                created_at=created_at,
                updated_at=draw(st.none() | times),
                attachments=[*images, *linked],
            )
        )
    return made


@st.composite
def sessions(draw: st.DrawFn) -> tuple[ImportedSession, Batch]:
    """A session and its messages."""
    made = draw(messages())
    created_at, updated_at = sorted([draw(times), draw(times)])
    session = ImportedSession(
        title=draw(names),
        agent_name=draw(names),
        model_id=draw(st.none() | names),
        archived=draw(st.booleans()),
        created_at=created_at,
        updated_at=updated_at,
        metadata=dump_json(draw(objects)),
    )
    head_seq = draw(st.sampled_from([message.seq for message in made])) if made else None
    return session, Batch(made, head_seq, True, updated_at, None)


@settings(max_examples=15, phases=[Phase.explicit, Phase.generate])
@given(st.lists(sessions(), max_size=3))
def test_export_that_is_imported_is_exported_equal(
    conn: Connection, given: list[tuple[ImportedSession, Batch]]
) -> None:
    empty(conn)
    for number, (session, batch) in enumerate(given):
        assert write_batch(conn, "ann", UUID(int=number), session, batch)
    before = export(conn, "ann")
    references = count_references(conn, "ann")
    # Another user may have the same ids. Last into an empty database.
    for user_id in ("bob", "ann"):
        if user_id == "ann":
            empty(conn)
        import_lines(conn, user_id, before)
        after = export(conn, user_id)
        assert len(after) == len(before)
        for line, same in zip(before, after, strict=True):
            assert differences(comparable(line), comparable(same)) == []
        assert count_references(conn, user_id) == references


def empty(conn: Connection) -> None:
    conn.execute("TRUNCATE users, sessions, attachments, idempotency_keys CASCADE")


def count_references(conn: Connection, user_id: str) -> list[Any]:
    query = "SELECT sha256, reference_count FROM attachments WHERE user_id = %s ORDER BY 1"
    return conn.execute(query, [user_id]).fetchall()


def export(conn: Connection, user_id: str) -> list[bytes]:
    return b"".join(stream_export(lambda: _lent(conn), user_id, with_files=True)).splitlines(keepends=True)


@contextmanager
def _lent(conn: Connection) -> Iterator[Connection]:
    yield conn


def import_lines(conn: Connection, user_id: str, lines: list[bytes]) -> None:
    if not lines:
        return
    with TemporaryDirectory() as directory:
        path = Path(directory, "export.ndjson")
        path.write_bytes(b"".join(lines))
        with Export(path) as file:
            assert file.sources == ["mai"]
            for found in file.conversations():
                assert isinstance(found, Conversation), found
                preparation = Preparation(found, file_name=path.name, count_tokens=len)
                assert store(conn, user_id, preparation).word == "new"
                assert preparation.notes == {}


def comparable(line: bytes) -> dict[str, Any]:
    """A line without the members that differ in a new database."""
    value: dict[str, Any] = json.loads(line)
    del value["version"]
    return value


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """The paths to what differs, with both values."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [found for key in one for found in differences(one[key], other[key], f"{path}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [found for place, pair in pairs for found in differences(*pair, f"{path}[{place}]")]
    return [] if one == other else [f"{path}: {one!r} is {other!r}"]
