from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient
from support.scripts import RunScript

SCRIPT = "maintain/purge_idempotency_keys.sql"


@pytest.mark.parametrize("batch", ["1", "2", "7", "10000"])
def test_old_keys_are_deleted_and_their_rows_kept(
    client: FlaskClient,
    conn: psycopg.Connection[Any],
    run_script: RunScript,
    batch: str,
) -> None:
    def post(key: str) -> bool:
        response = client.post("/api/v1/sessions", json={"title": key}, headers={"Idempotency-Key": key})
        return "Idempotency-Replayed" in response.headers

    keys = [f"key-{number}" for number in range(6)]
    for key in keys:
        post(key)
    conn.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours' WHERE key < 'key-4'")
    assert run_script(SCRIPT)[0] == "6|4"
    assert conn.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (6,)
    run_script(SCRIPT, apply=1, hours=26)
    assert conn.execute("SELECT count(*) FROM idempotency_keys").fetchone() == (6,)
    run_script(SCRIPT, apply=1, batch=batch)
    assert conn.execute("SELECT key FROM idempotency_keys ORDER BY key").fetchall() == [
        ("key-4",),
        ("key-5",),
    ]
    assert client.get("/api/v1/sessions").get_json()["total"] == 6
    assert [post(key) for key in keys] == [False] * 4 + [True] * 2
