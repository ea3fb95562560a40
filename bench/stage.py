"""The PostgreSQL of a run: a database for each target and size, and the servers of the targets."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import psycopg
from psycopg import sql

from bench import data, targets
from bench.data import Rows
from bench.targets import CACHE, TREE, References, Server
from mai_sessions.content import lexemes
from mai_sessions.postgres import migrations

# Run by the other checkout: its own migrations, and its own rows for its own schema.
_FILL = """
import sys
from datetime import datetime
from bench import data
_, url, size, end = sys.argv
data.load(url, "ours", data.rows(size, datetime.fromisoformat(end)))
"""


class Stage:
    """A PostgreSQL with the databases of the targets. `before` is the checkout of another release."""

    def __init__(self, server_url: str, references: References, before: Path | None = None) -> None:
        self._server_url = server_url
        self._references = references
        self._before = before
        with psycopg.connect(server_url) as conn:
            postmaster = psutil.Process(conn.info.backend_pid).parent()
            assert postmaster
            self.postgres = postmaster

    @contextmanager
    def serving(self, name: str, size: str, **environ: str) -> Iterator[Server]:
        """Run a target over new rows. Only the large set is kept for the next run."""
        url, kept = self.database_url(name, size), False
        if size == "large":
            kept = self._comment(name, size) == fingerprint(rows(size))
        if not kept:
            self.new_database(urlsplit(url).path[1:])
        if name == "before":
            assert self._before
            self._fill_before(self._before, url, size)
            kept = True
        elif name == "ours":
            migrations.migrate(url, "on")
        elif name == "expert" and not kept:
            self._references.make_expert_tables(url)
        with self._serve(name, url, **environ) as server:
            if not kept:
                data.load(url, name, rows(size))
                self._execute(
                    sql.SQL("COMMENT ON DATABASE {} IS {}").format(
                        sql.Identifier(urlsplit(url).path[1:]), sql.Literal(fingerprint(rows(size)))
                    )
                )
            data.settle(url)
            yield server

    @property
    def expert(self) -> list[str]:
        """The name of the expert reference, if it is there."""
        return [name for name in self._references.names if name == "expert"]

    def make_expert_tables(self, database_url: str) -> None:
        """Create the tables of the expert reference."""
        self._references.make_expert_tables(database_url)

    def new_database(self, name: str) -> str:
        """Create an empty database, replacing an old one, and return its URI."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name)))
        return urlsplit(self._server_url)._replace(path=f"/{name}").geturl()

    def database_url(self, name: str, size: str) -> str:
        """Return the URI of the database of a target and size."""
        return urlsplit(self._server_url)._replace(path=f"/{name}_{size}".replace(",", "")).geturl()

    @contextmanager
    def _serve(self, name: str, url: str, **environ: str) -> Iterator[Server]:
        if name in ("ours", "before"):
            started = targets.ours(
                url, self._before if name == "before" and self._before else TREE, **environ
            )
        else:
            started = getattr(self._references, name)(url)
        with started as server:
            yield server

    @staticmethod
    def _fill_before(tree: Path, url: str, size: str) -> None:
        programs, end = targets.bin_of(tree), rows(size).end.isoformat()
        environ = targets.environ_with(DATABASE_URL=url)
        subprocess.run([programs / "mai-sessions", "migrate"], cwd=tree, env=environ, check=True)
        subprocess.run([programs / "python", "-c", _FILL, url, size, end], cwd=tree, env=environ, check=True)

    def _comment(self, name: str, size: str) -> str | None:
        query = sql.SQL("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = {}")
        found = self._execute(query.format(sql.Literal(urlsplit(self.database_url(name, size)).path[1:])))
        return found[0][0] if found else None

    def _execute(self, statement: sql.Composed) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._server_url, autocommit=True) as conn:
            cursor = conn.execute(statement)
            return cursor.fetchall() if cursor.description else []


@cache
def rows(size: str) -> Rows:
    """Return the rows of a size, until last midnight, or until that before the large set was filled, while
    that is kept.
    """
    # Cached, because midnight may pass during a run.
    end = datetime.combine(datetime.now(UTC), datetime.min.time(), UTC)
    if size == "large":
        kept = CACHE / "large-end"
        if kept.exists() and end - datetime.fromisoformat(kept.read_text()) < timedelta(days=2):
            end = datetime.fromisoformat(kept.read_text())
        kept.write_text(end.isoformat())
    return data.rows(size, end)


def fingerprint(kept: Rows) -> str:
    """Return a hash of everything that the rows of the large set depend on."""
    sources = [
        Path(data.__file__),
        Path(lexemes.__file__),
        *sorted((TREE / "sql" / "migrations").glob("*.sql")),
    ]
    return f"{kept.end} {sha256(b''.join(source.read_bytes() for source in sources)).hexdigest()}"
