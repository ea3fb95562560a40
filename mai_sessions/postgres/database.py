"""The database: the primary, and a replica for reads that may be a moment old."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Concatenate, ParamSpec, TypeVar

from mai_sessions.config import Settings
from mai_sessions.errors import Unavailable
from mai_sessions.postgres.connection import Connection
from mai_sessions.postgres.pool import Pool
from mai_sessions.telemetry.logs import describe
from mai_sessions.telemetry.request_record import current

P = ParamSpec("P")
T = TypeVar("T")

# In seconds: how long a read waits for a connection to the replica, and how long a replica that failed is
# left alone.
REPLICA_WAIT = 0.25
REPLICA_COOLDOWN = 5.0


class Database:
    """The pools of `DATABASE_URL` and `MAI_SESSIONS_READ_URL`."""

    def __init__(self, settings: Settings) -> None:
        self._pool_timeout = settings.pool_timeout
        self.primary = Pool(settings, "primary")
        self.replica: Pool | None = None
        if settings.read_url:
            self.replica = Pool(replace(settings, database_url=settings.read_url), "replica")
        self._replica_cools_until = 0.0

    def open(self) -> None:
        """Start connecting, without waiting for the first connection."""
        for pool in filter(None, [self.primary, self.replica]):
            pool.open()

    def pools(self) -> dict[str, Callable[[], dict[str, int]]]:
        """Return the function that counts the connections of each server, by the server's name."""
        return {pool.name: pool.stats for pool in filter(None, [self.primary, self.replica])}

    def close(self) -> None:
        """Close every connection. A closed database cannot be opened again."""
        self.primary.close()
        if self.replica:
            self.replica.close()

    def check_session_settings(self) -> None:
        """Connect once. Raises StartupError, with the reason, for a primary that the service cannot use."""
        self.primary.check()

    def connection(self) -> AbstractContextManager[Connection]:
        """Check out an autocommit connection to the primary. Raises Conflict and Unavailable."""
        record = current.get()
        # Time spent queueing for a thread counts against the pool timeout.
        return self.primary.checkout(self._pool_timeout - (record.queue_seconds if record else 0.0))

    def stale_read(
        self, read: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Call a function that only reads, with a connection to the replica: its data may be a moment old.

        Without a replica, or when it fails for any reason, the primary is read instead. A replica that failed
        is left alone for REPLICA_COOLDOWN seconds.
        """
        if self.replica:
            if time.monotonic() >= self._replica_cools_until:
                try:
                    # A request that queued for a thread waits as long, because the replica has no part in
                    # that queue.
                    with self.replica.checkout(REPLICA_WAIT) as conn:
                        value = read(conn, *args, **kwargs)
                    self.replica.outage.responds()
                    return value
                # The replica is away or too slow, has a conflict with recovery, its schema is behind, or its
                # role may not read.
                except Unavailable as error:
                    self._replica_cools_until = time.monotonic() + REPLICA_COOLDOWN
                    self.replica.outage.fails(describe(error.__cause__ or error))
            if record := current.get():
                record.replica_fallbacks += 1
        with self.connection() as conn:
            return read(conn, *args, **kwargs)
