"""The session settings that the service needs: set when it connects, and checked before the session is used.

A database, a role or the environment may set anything else, and a pooler may drop what the connection asks
for. A session with other settings would not fail: it would write other timestamps, or text that is not UTF-8.
sql/dba/roles.sql sets the same on the role of the service, for poolers that take no options.
"""

from typing import Any, LiteralString

import psycopg
from psycopg.conninfo import conninfo_to_dict

from mai_sessions.config import Settings
from mai_sessions.errors import StartupError
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.messages import first_line

# Less than a request waits for a connection, so that it sees a second attempt.
CONNECT_TIMEOUT = 3

OLDEST_POSTGRESQL = 15

# These decide the meaning of statements and the text of values. Without array_nulls a missing file name is
# the text NULL, and a limit of GIN loses matches of a search.
MEANING = {
    "timezone": "UTC",
    "datestyle": "ISO",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "array_nulls": "on",
    "gin_fuzzy_search_limit": "0",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
    "search_path": "public",
}
# One generic plan for each prepared statement. The statements are written so that the values make no
# difference, and planning the search again costs more than running it; so would compiling it (jit) or running
# it in parallel. A generic plan assumes that a LIMIT returns a tenth of the rows. With PostgreSQL's
# random_page_cost of 4 it would read and sort all rows of a user who has most of the table, for one page.
# enable_seqscan is off because a plan is kept while the tables grow: one that was made while they were small
# would scan them.
PLANS = {
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "random_page_cost": "1.1",
    "enable_seqscan": "off",
}

# Each row is a setting, its value, and a regular expression of the values that the service works with.
# Citus finds the shard by the values, so a plan for any value (force_generic_plan) is refused there: it needs
# auto.
CHECK_SESSION_SETTINGS = r"""
    SELECT /* check_session_settings */ s.name, s.value
      FROM (SELECT CASE WHEN EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
                        THEN set_config('plan_cache_mode', 'auto', false)
                        ELSE 'force_generic_plan' END AS plan_cache_mode) AS needed
     CROSS JOIN LATERAL (VALUES
           ('server_encoding',               current_setting('server_encoding'),               'UTF8'),
           ('client_encoding',               current_setting('client_encoding'),               'UTF8'),
           ('TimeZone',                      current_setting('TimeZone'),                      '(Etc/)?UTC'),
           ('DateStyle',                     current_setting('DateStyle'),                     'ISO, ...'),
           ('extra_float_digits',            current_setting('extra_float_digits'),            '[123]'),
           ('bytea_output',                  current_setting('bytea_output'),                  'hex'),
           ('array_nulls',                   current_setting('array_nulls'),                   'on'),
           ('gin_fuzzy_search_limit',        current_setting('gin_fuzzy_search_limit'),        '0'),
           ('session_replication_role',      current_setting('session_replication_role'),
            'origin|local'),
           ('standard_conforming_strings',   current_setting('standard_conforming_strings'),   'on'),
           ('default_transaction_isolation', current_setting('default_transaction_isolation'),
            'read committed'),
           ('search_path',                   current_schema(),                                 'public'),
           ('statement_timeout',             current_setting('statement_timeout'),             '[1-9].*'),
           ('plan_cache_mode',               current_setting('plan_cache_mode'),
                          needed.plan_cache_mode),
           ('jit',                           current_setting('jit'),                           'off'),
           ('max_parallel_workers_per_gather', current_setting('max_parallel_workers_per_gather'), '0'),
           ('random_page_cost',              current_setting('random_page_cost'),
            '1(\.[0-9]+)?'),
           ('enable_seqscan',                current_setting('enable_seqscan'),                'off'))
           AS s (name, value, pattern)
     WHERE s.value IS NULL OR s.value !~ ('^(' || s.pattern || ')$')"""

