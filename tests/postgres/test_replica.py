"""The search and the analytics from a streaming replica, and from the primary when that fails."""

import os
import re
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from support.chats import SESSIONS
from support.scripts import DBA
from support.service import wait_until

from mai_sessions.embedded import private_postgres as embedded
from mai_sessions.postgres import database as db
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection, fetch_one
from mai_sessions.postgres.database import Database
from mai_sessions.telemetry.request_record import RequestRecord, current

# A statement that is in the way of the replay is cancelled at once.
IMPATIENT = {"max_standby_streaming_delay": 0, "fsync": "off"}


@dataclass
class Replica:
    """A streaming replica of a primary of its own, both of the embedded PostgreSQL."""

    primary_url: str
    directory: Path
    url: str = ""
    _running: ExitStack = field(default_factory=ExitStack)

    def start(self) -> None:
        """Start it where it stopped."""
        self.url = self._running.enter_context(embedded.postgresql(self.directory, IMPATIENT))

    def kill(self) -> None:
        """Kill it, without notice to its clients."""
        pid = int(next(self.directory.glob("*/postmaster.pid")).read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)
        wait_until(lambda: not Path(f"/proc/{pid}").exists())
        self._running.close()

    def run(self, statement: str) -> Any:
        """Run a statement directly on the replica, and return its result; the replay may cancel it too."""
        while True:
            with (
                suppress(psycopg.errors.SerializationFailure),
                psycopg.connect(self.url, autocommit=True) as conn,
            ):
                return conn.execute(statement.encode()).fetchone()[0]

    def follow(self, primary: str) -> None:
        """Let it receive from another primary, or from none."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            conn.execute(sql.SQL("ALTER SYSTEM SET primary_conninfo = {}").format(primary))
            conn.execute("SELECT pg_reload_conf()")

    def catch_up(self) -> None:
        """Wait until it has all that the primary has."""
        with psycopg.connect(self.primary_url, autocommit=True) as conn:
            lsn = conn.execute("SELECT pg_current_wal_insert_lsn()").fetchone()[0]
        wait_until(lambda: self.run(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'::pg_lsn"))


@pytest.fixture(scope="module")
def replica(data_dir: Path, run_program: Callable[..., str]) -> Iterator[Replica]:
    """A replica that runs, and whose primary has the schema."""
    with embedded.postgresql(data_dir / "primary", {"fsync": "off"}) as url:
        migrations.migrate(url, "on")
        cluster = next((data_dir / "primary").glob("*/PG_VERSION")).parent
        directory = data_dir / "replica"
        directory.mkdir()
        directory.chmod(0o755)
        host = str(conninfo_to_dict(url)["host"])
        copy = directory / cluster.name
        user = str(conninfo_to_dict(url)["user"])
        run_program(
            "pg_basebackup", "-h", host, "-U", user, "-D", str(copy), "-R", "-X", "stream", "-c", "fast"
        )
        for path in (copy, *copy.rglob("*")):
            shutil.chown(path, cluster.owner())
        replica = Replica(url, directory)
        replica.start()
        yield replica
        replica._running.close()


@pytest.fixture
def app(make_app: Callable[..., Flask], replica: Replica, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The application over both; a replica that failed is soon tried again."""
    monkeypatch.setattr(db, "REPLICA_COOLDOWN", 0.5)
    app = make_app(database_url=replica.primary_url, read_url=replica.url)
    wait_until(lambda: is_replica_read(app))
    return app


def is_replica_read(app: Flask) -> bool:
    """Return whether the replica serves a read that may be outdated."""
    database: Database = app.extensions["mai_sessions"].database
    row = database.stale_read(fetch_one, "SELECT /* replicated */ pg_is_in_recovery()", {})
    assert row
    return bool(row[0])


def found(client: FlaskClient, word: str) -> int:
    return len(client.get(f"/api/v1/search?q={word}").get_json()["results"])


def test_stale_reads_use_the_replica(app: Flask, client: FlaskClient, replica: Replica) -> None:
    made = client.post(SESSIONS, json={"title": "Voyage"}).get_json()["id"]
    replica.catch_up()
    assert found(client, "voyage") == 1
    counted = client.get("/api/v1/analytics/usage").get_json()["total_messages"]

    replica.run("SELECT pg_wal_replay_pause()::text")
    wait_until(lambda: replica.run("SELECT pg_get_wal_replay_pause_state()") == "paused")
    wait_until(lambda: is_replica_read(app))
    client.post(f"{SESSIONS}/{made}/messages", json={"role": "user", "content": "a lighthouse"})
    client.patch(f"{SESSIONS}/{made}", json={"title": "Journey"})
    # As it was.
    assert (found(client, "lighthouse"), found(client, "voyage"), found(client, "journey")) == (0, 1, 0)
    assert client.get("/api/v1/analytics/usage").get_json()["total_messages"] == counted
    assert client.get("/api/v1/analytics/summary").get_json()["total_messages"] == counted
    assert (
        client.get("/api/v1/analytics/agents").status_code
        == client.get("/api/v1/analytics/models").status_code
        == 200
    )
    # As it is.
    assert client.get(SESSIONS).get_json()["sessions"][0]["title"] == "Journey"
    assert client.get(f"{SESSIONS}?search=journey").get_json()["total"] == 1
    assert client.get(f"{SESSIONS}/{made}").get_json()["message_count"] == 1
    assert client.get(f"{SESSIONS}/{made}/messages").get_json()[0]["content"] == "a lighthouse"
    health = client.get("/health/detailed").get_json()
    assert health["services"]["postgres"]["details"]["replica"]["lag_seconds"] > 0

    replica.run("SELECT pg_wal_replay_resume()::text")
    replica.catch_up()
    assert (found(client, "lighthouse"), found(client, "voyage"), found(client, "journey")) == (1, 0, 1)
    assert client.get("/api/v1/analytics/usage").get_json()["total_messages"] == counted + 1


