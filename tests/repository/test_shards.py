"""Each statement stays on one shard of a Citus cluster, as the texts of statements and migrations show."""

import re
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Json, Jsonb
from support import citus
from support.shard_schemas import schema_faults, tables_made
from support.shards import statement_faults
from test_plans import MESSAGE, OTHERWISE, PARAMETERS, STATEMENTS

from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import to_positional

MIGRATIONS = {migration.name: migration.sql for migration in migrations.discover()}
TABLES = {table for migration in MIGRATIONS.values() for table in tables_made(migration)}

# Parameters with a value in test_plans that may be null, and values for those that are null there.
NULLABLE = {"content", "if_match", "limit", "members", "messages_limit", "metadata", "parts"}
OF_TYPE: dict[str, Any] = {
    "json": Json([]),
    "jsonb": Jsonb({}),
    "text": "complete",
    "text[]": ["a" * 64],
    "timestamptz": datetime(2026, 1, 1, tzinfo=UTC),
    "uuid": MESSAGE,
    "uuid[]": [MESSAGE],
}


@pytest.fixture(scope="module")
def volatility(database_url: str) -> dict[str, str]:
    """How volatile each function of PostgreSQL is; of those that share a name, the worst."""
    with psycopg.connect(database_url) as conn:
        functions = "SELECT proname, max(provolatile::text) FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace GROUP BY 1"
        return dict(conn.execute(functions).fetchall())


def with_user(name: str) -> tuple[str, int]:
    """A statement with parameters as PostgreSQL writes them, and the number of the user's id among them."""
    statement = to_positional(STATEMENTS[name])
    return statement.text.decode(), statement.names.index("user_id") + 1


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_stays_on_one_shard(volatility: dict[str, str], name: str) -> None:
    assert statement_faults(*with_user(name), TABLES, volatility) == []


@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_without_one_condition_is_refused(volatility: dict[str, str], name: str) -> None:
    statement, user = with_user(name)
    for condition in re.finditer(rf"(\w+\.)?user_id = \${user}\b", statement):
        start, end = condition.span()
        assert statement_faults(f"{statement[:start]}true{statement[end:]}", user, TABLES, volatility)


@pytest.mark.skipif(not citus.CITUS_URL, reason="no CITUS_URL names a cluster")
@pytest.mark.parametrize("name", STATEMENTS)
def test_statement_is_one_task_of_a_cluster(conn: psycopg.Connection[Any], name: str) -> None:
    given = {key: value for key, (_, value) in PARAMETERS.items()} | OTHERWISE.get(name, {})
    # A head that does not move has no task.
    given["new_head_id"] = MESSAGE
    names = to_positional(STATEMENTS[name]).names
    flipped: dict[str, Any] = {each: None for each in names if each in NULLABLE}
    flipped |= {each: OF_TYPE[PARAMETERS[each][0]] for each in names if given[each] is None}
    for changes in ({}, *({each: value} for each, value in flipped.items())):
        explain = f"EXPLAIN (COSTS off) {STATEMENTS[name]}"
        plan = [line.strip() for (line,) in conn.execute(explain.encode(), given | changes).fetchall()]
        assert "Task Count: 1" in plan, (changes, plan)
        assert not [line for line in plan if "Subplan" in line or "INSERT/SELECT" in line]


@pytest.mark.parametrize("name", MIGRATIONS)
def test_migration_can_be_distributed(name: str) -> None:
    assert schema_faults(MIGRATIONS[name]) == []


# The checker itself

