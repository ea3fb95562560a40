"""The schema of a database as a page of SQL: each table with its comments, constraints and indexes."""

import re
import textwrap
from collections.abc import Iterator

import psycopg

# In the order of the drawing.
TABLES = (
    "users",
    "sessions",
    "session_titles",
    "messages",
    "attachments",
    "idempotency_keys",
    "daily_usage",
    "schema_migrations",
)
WIDTH = 110

HEAD = """\
-- The schema after all migrations, for reading: `make schema` writes it from a migrated database.
-- docs/architecture.md says why there are no partitions and no row-level security.
--
--     users               (user_id)
--      ├─< sessions       (user_id, id)
--      │    ├── session_titles   (user_id, session_id)
--      │    ├─< messages         (user_id, session_id, seq)
--      │    └─< daily_usage      (user_id, session_id, day, part, agent_name, model_id)
--      ├─< attachments    (user_id, sha256)       named in messages.images and messages.part_attachments
--      └─< idempotency_keys      (user_id, path, key)
--     schema_migrations   (version)
--
--     ─< one to many    ── one to one
--
-- The tables below sessions have a foreign key to it with ON DELETE CASCADE. Every key begins with user_id,
-- so no row can refer to another user's, and Citus distributes all tables by it. Keys of type text compare by
-- bytes (COLLATE "C"): an upgrade of the operating system's collations cannot break their indexes.
"""

_TABLE = """
SELECT c.oid, obj_description(c.oid, 'pg_class'), array_to_string(c.reloptions, ', ')
  FROM pg_class AS c
 WHERE c.oid = %s::regclass"""
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attcollation <> t.typcollation THEN l.collname END,
       a.attnotnull, pg_get_expr(d.adbin, d.adrelid, true), col_description(a.attrelid, a.attnum)
  FROM pg_attribute AS a
  JOIN pg_type AS t ON t.oid = a.atttypid
  LEFT JOIN pg_collation AS l ON l.oid = a.attcollation
  LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped
 ORDER BY a.attnum"""
# From PostgreSQL 18 on, NOT NULL is a constraint as well.
_CONSTRAINTS = """
SELECT c.conname, pg_get_constraintdef(c.oid, true),
       CASE WHEN c.contype <> 'f' THEN obj_description(c.conindid, 'pg_class') END
  FROM pg_constraint AS c
 WHERE c.conrelid = %s AND c.contype <> 'n'
 ORDER BY position(c.contype::text IN 'pufc'), c.conname"""
_INDEXES = """
SELECT pg_get_indexdef(i.indexrelid, 0, true), obj_description(i.indexrelid, 'pg_class')
  FROM pg_index AS i
  JOIN pg_class AS c ON c.oid = i.indexrelid
 WHERE i.indrelid = %(table)s
   AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conrelid = %(table)s AND k.conindid = i.indexrelid)
 ORDER BY c.relname"""
_STORAGE = """
SELECT format('ALTER TABLE %%s ALTER COLUMN %%I SET STORAGE EXTERNAL', a.attrelid::regclass, a.attname), NULL
  FROM pg_attribute AS a
  JOIN pg_type AS t ON t.oid = a.atttypid
 WHERE a.attrelid = %s AND a.attnum > 0 AND a.attstorage = 'e' AND t.typstorage <> 'e'"""
_STATISTICS = """
SELECT pg_get_statisticsobjdef(s.oid), obj_description(s.oid, 'pg_statistic_ext')
  FROM pg_statistic_ext AS s
 WHERE s.stxrelid = %s
 ORDER BY s.stxname"""
_UNDESCRIBED = """
SELECT c.relname
  FROM pg_class AS c
 WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'i')
   AND obj_description(c.oid, 'pg_class') IS NULL
 UNION ALL
SELECT s.stxname
  FROM pg_statistic_ext AS s
 WHERE obj_description(s.oid, 'pg_statistic_ext') IS NULL
 ORDER BY 1"""


def schema_page(database_url: str) -> str:
    """Write the schema as SQL statements with the comments of the catalog above what they describe."""
    with psycopg.connect(database_url) as conn:
        extensions = conn.execute(
            "SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY extname"
        ).fetchall()
        blocks = [
            [HEAD.rstrip()],
            [f"CREATE EXTENSION {name};" for (name,) in extensions],
            *(list(_table_lines(conn, table)) for table in TABLES),
        ]
    return "\n\n".join("\n".join(block) for block in blocks) + "\n"


def undescribed(database_url: str) -> list[str]:
    """List the tables, indexes and statistics without a comment in the catalog."""
    with psycopg.connect(database_url) as conn:
        rows = conn.execute(_UNDESCRIBED).fetchall()
    return [name for (name,) in rows]


def _table_lines(conn: psycopg.Connection, table: str) -> Iterator[str]:
    ((oid, comment, options),) = conn.execute(_TABLE, [table]).fetchall()
    columns = conn.execute(_COLUMNS, [oid]).fetchall()
    constraints = conn.execute(_CONSTRAINTS, [oid]).fetchall()
    width = max(len(name) for name, *_ in columns)
    definitions = [
        (text, f"{name:<{width}} {_column_type(*details)}") for name, *details, text in columns
    ] + [(text, _constraint(name, definition)) for name, definition, text in constraints]

    yield from _comment_lines(comment)
    yield f"CREATE TABLE {table} ("
    for number, (text, definition) in enumerate(definitions, 1):
        yield from _comment_lines(text, "    ")
        yield f"    {definition}" + ("," if number < len(definitions) else "")
    yield f") WITH ({options});" if options else ");"
    for statement, text in (
        *conn.execute(_STORAGE, [oid]),
        *conn.execute(_INDEXES, {"table": oid}),
        *conn.execute(_STATISTICS, [oid]),
    ):
        yield ""
        yield from _comment_lines(text)
        yield _statement(statement)


def _column_type(data_type: str, collation: str | None, required: bool, default: str | None) -> str:
    words = [
        data_type.replace("timestamp with time zone", "timestamptz"),
        f'COLLATE "{collation}"' if collation else "",
        "NOT NULL" if required else "",
        f"DEFAULT {default}" if default else "",
    ]
    return " ".join(filter(None, words))


def _constraint(name: str, definition: str) -> str:
    definition = _without_defaults(definition).replace(" ON DELETE", f"\n{' ' * 8}ON DELETE")
    one_line = f"CONSTRAINT {name} {definition}"
    return one_line if len(one_line) < WIDTH - 5 else f"CONSTRAINT {name}\n{' ' * 8}{definition}"


def _statement(definition: str) -> str:
    return re.sub(r" (ON|WHERE|WITH) ", r"\n    \1 ", _without_defaults(definition)) + ";"


def _without_defaults(definition: str) -> str:
    """Leave out the defaults that PostgreSQL prints."""
    return re.sub(r"::text(?!\[)| USING btree|public\.", "", definition)


def _comment_lines(text: str | None, indent: str = "") -> list[str]:
    return textwrap.wrap(text or "", WIDTH, initial_indent=f"{indent}-- ", subsequent_indent=f"{indent}-- ")