def test_health_report_remarks_on_a_replica_that_is_behind(
    replica: Replica, run_program: Callable[..., str]
) -> None:
    def health(url: str, what: str) -> list[str]:
        printed = run_program("psql", "-XqAt", "-f", str(DBA / "report/health.sql"), url)
        return next(row[1:] for row in (line.split("|") for line in printed.splitlines()) if row[0] == what)

    replica.catch_up()
    wait_until(lambda: health(replica.primary_url, "replicas") == ["1", ""])
    assert health(replica.url, "behind the primary") == ["no", ""]

    replica.run("SELECT pg_wal_replay_pause()::text")
    wait_until(lambda: replica.run("SELECT pg_get_wal_replay_pause_state()") == "paused")
    with psycopg.connect(replica.primary_url, autocommit=True) as conn:
        conn.execute("CREATE TABLE unseen AS SELECT number FROM generate_series(1, 1000) AS number")
    wait_until(lambda: health(replica.url, "behind the primary")[1] == "behind")
    wait_until(lambda: health(replica.primary_url, "replicas")[1] == "behind")
    assert re.fullmatch(r"1, behind by \d+ kB, 00:00:.*", health(replica.primary_url, "replicas")[0])

    replica.run("SELECT pg_wal_replay_resume()::text")
    replica.catch_up()
    assert health(replica.url, "behind the primary") == ["no", ""]

    primary = replica.run("SHOW primary_conninfo")
    replica.follow("")
    wait_until(lambda: health(replica.url, "behind the primary")[1] == "not connected to the primary")
    replica.follow(primary)
    wait_until(lambda: health(replica.url, "behind the primary") == ["no", ""])


def test_request_that_waited_for_a_thread_reads_the_replica(app: Flask) -> None:
    token = current.set(RequestRecord("", "GET", queue_seconds=db.REPLICA_WAIT * 2))
    assert is_replica_read(app)
    current.reset(token)


def test_replica_whose_schema_is_behind_leaves_its_reads_to_the_primary(
    app: Flask, client: FlaskClient, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    client.post(SESSIONS, json={"title": "Horizon"})
    with psycopg.connect(replica.primary_url, autocommit=True) as conn:
        conn.execute("ALTER TABLE session_titles RENAME COLUMN words TO old_words")
        replica.catch_up()
        replica.run("SELECT pg_wal_replay_pause()::text")
        conn.execute("ALTER TABLE session_titles RENAME COLUMN old_words TO words")
    assert found(client, "horizon") == 1
    assert "the replica database is away: UndefinedColumn" in caplog.text
    replica.run("SELECT pg_wal_replay_resume()::text")
    replica.catch_up()
    wait_until(lambda: is_replica_read(app))
    assert found(client, "horizon") == 1


def test_conflict_with_recovery_is_read_on_the_primary(
    app: Flask, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    """A statement on the replica that the replay cannot wait for."""

    def replay() -> None:
        wait_until(
            lambda: replica.run("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        )
        with psycopg.connect(replica.primary_url) as conn:
            conn.execute("LOCK TABLE sessions IN ACCESS EXCLUSIVE MODE")

    def read(conn: Connection) -> bool:
        row = fetch_one(
            conn,
            "SELECT /* slow */ pg_is_in_recovery(), (SELECT count(*) FROM sessions),"
            " pg_sleep(CASE WHEN pg_is_in_recovery() THEN 9 ELSE 0 END)",
            {},
        )
        assert row
        return bool(row[0])

    thread = threading.Thread(target=replay)
    thread.start()
    assert app.extensions["mai_sessions"].database.stale_read(read) is False
    thread.join()
    assert "SerializationFailure 40001: canceling statement due to conflict with recovery" in caplog.text
    wait_until(lambda: is_replica_read(app))


def test_killed_replica_leaves_its_reads_to_the_primary(
    app: Flask, client: FlaskClient, replica: Replica, caplog: pytest.LogCaptureFixture
) -> None:
    client.post(SESSIONS, json={"title": "Harbour"})
    replica.catch_up()
    replica.kill()
    for _ in range(10):
        assert found(client, "harbour") == 1
        for path in (
            f"{SESSIONS}?limit=1",
            "/api/v1/analytics/usage",
            "/api/v1/analytics/summary",
            "/health/ready",
        ):
            assert client.get(path).status_code == 200
    assert not is_replica_read(app)
    assert len([message for message in caplog.messages if "replica database" in message]) <= 1
    health = client.get("/health/detailed").get_json()
    assert health["status"] == "healthy"
    assert health["services"]["postgres"]["details"]["replica"]["error"] == "Database not available"

    replica.start()
    wait_until(lambda: is_replica_read(app))
    replica.catch_up()
    assert found(client, "harbour") == 1
    health = client.get("/health/detailed").get_json()
    assert health["services"]["postgres"]["details"]["replica"]["ok"] is True
