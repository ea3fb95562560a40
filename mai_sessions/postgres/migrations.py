"""Changes of the schema: numbered SQL files, each applied once, in order, by whoever starts first.

A file is called `NNNN_verb_noun.sql` and is never edited after its release. Two header lines mean something:

`-- migrate: breaking`: code that does not know the file must not run on a database that has it.

`-- migrate: no-transaction`: the file is one `CREATE [UNIQUE] INDEX CONCURRENTLY IF NOT EXISTS name …;` or
`DROP INDEX CONCURRENTLY IF EXISTS name;`, which PostgreSQL refuses inside a transaction. An interrupted one
runs again, after the INVALID index of that name is dropped.

Session locks need a direct connection: what is pending is not applied through a pooler. Start with `check`
there, and migrate past it."""

import logging
import re
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, NamedTuple

import psycopg

from mai_sessions.errors import StartupError

log = logging.getLogger(__name__)

MIGRATIONS = files("mai_sessions.sql") / "migrations"
OLDEST_POSTGRESQL = 15
LOCK_KEY = int.from_bytes(b"mai-sess")
LOCK_WAIT = 300.0  # seconds that a starter waits for another one's migrations
LOCK_POLL = 0.1  # seconds between its looks
LOCK_TIMEOUT = "5s"  # longest that a statement may queue for a table, since all traffic queues behind it
LOCK_PAUSE = 2.0  # seconds for that traffic before the next try
LOCK_TRIES = 5

# Polled: who waits inside pg_advisory_lock() holds a snapshot, and CREATE INDEX CONCURRENTLY waits for all
# snapshots.
TRY_LOCK = "SELECT pg_try_advisory_lock(%(key)s)"

# A pooler makes up the number that it gives its clients, as they have no process of their own.
SELECT_IS_DIRECT = "SELECT pg_backend_pid() = %(backend_pid)s"

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

SELECT_APPLIED = "SELECT version, name, sha256, breaking, applied_at FROM schema_migrations ORDER BY version"

SELECT_IS_APPLIED = (
    "SELECT /* is_current */ EXISTS (SELECT FROM schema_migrations WHERE version = %(version)s)"
)

INSERT_APPLIED = """
INSERT INTO schema_migrations (version, name, sha256, breaking)
VALUES (%(version)s, %(name)s, %(sha256)s, %(breaking)s);
"""

DROP_INVALID_INDEX = """
SELECT 'DROP INDEX CONCURRENTLY ' || indexrelid::regclass::text
FROM pg_index
WHERE indexrelid = to_regclass(%(index)s) AND NOT indisvalid
"""

# A script has nobody to poll for it: it stops.
SCRIPT_LOCK = """
DO $$
BEGIN
    IF NOT pg_try_advisory_lock(%(key)s) THEN
        RAISE EXCEPTION 'another process is migrating this database';
    END IF;
END
$$;
"""

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9]+(?:_[a-z0-9]+)+\.sql")
_HEADER = re.compile(r"^-- migrate: *(.*?) *$", re.MULTILINE)
_COMMENT = re.compile(r"--.*")
_CONCURRENT_INDEX = re.compile(
    r"(?:CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS|DROP INDEX CONCURRENTLY IF EXISTS) (\w+)\b[^;]*;"
)

Connection = psycopg.Connection[Any]


@dataclass(frozen=True)
class Migration:
    """A file. `name` is the file's without `.sql`; `index` is the one that it makes or drops outside a
    transaction.
    """

    version: int
    name: str
    sql: str
    sha256: str
    breaking: bool
    index: str | None


class Applied(NamedTuple):
    """A row of schema_migrations."""

    version: int
    name: str
    sha256: str
    breaking: bool
    applied_at: datetime


def discover(directory: Traversable = MIGRATIONS) -> list[Migration]:
    """Read the files of a directory, in order. Raises StartupError for one that breaks the rules above."""
    paths = sorted(
        (path for path in directory.iterdir() if path.name.endswith(".sql")), key=lambda path: path.name
    )
    migrations = [_parse(path) for path in paths]
    if not migrations:
        raise StartupError("no migration files: the installation of mai-sessions is broken")
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise StartupError(f"migration {migration.name} stands where number {expected:04} should")
    return migrations


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
        _refuse_pooler(conn)
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
        applied: dict[str, datetime | None] = {row.name: row.applied_at for row in _applied(conn)}
    return sorted(
        (dict.fromkeys((migration.name for migration in discover(directory)), None) | applied).items()
    )


