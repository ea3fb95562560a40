"""Changes of the schema: numbered SQL files, each applied once, in order, by the first process that starts.

Session locks need a direct connection, and a cluster changes its schema on the coordinator alone: pending
files are applied neither through a pooler nor on a worker node. Start with `check` there, and migrate past
it.
"""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

import psycopg

from mai_sessions.errors import StartupError
from mai_sessions.postgres.cluster import distributed_statements, is_distributed, is_worker
from mai_sessions.postgres.messages import first_line, without_password
from mai_sessions.postgres.migration_files import MIGRATIONS, Migration, discover
from mai_sessions.postgres.session_settings import MEANING, check_server_version, is_direct

log = logging.getLogger(__name__)

LOCK_KEY = int.from_bytes(b"mai-sess")
LOCK_WAIT = 300.0  # seconds that a starter waits for the migrations of another
LOCK_POLL = 0.1  # seconds between two attempts
LOCK_TIMEOUT = "5s"  # longest that a statement may queue for a table, since all traffic queues behind it
LOCK_PAUSE = 2.0  # seconds for that traffic before the next try
LOCK_TRIES = 5

# Polled: a session that waits inside pg_advisory_lock() holds a snapshot, and CREATE INDEX CONCURRENTLY waits
# for all snapshots.
TRY_LOCK = "SELECT pg_try_advisory_lock(%(key)s)"

# A migration may read whole tables, which the role of the service avoids.
_SETTINGS = {**MEANING, "enable_seqscan": "on"}

SET_TIMEOUTS = (
    "SELECT set_config('lock_timeout', %(lock)s, false), set_config('statement_timeout', '0', false)"
)

CREATE_BOOKKEEPING = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    integer     NOT NULL,
    name       text        NOT NULL,
    sha256     text        NOT NULL,
    breaking   boolean     NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text        NOT NULL DEFAULT current_user,
    CONSTRAINT schema_migrations_pkey PRIMARY KEY (version),
    CONSTRAINT schema_migrations_version_check CHECK (version > 0),
    CONSTRAINT schema_migrations_sha256_check CHECK (sha256 ~ '^[0-9a-f]{64}$')
);
COMMENT ON TABLE schema_migrations IS 'One row for each file of sql/migrations that this database has';
"""

# Seconds: the text of a timestamp depends on the session, whose settings may be those of a pooler.
SELECT_APPLIED = """
SELECT version, name, sha256, breaking, extract(epoch FROM applied_at)::float8
  FROM public.schema_migrations
 ORDER BY version
"""

SELECT_IS_APPLIED = """
SELECT /* is_current */ EXISTS (SELECT FROM public.schema_migrations WHERE version = %(version)s)
"""

SET_SETTING = "SELECT set_config(%(name)s, %(value)s, false)"

INSERT_APPLIED = """
INSERT INTO schema_migrations (version, name, sha256, breaking)
VALUES (%(version)s, %(name)s, %(sha256)s, %(breaking)s);
"""

DROP_INVALID_INDEX = """
SELECT 'DROP INDEX CONCURRENTLY ' || indexrelid::regclass::text
FROM pg_index
WHERE indexrelid = to_regclass(%(index)s) AND NOT indisvalid
"""

# A script cannot poll for the lock: it stops.
SCRIPT_LOCK = """
DO $$
BEGIN
    IF NOT pg_try_advisory_lock(%(key)s) THEN
        RAISE EXCEPTION 'another process is migrating this database';
    END IF;
