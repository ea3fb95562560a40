"""The pool, when PostgreSQL ends its connections."""

from typing import Any

import psycopg
from flask import Flask
from flask.testing import FlaskClient


def test_connection_that_the_server_ended_is_not_lent(
    app: Flask, client: FlaskClient, conn: psycopg.Connection[Any], server_url: str
) -> None:
    with psycopg.connect(server_url, autocommit=True) as superuser:
        for _ in range(10):
            with app.extensions["mai-sessions"].connection() as pooled:
                pid = pooled.info.backend_pid
            superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            assert client.get("/api/v1/sessions").status_code == 200