def pending_sql(database_url: str, directory: Traversable = MIGRATIONS) -> str:
    """Write what is pending, bookkeeping included, as a script for psql. Raises StartupError like `migrate`."""
    with _connection(database_url) as conn:
        pending = _pending(discover(directory), _applied(conn))
        if not pending:
            return "-- Nothing is pending.\n"
        merge = psycopg.ClientCursor(conn).mogrify
        script = [
            "\\set ON_ERROR_STOP on",
            "SET client_encoding = 'UTF8';",
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
                script += [timeouts, "BEGIN;", insert, migration.sql, "COMMIT;"]
    return "\n\n".join(part.strip() for part in script) + "\n"


def is_current(conn: Connection) -> bool:
    """Say whether the database has the newest migration of this code. A schema ahead of the code is current."""
    try:
        return conn.execute(SELECT_IS_APPLIED, {"version": _newest_version()}).fetchone() == (True,)
    except psycopg.errors.UndefinedTable:
        return False


@cache
def _newest_version() -> int:
    return discover()[-1].version


def _parse(path: Traversable) -> Migration:
    match = _FILE_NAME.fullmatch(path.name)
    if not match:
        raise StartupError(f"migration {path.name}: its name is not NNNN_verb_noun.sql in lower case")
    sql = path.read_text(encoding="utf-8")
    headers = set(_HEADER.findall(sql))
    if unknown := headers - {"breaking", "no-transaction"}:
        raise StartupError(f"migration {path.name}: unknown header `-- migrate: {min(unknown)}`")
    index = None
    if "no-transaction" in headers:
        statement = _CONCURRENT_INDEX.fullmatch(" ".join(_COMMENT.sub("", sql).split()))
        if not statement:
            raise StartupError(
                f"migration {path.name}: without a transaction it must be one CREATE INDEX CONCURRENTLY IF NOT EXISTS "
                "or DROP INDEX CONCURRENTLY IF EXISTS"
            )
        index = statement[1]
    digest = sha256(sql.encode()).hexdigest()
    return Migration(int(match[1]), path.name.removesuffix(".sql"), sql, digest, "breaking" in headers, index)


def _pending(migrations: list[Migration], applied: list[Applied]) -> list[Migration]:
    """Hold the files against the rows, and return the files without one. Raises StartupError when they do not
    fit.
    """
    rows = {row.version: row for row in applied}
    for migration in migrations:
        row = rows.get(migration.version)
        if row and row.sha256 != migration.sha256:
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
        raise StartupError(f"cannot reach PostgreSQL: {_without_password(error, database_url)}") from None
    with conn:
        if conn.info.server_version < OLDEST_POSTGRESQL * 10000:
            version = conn.info.parameter_status("server_version")
            raise StartupError(
                f"PostgreSQL {version} is too old: mai-sessions needs {OLDEST_POSTGRESQL} or newer"
            )
        try:
            yield conn
        except psycopg.Error as error:
            raise StartupError(f"migrations: {_first_line(error)}") from error


def _refuse_pooler(conn: Connection) -> None:
    """Leave a pooler's server connections alone: the lock and the timeouts would stay on them, for whoever
    gets them next.
    """
    if conn.execute(SELECT_IS_DIRECT, {"backend_pid": conn.info.backend_pid}).fetchone() != (True,):
        raise StartupError(
            "migrations are pending, and need a connection past the pooler: run `mai-sessions migrate` there"
        )


def _take_lock(conn: Connection) -> None:
    deadline = time.monotonic() + LOCK_WAIT
    while conn.execute(TRY_LOCK, {"key": LOCK_KEY}).fetchone() != (True,):
        if time.monotonic() > deadline:
            raise StartupError(f"another process is still migrating this database after {LOCK_WAIT:.0f} s")
        time.sleep(LOCK_POLL)


def _run(conn: Connection, migration: Migration) -> None:
    """Run a file and insert its row; again when it cannot get a lock in time."""
    # What runs CONCURRENTLY waits for older transactions by design, and nobody queues behind it.
    conn.execute(SET_TIMEOUTS, {"lock": "0" if migration.index else LOCK_TIMEOUT})
    for attempt in range(1, LOCK_TRIES + 1):
        try:
            if migration.index:
                for (drop,) in conn.execute(DROP_INVALID_INDEX, vars(migration)).fetchall():
                    conn.execute(drop.encode())
                conn.execute(migration.sql.encode())
                conn.execute(INSERT_APPLIED, vars(migration))
            else:
                with conn.transaction():
                    # First, so that a runner without the lock meets this row before it has done anything.
                    conn.execute(INSERT_APPLIED, vars(migration))
                    conn.execute(migration.sql.encode())
            return
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            log.warning(
                "migration %s, try %d of %d: %s", migration.name, attempt, LOCK_TRIES, _first_line(error)
            )
            time.sleep(LOCK_PAUSE)
        except psycopg.Error as error:
            raise StartupError(f"migration {migration.name} failed: {_first_line(error)}") from error
    raise StartupError(
        f"migration {migration.name} got no lock in {LOCK_TRIES} tries; see pg_stat_activity for who holds it"
    )


def _applied(conn: Connection) -> list[Applied]:
    try:
        return [Applied(*row) for row in conn.execute(SELECT_APPLIED)]
    except psycopg.errors.UndefinedTable:
        return []


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _without_password(error: Exception, database_url: str) -> str:
    """Return the first line of libpq's message, without what it quotes that can be a piece of the password."""
    malformed = isinstance(error, psycopg.ProgrammingError)
    password = database_url.rpartition("@")[0].partition("://")[2].partition(":")[2]
    return re.sub(
        r"""(["'])(.*?)\1""",
        lambda quoted: "…" if malformed or quoted[2] in password or "@" in quoted[2] else quoted[0],
        _first_line(error).removeprefix("connection failed: "),
    )
