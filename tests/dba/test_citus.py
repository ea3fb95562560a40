"""What distribute.sql asks of Citus; stand-ins take it down, for there is no Citus to install."""

from collections.abc import Callable, Iterator
from subprocess import CalledProcessError
from typing import Any

import psycopg
import pytest
from support.scripts import RunScript

SCRIPT = "citus/distribute.sql"
TABLES = ["attachments", "daily_usage", "idempotency_keys", "messages", "session_titles", "sessions", "users"]
STAND_INS = """
CREATE TABLE asked (number serial, command text);
CREATE TABLE pg_dist_partition (logicalrelid regclass);

CREATE FUNCTION create_distributed_table(name regclass, distributed_by text, colocate_with text, shard_count int DEFAULT 0)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    ASSERT NOT EXISTS (SELECT FROM pg_constraint WHERE contype = 'f' AND name IN (conrelid, confrelid)), 'a foreign key';
    ASSERT current_setting('citus.multi_shard_modify_mode') = 'sequential';
    ASSERT colocate_with = 'none' OR EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = colocate_with::regclass);
    INSERT INTO asked (command) VALUES (concat_ws(' ', name, distributed_by, colocate_with, shard_count));
    INSERT INTO pg_dist_partition VALUES (name);
END $$;

CREATE FUNCTION run_command_on_workers(command text)
RETURNS TABLE (nodename text, nodeport int, success boolean, result text) LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO asked (command) VALUES (command);
    RETURN QUERY VALUES ('one', 5432, true, ''), ('two', 5432, command NOT LIKE 'CREATE%', 'ERROR: no such extension');
END $$;

CREATE FUNCTION truncate_local_data_after_distributing_table(name regclass) RETURNS void LANGUAGE sql AS $$
    INSERT INTO asked (command) VALUES ('truncate ' || name) $$;

INSERT INTO pg_extension SELECT 1, 'citus', 10, 11, false, '12.1';
"""


@pytest.fixture
def cluster(make_migrated_database: Callable[[], str]) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """A database that takes down what is asked of Citus."""
    url = make_migrated_database()
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(STAND_INS)
        yield url, conn


def foreign_keys(conn: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    return conn.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY 1"
    ).fetchall()


def asked(conn: psycopg.Connection[Any]) -> list[str]:
    commands = [command for (command,) in conn.execute("SELECT command FROM asked ORDER BY number")]
    conn.execute("TRUNCATE asked")
    return commands


def test_every_table_of_users_is_distributed(
    cluster: tuple[str, psycopg.Connection[Any]], run_script: RunScript
) -> None:
    url, conn = cluster
    before = foreign_keys(conn)
    assert len(before) == 3
    assert [line.partition("|")[0] for line in run_script(SCRIPT, url)[:-1]] == TABLES
    assert asked(conn) == []

    printed = run_script(SCRIPT, url, apply=1, shards=128)
    assert "two|5432|ERROR: no such extension" in printed
    extension, timezone, jit, *commands = asked(conn)
    assert extension == "CREATE EXTENSION IF NOT EXISTS btree_gin"
    assert timezone == f"ALTER DATABASE {conn.info.dbname} SET timezone = 'UTC'"
    assert jit == f"ALTER DATABASE {conn.info.dbname} SET jit = off"
    others = [f"{table} user_id public.sessions 0" for table in TABLES if table != "sessions"]
    assert commands == ["sessions user_id none 128", *others, *(f"truncate {table}" for table in TABLES)]
    assert foreign_keys(conn) == before

    assert run_script(SCRIPT, url) == ["Nothing was distributed. To distribute them: -v apply=1"]


def test_a_later_table_joins_them(
    cluster: tuple[str, psycopg.Connection[Any]], run_script: RunScript
) -> None:
    url, conn = cluster
    run_script(SCRIPT, url, apply=1)
    asked(conn)
    conn.execute(
        "CREATE TABLE later (user_id text, session_id uuid, "
        "CONSTRAINT later_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id, id) ON DELETE CASCADE)"
    )
    before = foreign_keys(conn)
    run_script(SCRIPT, url, apply=1)
    assert [command for command in asked(conn) if "later" in command] == [
        "later user_id public.sessions 0",
        "truncate later",
    ]
    assert foreign_keys(conn) == before


def test_what_fails_changes_nothing(
    cluster: tuple[str, psycopg.Connection[Any]], run_script: RunScript
) -> None:
    url, conn = cluster
    before = foreign_keys(conn)
    conn.execute("ALTER TABLE pg_dist_partition ADD CHECK (logicalrelid <> 'messages'::regclass)")
    with pytest.raises(CalledProcessError):
        run_script(SCRIPT, url, apply=1)
    assert foreign_keys(conn) == before
    assert conn.execute("SELECT count(*) FROM pg_dist_partition").fetchone() == (0,)


def test_a_database_without_citus_is_refused(conn: psycopg.Connection[Any], run_script: RunScript) -> None:
    with pytest.raises(CalledProcessError) as caught:
        run_script(SCRIPT)
    assert "this database has no Citus" in caught.value.stdout
