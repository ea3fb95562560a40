"""Backup and restore of a distributed database."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from support.chats import insert_chat
from support.citus import SHARDS, nodes

from mai_sessions.embedded.backup import backup, restore
from mai_sessions.errors import StartupError

USERS = [f"user{number}" for number in range(20)]
DISTRIBUTED = "SELECT count(*) FROM pg_dist_partition WHERE partmethod = 'h'"
SHARDS_OF_SESSIONS = "SELECT count(*) FROM pg_dist_shard WHERE logicalrelid = 'sessions'::regclass"

pytestmark = pytest.mark.skipif(
    shutil.which("pg_dump") is None, reason="PostgreSQL's client programs are not on the PATH"
)


def progress(size: int) -> None:
    pass


def rows(url: str) -> dict[str, list[str]]:
    tables = ["users", "sessions", "messages", "schema_migrations"]
    with psycopg.connect(url) as conn:
        select = "SELECT {0}::text FROM {0} ORDER BY 1"
        return {table: conn.execute(select.format(table).encode()).fetchall() for table in tables}


@pytest.fixture(scope="module")
def database_url(make_migrated_database: Callable[[], str]) -> str:
    """A database of this module's own: a restored one has no rights for the role of the service."""
    return make_migrated_database()


@pytest.fixture
def file(database_url: str, conn: psycopg.Connection, tmp_path: Path) -> Iterator[Path]:
    """A backup of a session of each of the users."""
    for number, user_id in enumerate(USERS):
        insert_chat(conn, user_id, UUID(int=number))
    backup(database_url, tmp_path / "chats.dump", progress=progress)
    return tmp_path / "chats.dump"


def test_database_is_restored_distributed(database_url: str, file: Path, conn: psycopg.Connection) -> None:
    before = rows(database_url)
    conn.execute("DELETE FROM messages")
    with pytest.raises(StartupError, match="the database has rows in"):
        restore(database_url, file, progress=progress)
    restore(database_url, file, force=True, progress=progress)
    for node in nodes(database_url):
        assert rows(node.url) == before
        assert node.run(DISTRIBUTED) == 7
        assert node.run(SHARDS_OF_SESSIONS) == SHARDS


def test_backup_of_a_cluster_is_restored_on_another(
    database_url: str, file: Path, new_cluster_database: str
) -> None:
    restore(new_cluster_database, file, progress=progress)
    assert rows(new_cluster_database) == rows(database_url)
    for node in nodes(new_cluster_database):
        assert node.run(DISTRIBUTED) == 7
        assert node.run(SHARDS_OF_SESSIONS) == 64


def test_backup_of_a_cluster_is_restored_without_citus(
    database_url: str, file: Path, new_database: str
) -> None:
    restore(new_database, file, progress=progress)
    assert rows(new_database) == rows(database_url)
    with psycopg.connect(new_database) as conn:
        assert conn.execute("SELECT count(*) FROM pg_extension WHERE extname LIKE 'citus%'").fetchone() == (
            0,
        )


def test_restore_is_refused_on_a_worker(database_url: str, file: Path) -> None:
    before = rows(database_url)
    with pytest.raises(StartupError, match="operation is not allowed on this node"):
        restore(nodes(database_url)[1].url, file, force=True, progress=progress)
    assert rows(database_url) == before


def test_backup_may_be_taken_on_a_worker(
    database_url: str, file: Path, tmp_path: Path, new_database: str
) -> None:
    backup(nodes(database_url)[1].url, tmp_path / "worker.dump", progress=progress)
    restore(new_database, tmp_path / "worker.dump", progress=progress)
    assert rows(new_database) == rows(database_url)
