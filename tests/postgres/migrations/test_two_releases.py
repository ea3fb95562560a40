"""A release that serves while the next one migrates: it continues to serve, and it can start again.

Each kind of change that CONTRIBUTING.md allows is one of the migrations of the release after.
"""

import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from itertools import count
from pathlib import Path

import orjson
import psycopg
import pytest
from support.chats import SESSIONS
from support.samples import data_url, png
from support.service import TREE, Service, call, running

from mai_sessions.errors import StartupError
from mai_sessions.postgres.migrations import MIGRATIONS, discover, migrate

ALLOWED = {
    "add_column": "ALTER TABLE sessions ADD COLUMN pinned boolean NOT NULL DEFAULT false;",
    "add_nullable_column": "ALTER TABLE messages ADD COLUMN parent_id uuid;",
    "create_tags": """
        CREATE TABLE tags (
            user_id    text COLLATE "C" NOT NULL,
            session_id uuid             NOT NULL,
            tag        text             NOT NULL,
            CONSTRAINT tags_pkey PRIMARY KEY (user_id, session_id, tag),
            CONSTRAINT tags_session_fkey FOREIGN KEY (user_id, session_id) REFERENCES sessions (user_id,
                   id) ON DELETE CASCADE
        );""",
    "index_models": """-- migrate: no-transaction
        CREATE INDEX CONCURRENTLY IF NOT EXISTS messages_user_id_model_id_idx
            ON messages (user_id, model_id);""",
    "check_parents": """ALTER TABLE messages
        ADD CONSTRAINT messages_parent_id_check CHECK (parent_id <> id) NOT VALID;""",
    "validate_parents": "ALTER TABLE messages VALIDATE CONSTRAINT messages_parent_id_check;",
    "widen_role": """
        ALTER TABLE messages
            -- squawk-ignore ban-drop-constraint
            DROP CONSTRAINT messages_role_check,
            ADD CONSTRAINT messages_role_check
            CHECK (role IN ('user', 'assistant', 'system', 'tool', 'developer')) NOT VALID;""",
    "validate_role": "ALTER TABLE messages VALIDATE CONSTRAINT messages_role_check;",
    "drop_index": """-- migrate: no-transaction
        DROP INDEX CONCURRENTLY IF EXISTS messages_user_id_model_id_idx;""",
}
NEWEST = discover()[-1].version


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The migrations of the next release."""
    path = tmp_path / "after"
    shutil.copytree(str(MIGRATIONS), path)
    for version, (name, sql) in enumerate(ALLOWED.items(), NEWEST + 1):
        (path / f"{version:04}_{name}.sql").write_text(sql)
    return path


@pytest.fixture
def database_url(make_migrated_database: Callable[[], str]) -> str:
    return make_migrated_database()


def test_squawk_accepts_each_allowed_change(directory: Path) -> None:
    squawk = Path(sys.executable).with_name("squawk")
    if not squawk.exists():
        pytest.skip("the extra lint is not installed")
    files = sorted(directory.iterdir())[NEWEST:]
    done = subprocess.run([squawk, *files], cwd=TREE, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def use_everything(service: Service, statuses: Counter[object]) -> None:
    """Send one request of each kind."""
    with closing(service.connect()) as http:

        def ask(method: str, path: str, body: object = None) -> bytes:
            headers = (
                {"Content-Type": "application/json", "Idempotency-Key": str(next(_keys))}
                if method == "POST"
                else {}
            )
            http.request(method, path, None if body is None else orjson.dumps(body), headers)
            response = http.getresponse()
            content = response.read()
            statuses[response.status] += 1
            return content

        session = f"{SESSIONS}/{orjson.loads(ask('POST', SESSIONS, {'title': 'two releases'}))['id']}"
        message = {"role": "user", "content": "two releases", "model_id": "m", "images": [data_url(png())]}
        written = orjson.loads(ask("POST", f"{session}/messages", message))
        ask("GET", written["images"][0])
        ask("PATCH", f"{session}/messages/{written['id']}", {"content": "still two"})
        ask("PATCH", session, {"title": "still two"})
        for path in (
            f"{SESSIONS}?search=still",
            session,
            f"{session}/messages",
            "/api/v1/search?q=two",
            "/health/ready",
        ):
            ask("GET", path)
        for name in ("usage", "agents", "models", "summary"):
            ask("GET", f"/api/v1/analytics/{name}")
        ask("DELETE", f"{session}/messages/{written['id']}")
        ask("DELETE", f"{session}/messages")
        ask("DELETE", session)


_keys = count()


@contextmanager
def under_load(service: Service) -> Iterator[Counter[object]]:
    """Let clients use everything for the length of a `with`, each at least once before, during and after
    it.
    """
    statuses: Counter[object] = Counter()
    stop, begun = threading.Event(), threading.Barrier(5)

    def client() -> None:
        mine: Counter[object] = Counter()
        try:
            use_everything(service, mine)
            begun.wait()
            while not stop.is_set():
                use_everything(service, mine)
            use_everything(service, mine)
        except (OSError, HTTPException, KeyError) as error:
            mine[repr(error)] += 1
            begun.abort()
        statuses.update(mine)

    clients = [threading.Thread(target=client) for _ in range(4)]
    for thread in clients:
        thread.start()
    try:
        begun.wait(timeout=60)
        yield statuses
    finally:
        stop.set()
        for thread in clients:
            thread.join()


def test_running_release_serves_during_migrations(database_url: str, directory: Path, tmp_path: Path) -> None:
    with running(database_url, tmp_path / "log") as service:
        with under_load(service) as statuses:
            migrate(database_url, "on", directory)
        assert set(statuses) == {200, 201, 204}, statuses
        # A schema ahead of the code is one that it can use.
        with closing(service.connect()) as http:
            assert call(http, "GET", "/health/ready") == (200, {"status": "ready"})
            assert call(http, "GET", "/health/detailed")[1]["status"] == "healthy"
    assert '"level":"ERROR"' not in (tmp_path / "log").read_text()
    with psycopg.connect(database_url) as conn:
        [(newest,)] = conn.execute("SELECT max(version) FROM schema_migrations").fetchall()
        assert newest == NEWEST + len(ALLOWED)
        assert conn.execute("SELECT FROM pg_constraint WHERE NOT convalidated").fetchall() == []


@pytest.mark.parametrize("mode", ["on", "check", "off"])
def test_previous_release_starts_on_the_new_schema(
    database_url: str, directory: Path, tmp_path: Path, mode: str
) -> None:
    migrate(database_url, "on", directory)
    with (
        running(database_url, tmp_path / "log", MAI_SESSIONS_MIGRATE=mode) as service,
        under_load(service) as statuses,
    ):
        pass
    assert set(statuses) == {200, 201, 204}, statuses
    names = [
        line
        for line in (tmp_path / "log").read_text().splitlines()
        if "which this mai-sessions does not know" in line
    ]
    assert len(names) == (0 if mode == "off" else len(ALLOWED))


def test_old_release_does_not_start_after_a_breaking_migration(
    database_url: str, directory: Path, tmp_path: Path
) -> None:
    """Running processes of the old release are not stopped: the operator stops them first."""
    sql = "-- migrate: breaking\nALTER TABLE messages ADD COLUMN content_key text;\n"
    (directory / f"{NEWEST + len(ALLOWED) + 1:04}_encrypt_contents.sql").write_text(sql)
    with running(database_url, tmp_path / "log") as service, under_load(service) as statuses:
        migrate(database_url, "on", directory)
    assert set(statuses) == {200, 201, 204}, statuses
    for mode in ("on", "check"):
        with pytest.raises(StartupError, match="encrypt_contents, which needs a newer mai-sessions"):
            migrate(database_url, mode)
