import os
import signal
from collections.abc import Callable
from datetime import datetime

import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg.conninfo import make_conninfo

from mai_sessions import create_app
from mai_sessions.config import Settings
from mai_sessions.postgres import migrations


def test_service_names_itself(client: FlaskClient) -> None:
    body = client.get("/").get_json()
    assert body["name"] == "mai-sessions"
    assert set(body) == {"name", "version", "docs"}


def test_health_responds_without_a_database(client: FlaskClient) -> None:
    assert datetime.fromisoformat(client.get("/health").get_json()["timestamp"]).tzinfo is not None
    assert client.get("/health/live").get_json() == {"status": "alive"}


def test_service_with_a_database_is_ready(client: FlaskClient) -> None:
    assert client.get("/health/ready").get_json() == {"status": "ready"}


def test_service_without_a_database_is_not_ready() -> None:
    app: Flask = create_app(
        Settings(database_url="host=127.0.0.1 port=1 dbname=none", migrate="off", pool_timeout=0.2)
    )
    with app.test_client() as client:
        response = client.get("/health/ready")
        assert response.status_code == 503
        assert response.get_json()["detail"] == "Database not ready"
        assert int(response.headers["Retry-After"]) > 0
        assert client.get("/health").status_code == 200
        assert client.get("/api/v1/sessions").status_code == 503
    app.extensions["mai_sessions"].close()


def test_detailed_health_describes_postgresql(client: FlaskClient) -> None:
    body = client.get("/health/detailed").get_json()
    assert body["status"] == "healthy"
    assert list(body["services"]) == ["postgres"]
    assert body["services"]["postgres"]["ok"] is True
    assert "error" not in body["services"]["postgres"]


def test_detailed_responds_while_the_database_hangs(make_app: Callable[..., Flask], conn: object) -> None:
    app = make_app(threads=1)
    client = app.test_client()
    with app.extensions["mai_sessions"].database.connection() as pooled:
        backend = pooled.info.backend_pid
    os.kill(backend, signal.SIGSTOP)
    try:
        body = client.get("/health/detailed").get_json()
    finally:
        os.kill(backend, signal.SIGCONT)
    assert body["status"] == "unhealthy"
    assert body["services"]["postgres"]["error"] == "Database not available"
    assert client.get("/health/detailed").get_json()["status"] == "healthy"


def test_detailed_health_without_a_database_is_unhealthy() -> None:
    settings = Settings(
        database_url="host=127.0.0.1 port=1 dbname=none", migrate="off", threads=1, pool_timeout=0.01
    )
    app = create_app(settings)
    with app.test_client() as client:
        assert [client.get("/api/v1/sessions").status_code for _ in range(3)] == [503] * 3
        response = client.get("/health/detailed")
    assert response.status_code == 200
    body = response.get_json()
    assert body["status"] == "unhealthy"
    assert body["services"]["postgres"]["ok"] is False
    assert body["services"]["postgres"]["details"]["pool_available"] == 0
    # Those that gave up wait no more.
    assert body["services"]["postgres"]["details"]["requests_waiting"] <= 1
    app.extensions["mai_sessions"].close()


def test_schema_of_an_older_release_is_neither_ready_nor_healthy(new_database: str) -> None:
    app = create_app(Settings(database_url=new_database, migrate="off", threads=1))
    with app.test_client() as client:
        assert client.get("/health/ready").status_code == 503
        body = client.get("/health/detailed").get_json()
        refused = client.get("/api/v1/sessions")
    app.extensions["mai_sessions"].close()
    assert body["status"] == "unhealthy"
    assert body["services"]["postgres"]["error"] == "Schema of an older release"
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert "which `mai-sessions migrate` applies" in refused.get_json()["detail"]


def test_role_without_rights_is_neither_ready_nor_healthy(
    new_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    migrations.migrate(new_database, "on")
    url = make_conninfo(new_database, user="mai_sessions_app", password="mai_sessions_app")
    app = create_app(Settings(database_url=url, migrate="off", threads=1))
    with app.test_client() as client:
        ready, detailed = client.get("/health/ready", buffered=True), client.get("/health/detailed")
    assert "/health/ready 503" in caplog.text
    app.extensions["mai_sessions"].close()
    assert (ready.status_code, ready.get_json()["detail"]) == (503, "Database not ready")
    assert (detailed.status_code, detailed.get_json()["status"]) == (200, "unhealthy")
