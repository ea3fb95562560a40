import os
from collections.abc import Callable
from pathlib import Path

from mai_sessions.postgres.migrations import migrate

SCHEMA = Path(__file__).parents[3] / "sql" / "schema.sql"
HEADING = "-- The schema after all migrations, to be read. `make schema` writes it.\n\n"


def test_schema_sql_is_what_the_migrations_make(new_database: str, dump_schema: Callable[[str], str]) -> None:
    migrate(new_database, "on")
    schema = HEADING + dump_schema(new_database)

    if "WRITE_SCHEMA" in os.environ:
        SCHEMA.write_text(schema, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == schema, "run `make schema`"
