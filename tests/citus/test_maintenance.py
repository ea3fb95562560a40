"""The commands of the coordinator to the nodes for imports, expiry and reindexing."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from support.chats import insert_chat
from support.remote_commands import RemoteCommands

from mai_sessions.config import Settings
from mai_sessions.expiry import Expiry
from mai_sessions.importers.model import Conversation
from mai_sessions.importers.prepare import Preparation
from mai_sessions.importers.reader import Export
from mai_sessions.importers.writer import store
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.database import Database
from mai_sessions.postgres.session_settings import connect
from mai_sessions.repository.reindex import (
    count_old_words,
    reindex,
    rewrite_message_words,
    rewrite_title_words,
)

FILES = sorted((Path(__file__).parents[1] / "importers" / "files").glob("*.json"))
USERS = [f"user{number}" for number in range(20)]


@pytest.fixture
def service_conn(database_url: str, conn: psycopg.Connection[Any]) -> Iterator[Connection]:
    """A connection as the service has them."""
    with connect(Settings(database_url=database_url)) as service_conn:
        yield service_conn


@pytest.fixture
def commands(service_conn: Connection) -> RemoteCommands:
    return RemoteCommands(service_conn)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_import_writes_on_one_node(service_conn: Connection, commands: RemoteCommands, file: Path) -> None:
    with Export(file) as export:
        found = [each for each in export.conversations() if isinstance(each, Conversation)]
        assert found
        for conversation in found:
            for word in ("new", "unchanged"):
                commands.clear()
                preparation = Preparation(conversation, file_name=file.name, count_tokens=len)
                assert store(service_conn, "ann", preparation).word == word
                commands.assert_one_node()
                assert ("INSERT" in commands.verbs) == (word == "new")


def test_expiry_and_retention_reach_every_node(database_url: str, conn: psycopg.Connection[Any]) -> None:
    for number, user_id in enumerate(USERS):
        insert_chat(conn, user_id, UUID(int=number))
        conn.execute(
            "INSERT INTO idempotency_keys (user_id, path, key, fingerprint, id, created_at)"
            " VALUES (%s, 'sessions', 'k', '', %s, %s)",
            [user_id, UUID(int=number), "2024-01-01Z"],
        )
        conn.execute(
            "UPDATE messages SET status = 'streaming', created_at = %s WHERE user_id = %s",
            ["2024-01-01Z", user_id],
        )
    settings = Settings(database_url=database_url, threads=1)
    database = Database(settings)
    try:
        with database.connection() as service_conn:
            commands = RemoteCommands(service_conn)
        expiry = Expiry(database, settings)
        assert expiry.purge() == {"idempotency_keys": 20, "streams": 20, "sessions": 0}
        conn.execute("UPDATE sessions SET updated_at = '2024-01-01Z'")
        assert expiry.purge(retention_days=30) == {"idempotency_keys": 0, "streams": 0, "sessions": 20}
        commands.assert_one_phase()
    finally:
        database.close()
    assert conn.execute("SELECT count(*) FROM messages").fetchone() == (0,)


def test_reindex_writes_on_one_node(
    service_conn: Connection, commands: RemoteCommands, conn: psycopg.Connection[Any]
) -> None:
    for number, user_id in enumerate(USERS):
        insert_chat(conn, user_id, UUID(int=number))
        conn.execute(
            "INSERT INTO session_titles (user_id, session_id, created_at, title, words)"
            " VALUES (%s, %s, now(), 'secret', '')",
            [user_id, UUID(int=number)],
        )
    conn.execute("UPDATE messages SET words = ''")
    assert count_old_words(service_conn) == (20, 20)
    for rewrite in (rewrite_message_words, rewrite_title_words):
        commands.clear()
        assert rewrite(service_conn, USERS[0], 100) == 1
        commands.assert_one_node()
    assert sum(sum(written) for written in reindex(service_conn, 100)) == 38
    assert count_old_words(service_conn) == (0, 0)
