import os
from pathlib import Path

import psycopg
from support.schema_page import TABLES, schema_page, undescribed

SCHEMA = Path(__file__).parents[3] / "sql" / "schema.sql"


def test_schema_page_is_what_the_migrations_make(database_url: str) -> None:
    page = schema_page(database_url)

    if "WRITE_SCHEMA" in os.environ:
        SCHEMA.write_text(page, encoding="utf-8")
    assert SCHEMA.read_text(encoding="utf-8") == page, "run `make schema`"


def test_schema_page_can_be_executed(database_url: str, new_database: str) -> None:
    page = schema_page(database_url)
    with psycopg.connect(new_database) as conn:
        conn.execute(page)

    assert _statements(schema_page(new_database)) == _statements(page)


def test_every_table_is_on_the_schema_page(database_url: str) -> None:
    with psycopg.connect(database_url) as conn:
        tables = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert {name for (name,) in tables} == set(TABLES)


def test_every_table_and_index_has_a_comment(database_url: str) -> None:
    assert undescribed(database_url) == [], "add COMMENT ON to the migration: which statement does it serve?"


def _statements(page: str) -> list[str]:
    return [line for line in page.splitlines() if line and not line.lstrip().startswith("--")]