END
$$;
"""

Connection = psycopg.Connection[Any]


# Between 0.1.0 and 0.2.0, a comment in this file was different.
FORMER_CHECKSUMS = {
    "0004_add_search": "4dde6658d56003d9ad699dee75eb2ebc2b42f5750c714fdd3f2a9d130bc2cedb",
}


class Applied(NamedTuple):
    """A row of schema_migrations. `applied_at` is in seconds since 1970."""

    version: int
    name: str
    sha256: str
    breaking: bool
    applied_at: float


def migrate(database_url: str, mode: str, directory: Traversable = MIGRATIONS) -> None:
    """Bring the schema up to date (`on`), refuse a schema that is behind (`check`), or do nothing (`off`).

    Raises StartupError when that fails, or when the database and the files do not belong together.
    """
    if mode == "on":
        for _ in apply(database_url, directory):
            pass
    elif mode == "check":
        with _connection(database_url) as conn:
            pending = _pending(discover(directory), _applied(conn))
        if pending:
            names = ", ".join(migration.name for migration in pending)
            raise StartupError(f"the database lacks {names}: run `mai-sessions migrate`")


def apply(database_url: str, directory: Traversable = MIGRATIONS) -> Iterator[Migration]:
    """Apply what is pending, and yield each migration when it is committed. Raises StartupError like
    `migrate`.
    """
    migrations = discover(directory)
    with _connection(database_url) as conn:
        if not _pending(migrations, _applied(conn)):
            return
        _refuse_indirect(conn)
        for name, value in _SETTINGS.items():
            conn.execute(SET_SETTING, {"name": name, "value": value})
        _take_lock(conn)
        conn.execute(CREATE_BOOKKEEPING)
        for migration in _pending(migrations, _applied(conn)):
            log.info("applying migration %s", migration.name)
            start = time.monotonic()
            _run(conn, migration)
            log.info("applied migration %s in %d ms", migration.name, (time.monotonic() - start) * 1000)
            yield migration


def status(database_url: str, directory: Traversable = MIGRATIONS) -> list[tuple[str, datetime | None]]:
    """List each migration that the code or the database has, with the time it was applied or None."""
    with _connection(database_url) as conn:
        applied: dict[str, datetime | None] = {
            row.name: datetime.fromtimestamp(row.applied_at, UTC) for row in _applied(conn)
        }
    return sorted(
        (dict.fromkeys((migration.name for migration in discover(directory)), None) | applied).items()
    )


def pending_sql(database_url: str, directory: Traversable = MIGRATIONS) -> str:
    """Write what is pending, bookkeeping included, as a script for psql.

    Raises StartupError like `migrate`.
    """
    with _connection(database_url) as conn:
        pending = _pending(discover(directory), _applied(conn))
        if not pending:
            return "-- Nothing is pending.\n"
        merge = psycopg.ClientCursor(conn).mogrify
        script = [
            "\\set ON_ERROR_STOP on",
            "SET client_encoding = 'UTF8';",
            *(merge(SET_SETTING, {"name": name, "value": value}) + ";" for name, value in _SETTINGS.items()),
            merge(SCRIPT_LOCK, {"key": LOCK_KEY}),
            CREATE_BOOKKEEPING,
        ]
        for migration in pending:
            timeouts = merge(SET_TIMEOUTS, {"lock": "0" if migration.index else LOCK_TIMEOUT}) + ";"
            insert = merge(INSERT_APPLIED, vars(migration))
            if migration.index:
                drop = merge(DROP_INVALID_INDEX, vars(migration)) + "\\gexec"
                script += [timeouts, drop, migration.sql, insert]
            else:
                statements = distributed_statements(migration) if is_distributed(conn) else [migration.sql]
                script += [timeouts, "BEGIN;", insert, *statements, "COMMIT;"]
    return "\n\n".join(part.strip() for part in script) + "\n"


def is_current(conn: Connection) -> bool:
    """Say whether the database has the newest migration of this code.

    A schema ahead of the code is current.
    """
    try:
        return conn.execute(SELECT_IS_APPLIED, {"version": _newest_version()}).fetchone() == (True,)
    except psycopg.errors.UndefinedTable:
        return False


@cache
def _newest_version() -> int:
    return discover()[-1].version


def _pending(migrations: list[Migration], applied: list[Applied]) -> list[Migration]:
    """Compare the files with the rows, and return the files without a row. Raises StartupError if they do not
    match.
    """
    rows = {row.version: row for row in applied}
    for migration in migrations:
        row = rows.get(migration.version)
        if row and row.sha256 not in (migration.sha256, FORMER_CHECKSUMS.get(migration.name)):
            raise StartupError(
                f"migration {migration.name} was changed after it was applied to this database"
            )
    for row in applied:
        if row.version <= migrations[-1].version:
            continue
        if row.breaking:
            raise StartupError(f"the database has migration {row.name}, which needs a newer mai-sessions")
        log.warning("the database has migration %s, which this mai-sessions does not know", row.name)
    pending = [migration for migration in migrations if migration.version not in rows]
    if pending and pending[0].version < max(rows, default=0):
        raise StartupError(
            f"migration {pending[0].name} is pending, but {applied[-1].name} after it is applied"
        )
    return pending


@contextmanager
def _connection(database_url: str) -> Generator[Connection]:
    """Open a connection of its own, and turn psycopg's errors into StartupError."""
    if not database_url:
        raise StartupError("DATABASE_URL is not set")
    try:
        conn = psycopg.connect(
            database_url,
            autocommit=True,
            application_name="mai-sessions-migrate",
            client_encoding="UTF8",
            connect_timeout=5,
        )
    except (psycopg.Error, UnicodeError) as error:
        reason = without_password(error, database_url)
        raise StartupError(f"cannot reach PostgreSQL: {reason} (check DATABASE_URL)") from None
    with conn:
        check_server_version(conn)
        if (encoding := conn.info.parameter_status("server_encoding")) != "UTF8":
            raise StartupError(
                f"the database is encoded in {encoding}: create one with ENCODING 'UTF8' TEMPLATE template0"
            )
        try:
            yield conn
        except psycopg.Error as error:
            raise StartupError(f"migrations: {_reason(error)}") from error


