"""Archived sessions, metadata as a filter, and many sessions at once."""

from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.samples import data_url, png

Conn = psycopg.Connection[Any]
BATCH = f"{SESSIONS}/batch"


def create(client: FlaskClient, **fields: Any) -> str:
    session_id: str = client.post(SESSIONS, json=fields).get_json()["id"]
    return session_id


def listed(client: FlaskClient, query: str = "") -> tuple[set[str], int]:
    page = client.get(f"{SESSIONS}?{query}").get_json()
    return {session["id"] for session in page["sessions"]}, page["total"]


def test_archived_session_is_left_out_of_the_default_list(client: FlaskClient) -> None:
    kept, put_away = create(client, title="a"), create(client, title="b", archived=True)
    assert listed(client) == ({kept}, 1)
    assert listed(client, "archived=true") == ({put_away}, 1)
    assert listed(client, "archived=any") == ({kept, put_away}, 2)
    assert listed(client, "archived=any&search=b") == ({put_away}, 1)
    assert listed(client, "search=b") == (set(), 0)
    client.patch(f"{SESSIONS}/{put_away}", json={"archived": False})
    client.patch(f"{SESSIONS}/{put_away}", json={"archived": False})
    assert listed(client) == ({kept, put_away}, 2)
    assert client.get(f"{SESSIONS}?archived=some").status_code == 422


def test_pages_of_all_sessions_merge_both_ranges(client: FlaskClient) -> None:
    made = [create(client, archived=number % 3 == 0) for number in range(12)][::-1]
    seen: list[str] = []
    query = "archived=any&limit=5"
    while page := client.get(f"{SESSIONS}?{query}").get_json():
        seen += [session["id"] for session in page["sessions"]]
        if page["next_cursor"] is None:
            break
        query = f"archived=any&limit=5&cursor={page['next_cursor']}"
    assert seen == made


def test_metadata_filter_the_list(client: FlaskClient) -> None:
    pinned = create(client, title="x", metadata={"pinned": True, "tags": ["a", "b"]})
    create(client, title="x", metadata={"pinned": False})
    create(client, title="x")

    def found(metadata: object, query: str = "") -> tuple[set[str], int]:
        return listed(client, f"metadata={orjson.dumps(metadata).decode()}{query}")

    assert found({"pinned": True}) == ({pinned}, 1)
    assert found({"tags": ["b"]}, "&search=X") == ({pinned}, 1)
    assert found({"tags": ["b"]}, "&search=y") == (set(), 0)
    assert found({"tags": ["b"]}, "&archived=true") == (set(), 0)
    assert found({})[1] == 3
    for bad in ("[]", "x", '{"a":'):
        assert client.get(f"{SESSIONS}?metadata={bad}").status_code == 422


def test_metadata_are_merged_and_compact(client: FlaskClient) -> None:
    path = f"{SESSIONS}/{create(client, metadata={'a': {'b': 1}, 'gone': 1, 'null': None})}"
    assert client.get(path).get_json()["metadata"] == {"a": {"b": 1}, "gone": 1, "null": None}
    text = {"quoted": 'a: "b", c', "path": "C:\\ , "}
    merged = {"a": {"c": 2}, **text}
    reply = client.patch(path, json={"metadata": {**merged, "gone": None, "null": None}})
    assert reply.get_json()["metadata"] == merged
    assert b'"metadata":{"a":{"c":2},' in reply.data
    client.patch(path, json={"metadata": dict.fromkeys(merged)})
    assert client.get(path).get_json()["metadata"] == {}


def test_metadata_that_become_too_large_are_refused_whole(client: FlaskClient) -> None:
    path = f"{SESSIONS}/{create(client, title='x', metadata={'a': 'x' * 10_000})}"
    refused = client.patch(path, json={"title": "y", "metadata": {"b": "x" * 10_000}})
    assert refused.status_code == 422
    assert refused.get_json()["errors"][0]["loc"] == ["body", "metadata"]
    assert client.get(path).get_json()["title"] == "x"
    assert client.patch(path, json={"metadata": {"b": "x" * 10_000, "a": None}}).status_code == 200


@pytest.mark.parametrize("keyed", [False, True])
def test_batch_deletes_all_of_the_sessions(client: FlaskClient, conn: Conn, keyed: bool) -> None:
    ids = [create(client, archived=number == 0) for number in range(4)]
    for session_id in ids:
        body = {"role": "user", "content": "x", "images": [data_url(png())]}
        client.post(f"{SESSIONS}/{session_id}/messages", json=body)
    unknown = str(uuid4())
    body = {"ids": [*ids[:3], unknown], "action": "delete"}
    headers = {"Idempotency-Key": "k"} if keyed else {}
    reply = client.post(BATCH, json=body, headers=headers)
    assert reply.get_json() == {"done": ids[:3], "not_found": [unknown]}
    again = client.post(BATCH, json=body, headers=headers)
    assert again.get_json() == (reply.get_json() if keyed else {"done": [], "not_found": body["ids"]})
    assert ("Idempotency-Replayed" in again.headers) is keyed
    assert listed(client, "archived=any") == ({ids[3]}, 1)
    assert conn.execute("SELECT session_count, archived_count FROM users").fetchone() == (1, 0)
    assert conn.execute("SELECT reference_count FROM attachments").fetchall() == [(1,)]


def test_batch_archives_and_brings_back(client: FlaskClient, conn: Conn) -> None:
    ids = [create(client, archived=number == 0) for number in range(3)]
    before = client.get(f"{SESSIONS}/{ids[1]}")
    assert client.post(BATCH, json={"ids": ids[:2], "action": "archive"}).get_json()["done"] == ids[:2]
    after = client.get(f"{SESSIONS}/{ids[1]}")
    assert after.get_json()["updated_at"] == before.get_json()["updated_at"]
    assert after.headers["ETag"] != before.headers["ETag"]
    assert listed(client, "archived=true") == (set(ids[:2]), 2)
    client.post(BATCH, json={"ids": ids, "action": "unarchive"})
    assert conn.execute("SELECT session_count, archived_count FROM users").fetchone() == (3, 0)


def test_if_none_match_refuses_an_existing_session(client: FlaskClient) -> None:
    session_id = str(uuid4())
    headers = {"If-None-Match": "*"}
    assert client.post(SESSIONS, json={"id": session_id}, headers=headers).status_code == 201
    assert client.post(SESSIONS, json={"id": session_id}, headers=headers).status_code == 412
    assert client.post(SESSIONS, json={"id": session_id}).status_code == 200


def test_created_at_of_an_import_is_kept(client: FlaskClient) -> None:
    session = client.post(SESSIONS, json={"created_at": "2020-02-03T04:05:06+01:00"}).get_json()
    assert session["created_at"] == session["updated_at"] == "2020-02-03T03:05:06+00:00"
    assert client.post(SESSIONS, json={"created_at": "2999-01-01T00:00:00Z"}).status_code == 422