HELD = [
    "SELECT title FROM sessions WHERE user_id = $1",
    "SELECT 1 FROM sessions AS s JOIN messages AS m ON m.user_id = s.user_id WHERE s.user_id = $1",
    "SELECT 1 FROM sessions AS s LEFT JOIN messages AS m ON s.user_id = m.user_id WHERE s.user_id = $1",
    "SELECT FROM sessions AS s, messages AS m, users AS u WHERE u.user_id = m.user_id AND m.user_id = "
    "s.user_id AND $1 = s.user_id AND u.session_count > 1",
    "SELECT (SELECT count(*) FROM messages WHERE user_id = $1) FROM sessions WHERE user_id = $1 AND title = "
    "now()::text",
    "SELECT 1 FROM sessions AS s CROSS JOIN LATERAL (SELECT 1 FROM messages AS m WHERE m.user_id = $1 AND "
    "m.session_id = s.id) AS x WHERE s.user_id = $1",
    "WITH messages AS (SELECT id FROM sessions WHERE user_id = $1) SELECT id FROM messages",
    """WITH RECURSIVE s AS (SELECT id FROM sessions WHERE user_id = $1 UNION ALL
           SELECT m.id FROM s JOIN messages AS m ON m.user_id = $1 AND m.session_id = s.id) SELECT 1 FROM s""",
    "UPDATE sessions SET updated_at = GREATEST(updated_at, now()), title = coalesce($2, title) WHERE "
    "user_id = $1",
    "INSERT INTO users (session_count, user_id) VALUES (1, $1), (2, $1)",
    """WITH s AS (DELETE FROM sessions WHERE user_id = $1 RETURNING user_id), t AS (SELECT 2, s.user_id FROM s), i AS (
           INSERT INTO users (session_count, user_id) SELECT 1, user_id FROM t UNION ALL SELECT 2, $1) SELECT 1""",
]


@pytest.mark.parametrize("statement", HELD)
def test_statement_on_one_user_is_accepted(volatility: dict[str, str], statement: str) -> None:
    assert statement_faults(statement, 1, TABLES, volatility) == []


