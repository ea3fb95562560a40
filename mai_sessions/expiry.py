"""Removes expired rows: idempotency keys, abandoned streams, and sessions past their retention.

Each worker has a thread that runs once a minute. An advisory try-lock lets one worker at a time find the
expired rows, and each transaction is one small batch. Only the statements here and in repository/reindex.py
concern all users.
"""

import logging
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, LiteralString

from mai_sessions.config import Settings
from mai_sessions.content.tokens import load_tokenizer
from mai_sessions.errors import NotFound, Stale, Unavailable
from mai_sessions.postgres.cluster import is_distributed
from mai_sessions.postgres.connection import fetch_all, fetch_one
from mai_sessions.postgres.database import Database
from mai_sessions.repository.patches import interrupt_stream
from mai_sessions.repository.session_batches import delete_session
from mai_sessions.telemetry.logs import describe

if TYPE_CHECKING:
    from mai_sessions.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

# In seconds.
INTERVAL = 60.0
RETENTION_INTERVAL = 3600.0
PAUSE_BETWEEN_BATCHES = 0.05
_BATCH = 1000
# Smaller, as each message is read with its content.
_STREAM_BATCH = 20

TRY_LOCK: LiteralString = """
    SELECT /* try_lock */ pg_try_advisory_xact_lock(hashtextextended('mai_sessions expiry', 0))"""

# The newest key of a batch of the oldest ones. Keys of the same time are deleted with it.
NEWEST_EXPIRED_KEY: LiteralString = """
    SELECT /* delete_expired_keys, the batch */ max(k.created_at)
      FROM (SELECT created_at FROM idempotency_keys
             WHERE created_at < now() - interval '24 hours'
             ORDER BY created_at
             LIMIT %(batch)s) AS k"""

DELETE_KEYS_UNTIL: LiteralString = """
    DELETE /* delete_expired_keys */ FROM idempotency_keys WHERE created_at <= %(newest)s RETURNING user_id"""

# On a Citus cluster a DELETE for all users would commit in two phases on all nodes. Here each shard is a
# transaction of its own, on a connection of its own, one after the other.
DELETE_KEYS_OF_EACH_SHARD: LiteralString = """
    SELECT /* delete_expired_keys, of each shard */ coalesce(sum(ltrim(r.result, 'DELETE ')::int), 0)::int
      FROM run_command_on_shards('idempotency_keys', $$
           DELETE FROM %%1$s
            WHERE ctid = ANY (ARRAY(
                  SELECT ctid
                    FROM %%1$s
                   WHERE created_at < now() - interval '24 hours'
                   ORDER BY created_at
                   LIMIT 1000))$$, parallel => false) AS r
     WHERE r.success"""

COUNT_OVERDUE_KEYS: LiteralString = """
    SELECT /* count_overdue_keys */ count(*)
      FROM (SELECT user_id FROM idempotency_keys
             WHERE created_at < now() - interval '25 hours'
             LIMIT 100000) AS k"""

COUNT_OVERDUE_STREAMS: LiteralString = """
    SELECT /* count_overdue_streams */ count(*)
      FROM (SELECT user_id FROM messages
             WHERE status = 'streaming' AND created_at < now() - interval '2 hours'
               AND coalesce(updated_at, created_at) < now() - interval '2 hours'
             LIMIT 100000) AS m"""

LIST_USERS: LiteralString = """
    SELECT /* list_old_sessions, the users */ user_id
      FROM users
     WHERE user_id > %(after)s
     ORDER BY user_id
     LIMIT %(batch)s"""

LIST_OLD_SESSIONS: LiteralString = """
    SELECT /* list_old_sessions */ user_id, id, version
      FROM sessions
     WHERE user_id = ANY (%(users)s::text[]) AND archived = ANY ('{false,true}')
       AND updated_at < now() - make_interval(days => %(days)s)
     LIMIT %(batch)s"""

LIST_ABANDONED_STREAMS: LiteralString = """
    SELECT /* list_abandoned_streams */ m.user_id, m.session_id, m.id, s.version
      FROM messages AS m
      JOIN sessions AS s ON s.user_id = m.user_id AND s.id = m.session_id
     WHERE m.status = 'streaming' AND m.created_at < now() - interval '1 hour'
       AND coalesce(m.updated_at, m.created_at) < now() - interval '1 hour'
     LIMIT %(batch)s"""


