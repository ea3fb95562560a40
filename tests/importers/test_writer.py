"""Storing conversations: the rows after one run, a second run, and two concurrent runs."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from support.races import at_once
from support.samples import png

from mai_sessions.content.attachments import Attachment
from mai_sessions.importers import writer
from mai_sessions.importers.model import Conversation, Image, Message
from mai_sessions.importers.prepare import Preparation
from mai_sessions.importers.reader import Export
from mai_sessions.importers.writer import Outcome, store
from mai_sessions.postgres.connection import Connection

USER = "ann"
TOTALS = "(SELECT * FROM daily_usage WHERE part = 'total') AS totals"
START = datetime(2024, 1, 1, tzinfo=UTC)


def words(text: str) -> int:
    return len(text.split())


def conversation(count: int, **fields: Any) -> Conversation:
    """Make a conversation of questions and answers, a second apart."""
    messages = [
        Message(
            f"m{number}",
            f"m{number - 1}" if number else None,
            "assistant" if number % 2 else "user",
            f"text {number}",
            created_at=START + timedelta(seconds=number),
        )
        for number in range(count)
    ]
    head = messages[-1].id if messages else None
    given = {"title": "Title", "created_at": START, "head_id": head, **fields}
    return Conversation("chatgpt", "c", messages=messages, **given)


def run(conn: Connection, given: Conversation, *, dry_run: bool = False) -> Outcome:
    preparation = Preparation(given, file_name="export.zip", count_tokens=words)
    return store(conn, USER, preparation, dry_run=dry_run)


def rows(conn: Connection, columns: str, table: str = "messages", order: str = "seq") -> list[Any]:
    found = conn.execute(f"SELECT {columns} FROM {table} WHERE user_id = %s ORDER BY {order}", [USER])
    return [row[0] if len(row) == 1 else row for row in found.fetchall()]


def session(conn: Connection, columns: str) -> Any:
    [row] = rows(conn, columns, "sessions", "id")
    return row


def test_conversation_is_stored_as_a_session(conn: Connection) -> None:
    assert run(conn, conversation(250, archived=True, metadata={"pinned": True})) == Outcome("new", 250)
    columns = "title, message_count, last_seq, newest_seq, head_seq, archived, is_branched, has_metadata, "
    columns += "created_at"
    assert session(conn, columns) == ("Title", 250, 250, 250, 250, True, False, True, START)
    assert session(conn, "updated_at, last_message_preview") == (START + timedelta(seconds=249), "text 249")
    assert rows(conn, "content") == [f"text {number}" for number in range(250)]
    assert set(rows(conn, "parent_seq")) == {None}
    [metadata] = rows(conn, "metadata", "session_titles", "session_id")
    origin = {"source": "chatgpt", "id": "c", "file": "export.zip"}
    until = (START + timedelta(seconds=249)).isoformat()
    assert json.loads(metadata) == {"pinned": True, "import": {**origin, "until": until}}
    assert rows(conn, "session_count, archived_count", "users", "1") == [(1, 1)]
    assert sum(rows(conn, "message_count", TOTALS, "day")) == 250


def test_second_run_changes_nothing(conn: Connection) -> None:
    run(conn, conversation(150))
    before = session(conn, "version, updated_at")
    assert run(conn, conversation(150)) == Outcome("unchanged", 0)
    assert session(conn, "version, updated_at") == before


def test_new_messages_of_the_file_are_added(conn: Connection) -> None:
    run(conn, conversation(3))
    assert run(conn, conversation(205, title="Renamed in the file")) == Outcome("grown", 202)
    assert session(conn, "title, message_count, head_seq, is_branched") == ("Title", 205, 205, False)


def test_dry_run_says_the_same_and_stores_nothing(conn: Connection) -> None:
    assert run(conn, conversation(3), dry_run=True) == Outcome("new", 3)
    assert rows(conn, "id", "sessions", "id") == []
    run(conn, conversation(3))
    assert run(conn, conversation(5), dry_run=True) == Outcome("grown", 2)
    assert run(conn, conversation(3), dry_run=True) == Outcome("unchanged", 0)
    assert session(conn, "message_count") == 3


def test_branches_keep_their_parents_and_the_shown_head(conn: Connection) -> None:
    given = conversation(4, head_id="m3")
    given.messages.append(
        Message("other", "m0", "assistant", "other", created_at=START + timedelta(seconds=9))
    )
    given.messages.append(Message("first", None, "user", "first", created_at=START + timedelta(seconds=10)))
    run(conn, given)
    assert rows(conn, "parent_seq") == [None, None, None, None, 1, 0]
    assert session(conn, "head_seq, is_branched, last_message_preview") == (4, True, "text 3")
    [head_id] = rows(conn, "head_id", "sessions", "id")
    assert head_id == rows(conn, "id")[3]


def test_growth_moves_the_head_unless_the_user_continued_elsewhere(conn: Connection) -> None:
    run(conn, conversation(2))
    run(conn, conversation(3))
    assert session(conn, "head_seq") == 3
    own = UUID(int=7)
    conn.execute(
        "INSERT INTO messages SELECT (jsonb_populate_record(m, jsonb_build_object('id', %s::text, 'seq', 4,"
        " 'content', 'own'))).* FROM messages AS m WHERE seq = 3",
        [str(own)],
    )
    conn.execute(
        "UPDATE sessions SET last_seq = 4, newest_seq = 4, head_seq = 4, head_id = %s, message_count = 4",
        [own],
    )
    assert run(conn, conversation(5)) == Outcome("grown", 2)
    assert session(conn, "head_id, head_seq, is_branched, last_message_preview") == (own, 4, True, "own")
    assert rows(conn, "parent_seq") == [None, None, None, None, 3, None]


def test_deleted_message_does_not_return_and_its_children_are_bridged(conn: Connection) -> None:
    run(conn, conversation(3))
    conn.execute("DELETE FROM messages WHERE seq = 3")
    conn.execute(
        "UPDATE sessions SET newest_seq = 2, head_seq = 2, message_count = 2, version = %s", [uuid4()]
    )
    assert run(conn, conversation(3)) == Outcome("unchanged", 0)
    assert run(conn, conversation(4)) == Outcome("grown", 1)
    assert rows(conn, "content") == ["text 0", "text 1", "text 3"]
    assert rows(conn, "seq") == [1, 2, 4]
    assert rows(conn, "parent_seq") == [None, None, None]


def delete_message(conn: Connection, seq: int) -> None:
    conn.execute("DELETE FROM messages WHERE seq = %s", [seq])
    conn.execute("UPDATE sessions SET message_count = message_count - 1, version = %s", [uuid4()])


def test_deleted_message_without_a_time_does_not_return(conn: Connection) -> None:
    given = conversation(4)
    given.messages[1].is_undated = given.messages[3].is_undated = True
    run(conn, conversation(3))
    delete_message(conn, 2)
    assert run(conn, given) == Outcome("grown", 1)
    assert rows(conn, "content") == ["text 0", "text 2", "text 3"]


@pytest.mark.parametrize("seconds", [2, 1.999], ids=["as_old_as_the_newest", "older_than_the_newest"])
def test_new_message_is_added_whatever_its_time(conn: Connection, seconds: float) -> None:
    run(conn, conversation(3))
    given = conversation(3, head_id="answer")
    given.messages.append(
        Message("result", "m2", "tool", "result", created_at=START + timedelta(seconds=seconds))
    )
    given.messages.append(
        Message("answer", "result", "assistant", "answer", created_at=START + timedelta(seconds=3))
    )
    assert run(conn, given) == Outcome("grown", 2)
    assert rows(conn, "content") == ["text 0", "text 1", "text 2", "result", "answer"]
    assert session(conn, "head_seq, is_branched") == (5, False)


@pytest.mark.parametrize("batches", [0, 1, 2])
def test_killed_run_is_completed_by_the_next(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, batches: int
) -> None:
    class Killed(Exception):
        pass

    written = 0
    write_batch = writer.write_batch

    def write_some(*args: Any) -> Any:
        nonlocal written
        if written == batches:
            raise Killed
        written += 1
        return write_batch(*args)

    monkeypatch.setattr(writer, "write_batch", write_some)
    with pytest.raises(Killed):
        run(conn, conversation(250))
    monkeypatch.undo()
    assert run(conn, conversation(250)).word == ("grown" if batches else "new")
    assert rows(conn, "content") == [f"text {number}" for number in range(250)]
    assert session(conn, "message_count, head_seq, is_branched") == (250, 250, False)
    assert sum(rows(conn, "message_count", TOTALS, "day")) == 250


def test_runs_at_once_store_everything_once(conn: Connection, database_url: str) -> None:
    def import_it(_: int) -> None:
        with Connection.connect(database_url, autocommit=True, options="-c timezone=UTC") as own:
            run(own, conversation(450))

    at_once(4, import_it)
    assert rows(conn, "content") == [f"text {number}" for number in range(450)]
    assert session(conn, "message_count") == 450
    assert rows(conn, "session_count", "users", "1") == [1]


def test_images_and_files_are_stored_once_and_counted(conn: Connection) -> None:
    given = conversation(2)
    link = Attachment("a" * 64, "application/pdf", b"%PDF", "a.pdf")
    given.messages[0].images = [Image("a.png", png), Image("b.png", png), Image("c.doc", lambda: b"no image")]
    given.messages[1].images = [Image("a.png", png)]
    given.messages[1].parts = [{"type": "file", "url": f"/api/v1/attachments/{link.sha256}"}]
    given.files = [link]
    preparation = Preparation(given, file_name="x", count_tokens=words)
    # The database checks no more than the form of a name.
    store(conn, USER, preparation)
    assert rows(conn, "cardinality(images)") == [2, 1]
    assert rows(conn, "documents") == [["c.doc"], []]
    counted = rows(conn, "content_type, reference_count, file_name", "attachments", "content_type")
    assert counted == [("application/pdf", 1, "a.pdf"), ("image/png", 2, None)]
    assert preparation.notes == {"images that cannot be read, kept by name": 1}


def test_values_over_a_limit_are_cut_and_noted(conn: Connection) -> None:
    given = conversation(1, metadata={"big": "x" * 20_000, "pinned": True}, agent_name="a" * 200)
    given.title = "t" * 300
    deep: Any = {}
    for _ in range(2000):
        deep = {"deep": deep}
    message = given.messages[0]
    message.parts = [
        {"type": "text", "text": "x" * 400_000},
        {"type": "image", "url": "data:image/png;base64,@" + "x" * 2000},
    ]
    message.documents = [f"{number}{'n' * 300}" for number in range(25)]
    message.model_id = "m" * 300
    given.messages.append(Message("deep", "m0", "odd", "", parts=[deep], created_at=START))
    preparation = Preparation(given, file_name="x", count_tokens=words)
    assert store(conn, USER, preparation).word == "new"
    assert session(conn, "length(title), length(agent_name)") == (255, 100)
    assert rows(conn, "length(parts::text) < 262144, cardinality(documents), length(model_id)")[0] == (
        True,
        20,
        255,
    )
    assert rows(conn, "role, parts")[1] == ("user", None)
    assert set(preparation.notes) == {
        "metadata too large, left out",
        "names of documents above 20 of one message",
        "parts nested too deeply, left out",
        "parts too large, texts in them cut",
        "values in parts that cannot be read",
    }


def test_times_in_the_future_become_now(conn: Connection) -> None:
    given = conversation(1, updated_at=datetime(2300, 1, 1, tzinfo=UTC))
    given.messages[0].created_at = datetime(2300, 1, 1, tzinfo=UTC)
    run(conn, given)
    assert session(conn, "updated_at <= now()") is True
    assert rows(conn, "created_at <= now()") == [True]


def test_every_fixture_is_stored_and_then_unchanged(conn: Connection) -> None:
    for path in sorted((Path(__file__).parent / "files").iterdir()):
        for word in ("new", "unchanged"):
            with Export(path) as export:
                found = [each for each in export.conversations() if isinstance(each, Conversation)]
                assert {run(conn, each).word for each in found} == {word}, path
    assert session_count(conn) == rows(conn, "session_count", "users", "1")[0]


def session_count(conn: Connection) -> int:
    return len(rows(conn, "id", "sessions", "id"))


def test_users_do_not_see_each_others_imports(
    conn: Connection, monkeypatch: pytest.MonkeyPatch, make_migrated_database: Callable[[], str]
) -> None:
    run(conn, conversation(2))
    monkeypatch.setattr(f"{__name__}.USER", "bob")
    assert run(conn, conversation(2)) == Outcome("new", 2)
