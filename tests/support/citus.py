"""A Citus cluster that CITUS_URL names, with databases of the tests' own on all its nodes."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGKILL, SIGSTOP, Signals
from typing import Any

import psutil
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

CITUS_URL = os.environ.get("CITUS_URL", "")
# So few that a database is made in a second, and that each worker has some.
SHARDS = 4


def not_on_citus(reason: str) -> pytest.MarkDecorator:
    """Skip a test of what a cluster does not have."""
    return pytest.mark.skipif(bool(CITUS_URL), reason=f"on Citus {reason}")


# move_user.sql says so, and what to do instead.
NO_MOVES = not_on_citus("no user_id changes")
ONE_NODE = not_on_citus("this report shows one node")


@dataclass
class Node:
    """A server of the cluster."""

    url: str

    def run(self, statement: str, **params: Any) -> Any:
        """Run a statement there, and return the first value of its first row, if it has one."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            cursor = conn.execute(statement.encode(), params or None)
            return cursor.fetchone()[0] if cursor.description else None

    @property
    def port(self) -> int:
        return int(conninfo_to_dict(self.url)["port"])

    def postmaster(self) -> psutil.Process:
        """The process of the server. Skips the test where the server runs on another machine."""
        directory = Path(self.run("SHOW data_directory"))
        with suppress(OSError, psutil.Error):
            return psutil.Process(int((directory / "postmaster.pid").read_text().split()[0]))
        pytest.skip("the nodes of the cluster are not on this machine")

    @contextmanager
    def away(self, signal: Signals) -> Iterator[None]:
        """Stop the server (SIGINT), kill it (SIGKILL) or let it hang (SIGSTOP), and bring it back
        afterwards.
        """
        postmaster = self.postmaster()
        command, user, environ = postmaster.cmdline(), postmaster.username(), postmaster.environ()
        if "-D" in command:
            # The server may have been started with a relative path.
            command[command.index("-D") + 1] = self.run("SHOW data_directory")
        everything = [postmaster, *postmaster.children()]
        for process in everything if signal in (SIGKILL, SIGSTOP) else everything[:1]:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(signal)
        if signal != SIGSTOP:
            psutil.wait_procs([postmaster], timeout=30)
        try:
            yield
        finally:
            if signal == SIGSTOP:
                for process in everything:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(SIGCONT)
            else:
                psutil.wait_procs(everything, timeout=30)
                # In a session of its own, as it outlives the tests.
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                subprocess.run(
                    ["setsid", "--fork", *command], check=True, user=user, env=environ, cwd="/", **quiet
                )
            self._wait_until_it_serves()

    def _wait_until_it_serves(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                self.run("SELECT 1")
                return
            except psycopg.OperationalError:
                assert time.monotonic() < deadline
                time.sleep(0.1)


STOPPED, KILLED, HUNG = SIGINT, SIGKILL, SIGSTOP


def has_nodes(url: str) -> bool:
    """Return whether a database is the coordinator's of a cluster with worker nodes."""
    with psycopg.connect(url) as conn:
        [(has_citus,)] = conn.execute("SELECT to_regclass('pg_dist_node') IS NOT NULL").fetchall()
        return has_citus and bool(conn.execute("SELECT FROM pg_dist_node WHERE groupid > 0").rowcount)


def nodes(coordinator_url: str) -> list[Node]:
    """The servers of a cluster, the coordinator first, in the database that the URL names."""
    with psycopg.connect(coordinator_url) as conn:
        rows = conn.execute("SELECT nodename, nodeport FROM pg_dist_node ORDER BY groupid").fetchall()
    return [Node(make_conninfo(coordinator_url, host=host, port=port)) for host, port in rows]


def create_roles(roles: Sequence[str]) -> None:
    """Create on each node the roles that it lacks: Citus passes on only those that its databases create."""
    for node in nodes(CITUS_URL):
        with psycopg.connect(node.url, autocommit=True) as conn:
            conn.execute("SET citus.enable_create_role_propagation = off")
            existing = {name for (name,) in conn.execute("SELECT rolname FROM pg_roles").fetchall()}
            for role in set(roles) - existing:
                conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))


@contextmanager
def changing_roles() -> Iterator[None]:
    """Wait until no other process of the tests changes roles, which all databases share. To add a node also
    changes them.
    """
    with psycopg.connect(CITUS_URL) as lock:
        lock.execute("SELECT pg_advisory_xact_lock(hashtextextended('roles of the tests', 0))")
        yield


def create_database(name: str) -> str:
    """Create a database on all nodes, with Citus and the nodes added, and return its URL on the
    coordinator.
    """
    coordinator, *workers = nodes(CITUS_URL)
    for node in (coordinator, *workers):
        with psycopg.connect(node.url, autocommit=True) as conn:
            create = sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0")
            conn.execute(create.format(sql.Identifier(name)))
        Node(make_conninfo(node.url, dbname=name)).run("CREATE EXTENSION citus")
    database = Node(make_conninfo(coordinator.url, dbname=name))
    database.run(
        "SELECT citus_set_coordinator_host(%(host)s, %(port)s)",
        host=conninfo_to_dict(coordinator.url)["host"],
        port=coordinator.port,
    )
    with changing_roles():
        for worker in workers:
            address = {"host": conninfo_to_dict(worker.url)["host"], "port": worker.port}
            database.run("SELECT citus_add_node(%(host)s, %(port)s)", **address)
    return database.url


def drop_database(name: str) -> None:
    """Drop a database on all nodes."""
    for node in nodes(CITUS_URL):
        with psycopg.connect(node.url, autocommit=True) as conn:
            conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