REFUSED = {
    # Its rows are copied through the coordinator.
    "INSERT INTO users (session_count, user_id) SELECT 1, $1 FROM sessions AS s WHERE s.user_id = $1": "not the source's",
    # Not every table is held to the user.
    "SELECT title FROM sessions WHERE id = $2": "sessions is not held",
    "SELECT title FROM sessions WHERE user_id = $1 OR id = $2": "sessions is not held",
    "SELECT title FROM sessions WHERE NOT user_id = $1": "sessions is not held",
    "SELECT title FROM sessions WHERE user_id = ANY ($1)": "sessions is not held",
    "SELECT title FROM sessions WHERE user_id = $2": "sessions is not held",
    "SELECT title FROM sessions WHERE user_id > $1": "sessions is not held",
    "SELECT 1 FROM sessions AS s JOIN messages AS m ON m.session_id = s.id WHERE s.user_id = $1": "m is not held",
    "SELECT 1 FROM sessions AS s LEFT JOIN messages AS m ON s.user_id = $1 WHERE m.user_id = $1": "s is not held",
    "SELECT 1 FROM sessions AS s FULL JOIN messages AS m ON s.user_id = $1 AND m.user_id = $1": "m is not held",
    "SELECT 1 FROM sessions AS s RIGHT JOIN messages AS m ON s.user_id = $1 AND m.user_id = $1": "m is not held",
    "SELECT 1 FROM sessions JOIN messages USING (user_id) WHERE sessions.user_id = $1": "messages is not held",
    "SELECT 1 FROM sessions AS s JOIN messages AS m ON m.user_id = s.user_id": "s is not held",
    "SELECT 1 FROM sessions AS s (user_id) WHERE user_id = $1": "renames columns",
    "SELECT 1 FROM local_users WHERE user_id = $1": "not a distributed table",
    # In a query inside.
    "SELECT (SELECT count(*) FROM messages) FROM sessions WHERE user_id = $1": "messages is not held",
    "SELECT FROM sessions AS s WHERE user_id = $1 AND EXISTS (SELECT FROM messages WHERE user_id = s.user_id)": "messages is not",
    "SELECT 1 FROM sessions WHERE user_id = $1 ORDER BY (SELECT max(seq) FROM messages)": "messages is not held",
    "SELECT 1 FROM sessions AS s, LATERAL (SELECT FROM messages AS m WHERE session_id = s.id) AS x WHERE user_id = $1": "m is not",
    "WITH m AS (SELECT id FROM messages) SELECT 1 FROM sessions, m WHERE user_id = $1": "messages is not held",
    "SELECT 1 FROM sessions WHERE user_id = $1 UNION SELECT 1 FROM messages": "messages is not held",
    "WITH s AS (SELECT user_id FROM sessions WHERE user_id = $1) SELECT FROM s JOIN messages AS m USING (user_id)": "m is not held",
    "WITH s AS (SELECT user_id FROM users WHERE user_id = $1) SELECT FROM s, messages AS m WHERE m.user_id = s.user_id": "m is not",
    "WITH messages AS (SELECT 1 FROM sessions WHERE user_id = $1) SELECT 1 FROM public.messages": "messages is not held",
    """WITH RECURSIVE s AS (SELECT id FROM sessions WHERE user_id = $1 UNION ALL
           SELECT m.id FROM s JOIN messages AS m ON m.session_id = s.id) SELECT 1 FROM s""": "m is not held",
    # What changes rows.
    "UPDATE sessions SET title = 'x'": "sessions is not held",
    "UPDATE sessions SET title = m.content FROM messages AS m WHERE sessions.user_id = $1": "m is not held",
    "WITH sessions AS (SELECT 1 FROM users WHERE user_id = $1) UPDATE sessions SET title = 'x'": "sessions is not held",
    "UPDATE sessions SET user_id = $2 WHERE user_id = $1": "changes user_id",
    "DELETE FROM messages WHERE id = $2": "messages is not held",
    "DELETE FROM messages USING sessions AS s WHERE messages.user_id = s.user_id": "messages is not held",
    "INSERT INTO users (user_id, session_count) VALUES ($2, 1)": "INSERT INTO users is not held",
    "INSERT INTO users (user_id, session_count) VALUES ($1, 1), ('other', 1)": "INSERT INTO users is not held",
    "INSERT INTO users VALUES ($1, 1)": "INSERT INTO users is not held",
    "INSERT INTO users (user_id, session_count) SELECT * FROM users WHERE user_id = $1": "INSERT INTO users is not held",
    "INSERT INTO users (user_id, session_count) SELECT 'other', 1": "INSERT INTO users is not held",
    "INSERT INTO users (user_id, session_count) SELECT title, 1 FROM sessions WHERE user_id = $1": "INSERT INTO users is not held",
    "INSERT INTO users (user_id, session_count) SELECT user_id, 1 FROM users WHERE user_id = $1 UNION SELECT 'x', 1": "is not",
    "INSERT INTO users (user_id, session_count) VALUES ($1, (SELECT 1))": "a subquery in VALUES",
    "WITH s AS (SELECT 1) INSERT INTO users (user_id) SELECT user_id FROM sessions WHERE user_id = $1": "a WITH of its own",
    """WITH s AS (SELECT id FROM sessions WHERE user_id = $1), m AS (
            INSERT INTO users (user_id, session_count) SELECT user_id, 1 FROM s, sessions WHERE user_id = $1) SELECT""": "both",
    "MERGE INTO users USING sessions ON true WHEN MATCHED THEN DELETE": "MergeStmt",
    # Expressions that Citus evaluates on the coordinator, or refuses.
    "UPDATE sessions SET updated_at = clock_timestamp() WHERE user_id = $1": "clock_timestamp() is volatile",
    "UPDATE sessions SET version = gen_random_uuid() WHERE user_id = $1": "gen_random_uuid() is volatile",
    "WITH s AS (DELETE FROM sessions WHERE user_id = $1) SELECT random()": "random() is volatile",
    "WITH r AS (SELECT random()), s AS (DELETE FROM sessions WHERE user_id = $1) SELECT 1": "random() is volatile",
    "SELECT nextval('s') FROM sessions WHERE user_id = $1": "nextval() is volatile",
    "SELECT ours(title) FROM sessions WHERE user_id = $1": "ours() is not a function of PostgreSQL",
    "UPDATE sessions SET updated_at = coalesce(updated_at, now()) WHERE user_id = $1": "COALESCE or CASE: now() is not immutable",
    "UPDATE sessions SET updated_at = CASE WHEN true THEN CURRENT_TIMESTAMP END WHERE user_id = $1": "SVFOP_CURRENT_TIMESTAMP is",
    "UPDATE sessions SET title = to_char(updated_at, 'YYYY') WHERE user_id = $1": "to_char() of a column",
    "UPDATE sessions SET title = updated_at::text WHERE user_id = $1": "a cast to text of a column",
    "DELETE FROM sessions WHERE user_id = $1 AND updated_at + interval '1 day' < now()": "an interval of a column",
    "DELETE FROM sessions WHERE user_id = $1 RETURNING to_json(title)": "RETURNING of sessions: to_json() is not immutable",
    "UPDATE sessions SET title = '' WHERE user_id = $1 RETURNING now()": "RETURNING of sessions: now() is not immutable",
    """INSERT INTO users (user_id, session_count) VALUES ($1, 1)
           ON CONFLICT (user_id) DO UPDATE SET session_count = extract(epoch FROM now())""": "ON CONFLICT of users: ",
    """INSERT INTO users (user_id, session_count) VALUES ($1, 1)
           ON CONFLICT (user_id) DO UPDATE SET user_id = excluded.user_id""": "changes user_id",
}


