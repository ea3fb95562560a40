from datetime import datetime

from flask import Flask
from flask.testing import FlaskClient

from mai_sessions import create_app
from mai_sessions.config import Settings


def test_service_names_itself(client: FlaskClient) -> None:
    body = client.get("/").get_json()
    assert body["name"] == "mai-sessions"
    assert set(body) == {"name", "version", "docs"}


def test_process_answers(client: FlaskClient) -> None:
    assert datetime.fromisoformat(client.get("/health").get_json()["timestamp"]).tzinfo is not None
    assert client.get("/health/live").get_json() == {"status": "alive"}


def test_ready(client: FlaskClient) -> None:
    assert client.get("/health/ready").get_json() == {"status": "ready"}


def test_not_ready_without_its_database() -> None:
    app: Flask = create_app(Settings(database_url="host=127.0.0.1 port=1 dbname=none", migrate="off", pool_timeout=0.2))
    with app.test_client() as client:
        response = client.get("/health/ready")
        assert response.status_code == 503
        assert response.get_json()["detail"] == "Database not ready"
        assert int(response.headers["Retry-After"]) > 0
        assert client.get("/health").status_code == 200
        assert client.get("/api/v1/sessions").status_code == 503
    app.extensions["mai-sessions"].close()
