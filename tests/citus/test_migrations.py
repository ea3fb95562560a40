"""Migrations on a database that is distributed, and the output of distribute.sql."""

import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError
from uuid import uuid4

import psycopg
import pytest
from support.chats import insert_chat
from support.citus import SHARDS, nodes
from support.scripts import RunScript

from mai_sessions.errors import StartupError
from mai_sessions.postgres.migrations import MIGRATIONS, migrate, pending_sql

DISTRIBUTE = "citus/distribute.sql"
FILES = sorted(Path(str(MIGRATIONS)).glob("*.sql"))
TABLES = [
    "attachments",
    "daily_usage",
    "idempotency_keys",
    "messages",
    "session_titles",
    "sessions",
    "users",
]

# The columns, constraints and indexes of the tables; the shards have a number in their names.
SCHEMA = r"""
    SELECT * FROM (
    SELECT attrelid::regclass::text, attname || ' ' || format_type(atttypid, atttypmod) || attnotnull
      FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid
     WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0 AND NOT attisdropped
     UNION ALL
    SELECT conrelid::regclass::text, conname || ' ' || pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
     UNION ALL
    SELECT tablename::text, indexdef FROM pg_indexes WHERE schemaname = 'public') AS s (name, definition)
     WHERE name !~ '_[0-9]{6}$'
     ORDER BY 1, 2"""


def schema(url: str) -> list[tuple[str, str]]:
    with psycopg.connect(url) as conn:
        return conn.execute(SCHEMA).fetchall()


def copy_files(directory: Path, count: int) -> Path:
    for file in FILES[:count]:
        shutil.copy(file, directory)
    return directory


def distributed_line(table: str) -> str:
    return f"{table}|distributed|{SHARDS}|2"


# The first release has eight files. Citus runs the back-fill of 0006 only before the tables are distributed.
@pytest.mark.parametrize("version", [6, 7, 8, len(FILES) - 1])
def test_distributed_database_takes_every_later_migration(
    new_cluster_database: str,
    new_database: str,
    tmp_path: Path,
    run_script: RunScript,
    version: int,
) -> None:
    migrate(new_cluster_database, "on", copy_files(tmp_path, version))
    run_script(DISTRIBUTE, new_cluster_database, apply=1, shards=SHARDS)

    migrate(new_cluster_database, "on")

    migrate(new_database, "on")
    assert schema(new_cluster_database) == schema(new_database)
    reference = "schema_migrations|reference|1|3"
    assert sorted(run_script(DISTRIBUTE, new_cluster_database, apply=1)) == sorted(
        [*map(distributed_line, TABLES), reference]
    )


def test_new_table_is_distributed_and_filled(
    new_cluster_database: str, tmp_path: Path, run_script: RunScript
) -> None:
    migrate(new_cluster_database, "on")
    with psycopg.connect(new_cluster_database, autocommit=True) as conn:
        for number in range(20):
            insert_chat(conn, f"user{number}", uuid4())
    run_script(DISTRIBUTE, new_cluster_database, apply=1, shards=SHARDS)
    (copy_files(tmp_path, len(FILES)) / f"{len(FILES) + 1:04}_create_tags.sql").write_text("""
        -- Tags; of sessions.
        CREATE TABLE tags (
            user_id    text COLLATE "C" NOT NULL,
            session_id uuid             NOT NULL,
            tag        text             NOT NULL DEFAULT 'a; b',
            CONSTRAINT tags_pkey PRIMARY KEY (user_id, session_id, tag),
            CONSTRAINT tags_session_fkey FOREIGN KEY (user_id, session_id)
                REFERENCES sessions (user_id, id) ON DELETE CASCADE
        );
        INSERT INTO tags (user_id, session_id) SELECT user_id, id FROM sessions;
        CREATE INDEX tags_user_id_tag_idx ON tags (user_id, tag);
        ANALYZE tags;
    """)
    script = pending_sql(new_cluster_database, tmp_path)
    assert "create_distributed_table('tags', 'user_id', colocate_with => 'sessions')" in script

    migrate(new_cluster_database, "on", tmp_path)

    for node in nodes(new_cluster_database):
        assert node.run("SELECT count(*) FROM tags") == 20
    assert distributed_line("tags") in run_script(DISTRIBUTE, new_cluster_database)


def test_tables_that_are_not_distributed_are_named(new_cluster_database: str, run_script: RunScript) -> None:
    migrate(new_cluster_database, "on")
    *lines, hint = run_script(DISTRIBUTE, new_cluster_database)
    assert lines == [f"{table}|not distributed yet|0|0" for table in sorted([*TABLES, "schema_migrations"])]
    assert hint == "Nothing was distributed. To distribute the tables: -v apply=1"


def test_rows_are_on_the_nodes_and_not_on_the_coordinator(
    new_cluster_database: str, run_script: RunScript
) -> None:
    migrate(new_cluster_database, "on")
    coordinator, *workers = nodes(new_cluster_database)
    with psycopg.connect(new_cluster_database, autocommit=True) as conn:
        for number in range(20):
            insert_chat(conn, f"user{number}", uuid4())
    size = "SELECT pg_relation_size('messages')"
    assert coordinator.run(size) > 0
    run_script(DISTRIBUTE, new_cluster_database, apply=1, shards=SHARDS)
    assert coordinator.run(size) == 0
    assert {node.run("SELECT count(*) FROM messages") for node in (coordinator, *workers)} == {20}
    placed = (
        "SELECT count(DISTINCT nodename || nodeport) FROM citus_shards WHERE table_name::text = 'messages'"
    )
    assert coordinator.run(placed) == len(workers)


def test_migrations_are_refused_on_a_worker(new_cluster_database: str) -> None:
    worker = nodes(new_cluster_database)[1]
    with pytest.raises(StartupError, match=r"DATABASE_URL is a worker node.*on the coordinator"):
        migrate(worker.url, "on")
    assert worker.run("SELECT to_regclass('public.schema_migrations')") is None


def test_script_is_refused_on_a_worker(database_url: str, run_script: RunScript) -> None:
    with pytest.raises(CalledProcessError) as caught:
        run_script(DISTRIBUTE, nodes(database_url)[1].url)
    assert "this node is a worker" in caught.value.stdout


def test_every_node_serves(database_url: str, make_app: Callable[..., object]) -> None:
    for node in nodes(database_url):
        client = make_app(database_url=node.url, migrate="on").test_client()
        assert client.get("/health/ready").status_code == 200
        session = client.post("/api/v1/sessions", json={"title": "Trip"}).get_json()["id"]
        assert client.get(f"/api/v1/sessions/{session}").status_code == 200
    assert client.get("/api/v1/sessions").get_json()["total"] == 3