SELECT_IS_DIRECT = "SELECT /* is_direct */ pg_backend_pid() = %(backend_pid)s"
# Two statements with one name: each is the first that its connection prepares.
_PROBES: tuple[LiteralString, ...] = ("SELECT /* probe_pooler */ 0", "SELECT /* probe_pooler */ 1")


def connection_parameters(settings: Settings) -> dict[str, Any]:
    """Return the arguments of `Connection.connect` for the database of `settings.database_url`."""
    parameters: dict[str, Any] = {
        "autocommit": True,
        "application_name": "mai-sessions",
        "client_encoding": "UTF8",
        "connect_timeout": CONNECT_TIMEOUT,
        "prepares": settings.prepare == "on",
    }
    # A pooler that knows no prepared statements knows no options either: the role has to carry them.
    if settings.prepare == "on":
        pinned = MEANING | PLANS | {"statement_timeout": f"{settings.statement_timeout * 1000:.0f}"}
        options = [_own_options(settings.database_url)]
        options += ["-c " + f"{name}={value}".replace(" ", "\\ ") for name, value in pinned.items()]
        parameters["options"] = " ".join(options).strip()
    return parameters


def connect(settings: Settings) -> Connection:
    """Connect to `settings.database_url`, past the pools, with the settings that the service needs.

    Raises OperationalError, with the reason, for a session that the service cannot work with.
    """
    conn = Connection.connect(settings.database_url, **connection_parameters(settings))
    try:
        check_session_settings(conn)
    except BaseException:
        conn.close()
        raise
    return conn


def _own_options(database_url: str) -> str:
    """Return the options that a connection string has itself. A malformed one is refused when it is used."""
    try:
        return str(conninfo_to_dict(database_url).get("options") or "")
    except psycopg.ProgrammingError:
        return ""


def is_direct(conn: psycopg.Connection[Any]) -> bool:
    """Return whether the connection ends at PostgreSQL, and not at a pooler."""
    # A pooler invents the process id that it sends to its clients.
    row = conn.execute(SELECT_IS_DIRECT, {"backend_pid": conn.info.backend_pid}).fetchone()
    return row == (True,)


def check_server_version(conn: psycopg.Connection[Any]) -> None:
    """Raise StartupError for a PostgreSQL before OLDEST_POSTGRESQL."""
    if conn.info.server_version < OLDEST_POSTGRESQL * 10000:
        version = conn.info.parameter_status("server_version")
        raise StartupError(
            f"PostgreSQL {version} is too old: mai-sessions needs {OLDEST_POSTGRESQL} or newer"
        )


def check_session_settings(conn: Connection) -> None:
    """Raise OperationalError, with the reason, for a session that the service cannot work with."""
    if wrong := conn.execute(CHECK_SESSION_SETTINGS).fetchall():
        found = ", ".join(f"{name} {value}" for name, value in wrong)
        remedy = (
            "create the database with ENCODING 'UTF8' TEMPLATE template0"
            if wrong[0][0] == "server_encoding"
            else "behind a pooler the role must carry what sql/dba/roles.sql sets"
        )
        raise psycopg.OperationalError(f"the session has {found}: {remedy}")


def check_prepared_statements(first: Connection, second: Connection) -> None:
    """Raise OperationalError when a pooler between keeps no prepared statements for its clients.

    Such a pooler gives one session of PostgreSQL to several clients in turn: a statement is missing when
    another session gets the next turn, or is the other client's of the same name.
    """
    if is_direct(first):
        return
    clients = (first, second)
    try:
        # In an order that no turns of a pooler follow.
        for turn in (0, 1, 1, 0, 0, 0, 1, 0, 1, 1, 1, 0):
            if clients[turn].run(_PROBES[turn], {}) != [(turn,)]:
                raise psycopg.ProgrammingError("a prepared statement is another client's")
    except psycopg.ProgrammingError as error:
        raise psycopg.OperationalError(
            f"the pooler keeps no prepared statements ({first_line(error)}): "
            "set MAI_SESSIONS_PREPARE=off, as docs/deploy.md explains"
        ) from error
