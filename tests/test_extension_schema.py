"""The extension on a database that is not as this release needs it."""

import io
import logging
from collections.abc import Callable, Iterator

import pytest
from flask import Flask, request
from psycopg.conninfo import make_conninfo

from mai_sessions import MaiSessions

UNKNOWN = "0199b0a4-5c1e-7d3a-9c44-b1f02f6a54cf"
MIGRATE = "The database lacks a migration of this release, which `flask mai-sessions migrate` applies"
GRANT = "The role of MAI_SESSIONS_DATABASE_URL lacks a right, which sql/dba/roles.sql grants"


@pytest.fixture
def make_host() -> Iterator[Callable[..., Flask]]:
    """Makes applications that register the extension with this database."""
    made = []

    def make(url: str, **config: str) -> Flask:
        app = Flask("host")
        app.config.update(MAI_SESSIONS_DATABASE_URL=url, **config)
        MaiSessions(app, identify=lambda: "ann")
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["mai_sessions"].close()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "sessions"),
        ("GET", "sessions"),
        ("PATCH", f"sessions/{UNKNOWN}"),
        ("POST", f"sessions/{UNKNOWN}/messages"),
        ("DELETE", f"sessions/{UNKNOWN}/messages"),
        ("GET", "search?q=sky"),
        ("GET", "analytics/usage"),
        ("GET", "export"),
    ],
)
def test_database_without_tables_is_a_503_that_names_the_command(
    make_host: Callable[..., Flask],
    new_database: str,
    caplog: pytest.LogCaptureFixture,
    method: str,
    path: str,
) -> None:
    body = {"role": "user", "content": ""} if method == "POST" else {}
    response = make_host(new_database).test_client().open(f"/api/v1/{path}", method=method, json=body)
    assert (response.status_code, response.content_type) == (503, "application/problem+json")
    assert response.get_json()["detail"] == MIGRATE
    assert response.headers["Retry-After"]
    assert f"{MIGRATE}: UndefinedTable" in caplog.text


def test_requests_succeed_after_the_migrations_without_a_restart(
    make_host: Callable[..., Flask], new_database: str
) -> None:
    app = make_host(new_database)
    client = app.test_client()
    assert client.post("/api/v1/sessions", json={}).status_code == 503
    assert app.test_cli_runner().invoke(args=["mai-sessions", "migrate"]).exit_code == 0
    assert client.post("/api/v1/sessions", json={}).status_code == 201
    assert client.get("/api/v1/sessions").get_json()["total"] == 1


def test_role_without_rights_is_a_503_that_names_the_script(
    make_host: Callable[..., Flask], database_url: str
) -> None:
    url = make_conninfo(database_url, user="mai_sessions_readonly", password="mai_sessions_readonly")
    response = make_host(url).test_client().post("/api/v1/sessions", json={})
    assert (response.status_code, response.get_json()["detail"]) == (503, GRANT)


def test_commands_name_the_settings_and_commands_of_the_application(
    make_host: Callable[..., Flask], new_database: str
) -> None:
    def check(url: str) -> str:
        return make_host(url).test_cli_runner().invoke(args=["mai-sessions", "check"]).output

    assert "run `flask mai-sessions migrate`" in check(new_database)
    app = make_host(new_database, MAI_SESSIONS_MIGRATE="off")
    exported = app.test_cli_runner().invoke(args=["mai-sessions", "export", "--user", "ann"])
    assert exported.output == f"Error: {MIGRATE}\n"
    assert "(check MAI_SESSIONS_DATABASE_URL)" in check("postgresql://127.0.0.1:1/none")


def test_traceback_in_the_log_of_the_application_has_no_values() -> None:
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logging.getLogger().addHandler(handler)

    def identify() -> str:
        return str(int(request.headers["Authorization"]))

    app = Flask("host")
    app.config["MAI_SESSIONS_DATABASE_URL"] = "postgresql://127.0.0.1:1/none"
    MaiSessions(app, identify=identify)
    response = app.test_client().get("/api/v1/sessions", headers={"Authorization": "secret"})
    logging.getLogger().removeHandler(handler)
    assert response.status_code == 500
    assert f"unexpected error in request {response.headers['X-Request-ID']}\nTraceback" in log.getvalue()
    assert "secret" not in log.getvalue()