@pytest.mark.parametrize("statement", REFUSED)
def test_statement_on_other_shards_is_refused(volatility: dict[str, str], statement: str) -> None:
    assert REFUSED[statement] in "; ".join(statement_faults(statement, 1, TABLES, volatility))


TABLE = 'CREATE TABLE t (user_id text COLLATE "C" NOT NULL, id uuid{}'
REFUSED_MIGRATIONS = {
    "CREATE TABLE t (id uuid PRIMARY KEY)": "t does not begin with user_id",
    "CREATE TABLE t (user_id text NOT NULL)": "t does not begin with user_id",
    'CREATE TABLE t (user_id text COLLATE "C")': "t does not begin with user_id",
    TABLE.format(" UNIQUE)"): "unique without user_id",
    TABLE.format(", CONSTRAINT t_pkey PRIMARY KEY (id))"): "unique without user_id",
    TABLE.format(", EXCLUDE USING gist (id WITH =))"): "an exclusion constraint",
    TABLE.format(", FOREIGN KEY (id) REFERENCES s (id))"): "a foreign key without user_id",
    TABLE.format(", FOREIGN KEY (user_id, id) REFERENCES s (id, user_id))"): "a foreign key without user_id",
    TABLE.format(", FOREIGN KEY (user_id, id) REFERENCES s)"): "a foreign key without user_id",
    TABLE.format(" REFERENCES s (id))"): "a foreign key without user_id",
    TABLE.format(", number bigserial)"): "a sequence",
    TABLE.format(", number bigint GENERATED ALWAYS AS IDENTITY)"): "a sequence",
    TABLE.format(", number bigint DEFAULT nextval('s'))"): "a sequence",
    "ALTER TABLE t ADD COLUMN number serial": "a sequence",
    "ALTER TABLE t ALTER COLUMN number ADD GENERATED ALWAYS AS IDENTITY": "a sequence",
    "ALTER TABLE t ADD CONSTRAINT t_id_key UNIQUE (id)": "unique without user_id",
    "ALTER TABLE t ALTER COLUMN user_id TYPE varchar": "user_id is altered",
    "ALTER TABLE t DROP COLUMN user_id": "user_id is altered",
    "CREATE UNIQUE INDEX i ON t (id, lower(user_id))": "unique without user_id",
    "CREATE SEQUENCE s": "CreateSeqStmt",
    "CREATE TRIGGER t BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()": "CreateTrigStmt",
    "CREATE FUNCTION f(x text) RETURNS text LANGUAGE sql AS 'SELECT x'": "CreateFunctionStmt",
    "CREATE VIEW v AS SELECT 1": "ViewStmt",
    "DO $$BEGIN NULL; END$$": "DoStmt",
}


@pytest.mark.parametrize("migration", REFUSED_MIGRATIONS)
def test_migration_that_cannot_be_distributed_is_refused(migration: str) -> None:
    assert REFUSED_MIGRATIONS[migration] in "; ".join(schema_faults(migration))
