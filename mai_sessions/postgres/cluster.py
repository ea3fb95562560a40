"""The differences on a node of a Citus cluster: docs/citus.md."""

from collections.abc import Iterator
from typing import Any, LiteralString, NamedTuple

import psycopg

from mai_sessions.postgres.connection import Connection as PooledConnection
from mai_sessions.postgres.connection import run_transaction
from mai_sessions.postgres.migration_files import Migration, created_table

Connection = psycopg.Connection[Any]

SELECT_HAS_CITUS = "SELECT /* has_citus */ to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"
SELECT_IS_WORKER = "SELECT groupid <> 0 FROM pg_catalog.pg_dist_local_group"
SELECT_IS_DISTRIBUTED = """
    SELECT EXISTS (
           SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = to_regclass('public.sessions'))"""

# A hung node accepts connections and does not respond.
SET_NODE_TIMEOUT: LiteralString = """
    SELECT /* set_node_timeout */ set_config('citus.node_connection_timeout', '200', true)"""
COUNT_NODES: LiteralString = """
    SELECT /* count_nodes */ count(*),
                             count(*) FILTER (WHERE NOT citus_check_connection_to_node(nodename, nodeport))
      FROM pg_catalog.pg_dist_node
     WHERE isactive"""


class NodeCounts(NamedTuple):
    """The nodes of a cluster, and how many of them this one cannot reach."""

    total: int
    unreachable: int


def count_nodes(conn: PooledConnection) -> NodeCounts | None:
    """Try to reach each node of the cluster, in 0.2 s each.

    Returns None without Citus. Raises Unavailable.
    """
    if not _has_citus(conn):
        return None
    _, [(total, unreachable)] = run_transaction(conn, [SET_NODE_TIMEOUT, COUNT_NODES], {})
    return NodeCounts(total, unreachable)


def is_worker(conn: Connection) -> bool:
    """Return whether this is a worker node of a cluster, which takes rows but no changes of the schema."""
    return _has_citus(conn) and conn.execute(SELECT_IS_WORKER).fetchone() == (True,)


def is_distributed(conn: Connection) -> bool:
    """Return whether the rows of this database are on the nodes of a cluster."""
    return _has_citus(conn) and conn.execute(SELECT_IS_DISTRIBUTED).fetchone() == (True,)


def distributed_statements(migration: Migration) -> Iterator[str]:
    """Give the statements of a migration for a distributed database: a new table is distributed when it is
    made, so that the statements after it reach the rows on all nodes.
    """
    # One connection to each node: a second one would not see the tables that the first has made.
    yield "SET LOCAL citus.multi_shard_modify_mode = 'sequential';"
    for statement in migration.statements:
        yield statement
        if table := created_table(statement):
            yield f"SELECT create_distributed_table('{table}', 'user_id', colocate_with => 'sessions');"


def _has_citus(conn: Connection) -> bool:
    return conn.execute(SELECT_HAS_CITUS).fetchone() == (True,)