class Expiry:
    """Removes the expired rows of a database, once or for as long as the process lives."""

    def __init__(self, database: Database, settings: Settings) -> None:
        """`metrics` may be set before `start`."""
        self.metrics: Metrics | None = None
        self._lock = threading.Lock()
        self._process: int | None = None
        self._stopped = threading.Event()
        self._database = database
        self._enabled = settings.expiry == "on"
        self._retention_days = settings.retention_days
        self._count_tokens = load_tokenizer(settings.tokenizer)
        self._next_retention = 0.0

    def start(self) -> None:
        """Start the thread of this process, unless it runs. It first works after a random time of up to a
        minute.
        """
        with self._lock:
            # The child of a fork has no thread yet.
            if self._process != os.getpid():
                self._process = os.getpid()
                self._stopped.clear()
                threading.Thread(target=self._loop, name="expiry", daemon=True).start()

    def stop(self) -> None:
        """End the thread, at the latest after the batch that it removes."""
        self._stopped.set()

    def _loop(self) -> None:
        pause = random.uniform(0, INTERVAL)  # noqa: S311 - only spreads the workers
        while not self._stopped.wait(pause):
            pause = INTERVAL
            try:
                self.run_once()
            except Exception as error:
                # A missing right, or a bug. Requests are not affected. Try again in a minute. The pool logs a
                # database that is away.
                if type(error) is not Unavailable:
                    log.error("expiry failed: %s", describe(error.__cause__ or error))

    def run_once(self) -> None:
        """Remove expired rows, unless that is switched off, and set the metrics.

        Raises Unavailable.
        """
        if self._enabled:
            self._expire_keys()
            self._in_batches("streams", self._interrupt_streams)
            if self._retention_days and time.monotonic() >= self._next_retention:
                self._expire_sessions(self._retention_days)
                self._next_retention = time.monotonic() + RETENTION_INTERVAL
        overdue = self.count_overdue()
        if self.metrics:
            for kind, count in overdue.items():
                self.metrics.expiry_overdue.labels(kind).set(count)
            self.metrics.expiry_last_run.set(time.time())

    def purge(self, retention_days: int = 0) -> dict[str, int]:
        """Remove all expired rows, and return the number of each kind.

        Sessions without writes for `retention_days` are deleted; 0 keeps all. Raises Unavailable.
        """
        return {
            "idempotency_keys": self._expire_keys(),
            "streams": self._in_batches("streams", self._interrupt_streams),
            "sessions": self._expire_sessions(retention_days) if retention_days else 0,
        }

    def count_overdue(self) -> dict[str, int]:
        """Count the rows of each kind that expired more than an hour ago, up to 100,000.

        Sessions are not counted. Raises Unavailable.
        """
        statements = {"idempotency_keys": COUNT_OVERDUE_KEYS, "streams": COUNT_OVERDUE_STREAMS}
        with self._database.connection() as conn:
            rows = {kind: fetch_one(conn, statement, {}) for kind, statement in statements.items()}
        return {kind: int(row[0]) if row else 0 for kind, row in rows.items()}

    def _expire_keys(self) -> int:
        return self._in_batches("idempotency_keys", self._delete_expired_keys)

    def _in_batches(self, kind: str, remove_batch: Callable[[], int]) -> int:
        """Remove batches until one is empty, and count the rows."""
        total = 0
        while removed := remove_batch():
            total += removed
            if self.metrics:
                self.metrics.expiry_removed.labels(kind).inc(removed)
            time.sleep(PAUSE_BETWEEN_BATCHES)
        return total

    def _delete_expired_keys(self) -> int:
        with self._database.connection() as conn, conn.transaction():
            locked = fetch_one(conn, TRY_LOCK, {})
            newest = fetch_one(conn, NEWEST_EXPIRED_KEY, {"batch": _BATCH}) if locked and locked[0] else None
            if newest is None or newest[0] is None:
                return 0
            if is_distributed(conn):
                deleted = fetch_one(conn, DELETE_KEYS_OF_EACH_SHARD, {})
                return deleted[0] if deleted else 0
            return len(fetch_all(conn, DELETE_KEYS_UNTIL, {"newest": newest[0]}))

    def _interrupt_streams(self) -> int:
        """End a batch of streams that nobody has written to for an hour, unless their client comes back."""
        with self._database.connection() as conn:
            abandoned = fetch_all(conn, LIST_ABANDONED_STREAMS, {"batch": _STREAM_BATCH})
            for user_id, session_id, message_id, version in abandoned:
                interrupt_stream(
                    conn,
                    user_id,
                    session_id,
                    message_id,
                    count_tokens=self._count_tokens,
                    version=version,
                )
        return len(abandoned)

    def _expire_sessions(self, days: int) -> int:
        total = 0
        for users in self._batches_of_users():
            total += self._in_batches("sessions", partial(self._delete_old_sessions, users, days))
        return total

    def _batches_of_users(self) -> Iterator[list[str]]:
        after = ""
        while True:
            with self._database.connection() as conn:
                users = [
                    user_id for (user_id,) in fetch_all(conn, LIST_USERS, {"after": after, "batch": _BATCH})
                ]
            if not users:
                return
            yield users
            after = users[-1]

    def _delete_old_sessions(self, users: list[str], days: int) -> int:
        """Delete a batch of old sessions, each in its own transaction, unless it is written meanwhile."""
        with self._database.connection() as conn:
            old = fetch_all(conn, LIST_OLD_SESSIONS, {"users": users, "days": days, "batch": _BATCH})
        deleted = 0
        for user_id, session_id, version in old:
            with suppress(NotFound, Stale), self._database.connection() as conn:
                delete_session(conn, user_id, session_id, if_match=[version])
                deleted += 1
        return deleted
