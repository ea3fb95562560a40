from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

SCRIPT = Path(__file__).parents[2] / "sql/dba/maintain/purge_idempotency_keys.sql"


@pytest.mark.parametrize("batch", ["1", "2", "7", "10000"])
def test_old_keys_are_forgotten_and_what_was_made_stays(
    client: FlaskClient,
    conn: psycopg.Connection[Any],
    database_url: str,
    run_program: Callable[..., str],
    batch: str,
) -> None:
    def post(key: str) -> bool:
        response = client.post("/api/v1/sessions", json={"title": key}, headers={"Idempotency-Key": key})
        return "Idempotency-Replayed" in response.headers

    def run(*variables: str) -> str:
        return run_program("psql", "--no-psqlrc", *variables, "-f", str(SCRIPT), database_url)

    keys = [f"key-{number}" for number in range(6)]
    for key in keys:
        post(key)
    conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key < 'key-4'")
    assert "Nothing was deleted" in run()
    assert conn.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (6,)
    run("-v", "apply=1", "-v", "hours=26")
    assert conn.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (6,)
    run("-v", "apply=1", "-v", f"batch={batch}")
    assert conn.execute("SELECT key FROM idempotency_keys ORDER BY key").fetchall() == [("key-4",), ("key-5",)]
    assert client.get("/api/v1/sessions").get_json()["total"] == 6
    assert [post(key) for key in keys] == [False] * 4 + [True] * 2