def _reason(error: psycopg.Error) -> str:
    advice = ": run `mai-sessions migrate` as the owner of the tables"
    return first_line(error) + advice * isinstance(error, psycopg.errors.InsufficientPrivilege)


def refuse_pooler(database_url: str) -> None:
    """Raise StartupError for a pooler, where the settings of a program of PostgreSQL, such as the empty
    search_path of pg_dump, would remain in a session that the service uses next.
    """
    with _connection(database_url) as conn:
        if not is_direct(conn):
            raise StartupError("DATABASE_URL leads to a pooler: this command needs PostgreSQL's own address")


def _refuse_indirect(conn: Connection) -> None:
    """Raise StartupError for a pooler, where the lock and the settings would stay on a session that is given
    to others, and for a worker node.
    """
    if not is_direct(conn):
        raise StartupError(
            "migrations are pending, and need a connection past the pooler: run `mai-sessions migrate` there"
        )
    if is_worker(conn):
        raise StartupError(
            "migrations are pending, and DATABASE_URL is a worker node: run `mai-sessions migrate` and "
            "sql/dba/citus/distribute.sql on the coordinator"
        )


def _take_lock(conn: Connection) -> None:
    deadline = time.monotonic() + LOCK_WAIT
    while conn.execute(TRY_LOCK, {"key": LOCK_KEY}).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise StartupError(f"another process is still migrating this database after {LOCK_WAIT:.0f} s")
        time.sleep(LOCK_POLL)


def _run(conn: Connection, migration: Migration) -> None:
    """Run a file and insert its row; again when it cannot get a lock in time."""
    # A CONCURRENTLY statement waits for older transactions by design, and blocks no others meanwhile.
    conn.execute(SET_TIMEOUTS, {"lock": "0" if migration.index else LOCK_TIMEOUT})
    for attempt in range(1, LOCK_TRIES + 1):
        try:
            _run_once(conn, migration)
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            log.warning(
                "migration %s, try %d of %d: %s", migration.name, attempt, LOCK_TRIES, first_line(error)
            )
            time.sleep(LOCK_PAUSE)
        except psycopg.Error as error:
            raise StartupError(f"migration {migration.name} failed: {_reason(error)}") from error
    raise StartupError(
        f"migration {migration.name} got no lock in {LOCK_TRIES} tries; see pg_stat_activity for who holds it"
    )


def _run_once(conn: Connection, migration: Migration) -> None:
    if migration.index:
        for (drop,) in conn.execute(DROP_INVALID_INDEX, vars(migration)).fetchall():
            conn.execute(drop.encode())
        conn.execute(migration.sql.encode())
        conn.execute(INSERT_APPLIED, vars(migration))
        return
    # One by one: Citus sends the text of a statement to its nodes, where it may be no more than one.
    statements = distributed_statements(migration) if is_distributed(conn) else migration.statements
    with conn.transaction():
        # First, so that a runner without the lock meets this row before it has done anything.
        conn.execute(INSERT_APPLIED, vars(migration))
        for statement in statements:
            conn.execute(statement.encode())


def _applied(conn: Connection) -> list[Applied]:
    try:
        return [Applied(*row) for row in conn.execute(SELECT_APPLIED)]
    except psycopg.errors.UndefinedTable:
        return []
