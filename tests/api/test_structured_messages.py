"""Messages as frontends and agents write them: parts, metadata, files, ids of clients, batches, streaming."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import example, given
from hypothesis import strategies as st
from support.chats import SESSIONS
from support.json_values import JSON_OBJECTS, same_json
from support.races import at_once
from support.samples import data_url, png

Conn = psycopg.Connection[Any]
PDF = data_url(b"%PDF-1.7" * 400, "application/pdf")
USER = {"role": "user", "content": "hi"}


@pytest.fixture
def messages(session: str) -> str:
    """The path of a session's messages."""
    return f"{session}/messages"


def stored_files(conn: Conn) -> list[tuple[str, int]]:
    rows = conn.execute(
        "SELECT content_type, reference_count FROM attachments ORDER BY content_type"
    ).fetchall()
    return [(row[0], row[1]) for row in rows]


@given(parts=st.lists(JSON_OBJECTS, max_size=3), metadata=JSON_OBJECTS)
@example(parts=[], metadata={"n": [1e16, 1e23, -1.5e300, 1e-7, 5e-324, 2**70, -(2**63) - 1]})
def test_parts_and_metadata_come_back_equal_everywhere(
    client: FlaskClient, parts: Any, metadata: Any
) -> None:
    def send(method: str, path: str, body: Any) -> Any:
        # The client's own JSON sorts the keys.
        return client.open(
            path, method=method, data=json.dumps(body), content_type="application/json"
        ).get_json()

    message = {"role": "user", "content": "x", "parts": parts, "metadata": metadata}
    made = send("POST", SESSIONS, {"messages": [message], "metadata": metadata})
    path = f"{SESSIONS}/{made['id']}"
    [created] = made["messages"]
    appended = send("POST", f"{path}/messages", message)
    [batched] = send("POST", f"{path}/messages", {"messages": [message]})["messages"]
    patched = send("PATCH", f"{path}/messages/{created['id']}", {"parts": parts})
    shown = client.get(path).get_json()
    page = client.get(f"{path}/messages").get_json()
    exported = json.loads(client.get(f"/api/v1/export?session_id={made['id']}").data)
    for reply in (created, appended, batched, patched, *shown["messages"], *page, *exported["messages"]):
        assert same_json(reply["parts"], parts)
        assert reply["metadata"] == metadata
    for reply in (made, shown, exported):
        assert reply["metadata"] == metadata


def test_content_is_derived_from_the_parts(client: FlaskClient, messages: str) -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "tool"}, {"type": "text", "text": "two"}]
    made = client.post(messages, json={"role": "assistant", "parts": parts})
    assert made.status_code == 201
    assert made.get_json()["content"] == "one\n\ntwo"
    patched = client.patch(made.headers["Location"], json={"parts": [{"type": "text", "text": "three"}]})
    assert patched.get_json()["content"] == "three"
    assert client.get(SESSIONS).get_json()["sessions"][0]["last_message_preview"] == "three"
    assert len(client.get("/api/v1/search?q=three").get_json()["results"]) == 1


def test_files_in_parts_are_links_to_downloads(client: FlaskClient, conn: Conn, messages: str) -> None:
    svg, html = (data_url(b"<" + kind.encode() * 200, kind) for kind in ("image/svg+xml", "text/html"))
    photo = data_url(png(width=40, height=40, noise=bytes(range(256)) * 16 * 1024))
    pdf = data_url(b"%PDF-1.7" * 256 * 1024, "application/pdf")
    parts = [
        {"type": "file", "filename": 'täst "1".pdf', "url": pdf, "x": 1},
        {"type": "image", "image": {"url": svg}},
        {"type": "file", "data": [html]},
        {"type": "image", "image": photo},
    ]
    made = client.post(messages, json={"role": "user", "parts": parts, "images": [photo]})
    reply = made.get_json()
    links = [reply["parts"][0]["url"], reply["parts"][1]["image"]["url"], reply["parts"][2]["data"][0]]
    assert reply["parts"][0] == {**parts[0], "url": links[0]}
    assert reply["images"] == [reply["parts"][3]["image"]]
    for link, content_type in zip(links, ("application/pdf", "image/svg+xml", "text/html"), strict=True):
        response = client.get(link)
        assert response.status_code == 200
        assert response.mimetype == content_type
        assert response.headers["Content-Disposition"].startswith("attachment")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in response.headers["Content-Security-Policy"]
    assert "filename*=UTF-8''t%C3%A4st%20%221%22.pdf" in client.get(links[0]).headers["Content-Disposition"]
    assert "Content-Disposition" not in client.get(reply["images"][0]).headers
    assert stored_files(conn) == [
        ("application/pdf", 1),
        ("image/png", 1),
        ("image/svg+xml", 1),
        ("text/html", 1),
    ]
    client.delete(made.headers["Location"])
    assert stored_files(conn) == []


def test_message_sent_again_as_it_was_given_keeps_its_files(
    client: FlaskClient, conn: Conn, messages: str
) -> None:
    first = client.post(messages, json={"role": "user", "images": [data_url(png())], "parts": [{"url": PDF}]})
    given = first.get_json()
    again = client.post(messages, json={"role": "user", "images": given["images"], "parts": given["parts"]})
    assert again.status_code == 201
    assert (again.get_json()["images"], again.get_json()["parts"]) == (given["images"], given["parts"])
    assert stored_files(conn) == [("application/pdf", 2), ("image/png", 2)]
    client.delete(first.headers["Location"])
    assert stored_files(conn) == [("application/pdf", 1), ("image/png", 1)]
    assert client.get(given["parts"][0]["url"]).status_code == 200
    client.delete(messages)
    assert stored_files(conn) == []


def test_link_to_an_unknown_image_is_refused_and_in_parts_is_text(
    client: FlaskClient, conn: Conn, messages: str
) -> None:
    link = f"/api/v1/attachments/{'ab' * 32}"
    refused = client.post(messages, json={**USER, "images": [link]})
    assert refused.status_code == 422
    assert refused.get_json()["errors"][0]["loc"] == ["body", "images", 0]
    kept = client.post(messages, json={**USER, "parts": [{"url": link}]})
    assert kept.get_json()["parts"] == [{"url": link}]
    assert stored_files(conn) == []


def test_patch_replaces_images_documents_and_parts(client: FlaskClient, conn: Conn, messages: str) -> None:
    made = client.post(
        messages, json={**USER, "images": [data_url(png())], "documents": ["a"], "parts": [{"url": PDF}]}
    )
    path, other = made.headers["Location"], data_url(png(noise=b"other"))
    patched = client.patch(path, json={"images": [other], "documents": ["b", "c"]}).get_json()
    assert patched["documents"] == ["b", "c"]
    assert client.get(patched["images"][0]).status_code == 200
    assert stored_files(conn) == [("application/pdf", 1), ("image/png", 1)]
    assert client.get(made.get_json()["images"][0]).status_code == 404
    assert client.patch(path, json={"parts": []}).get_json()["parts"] == []
    assert stored_files(conn) == [("image/png", 1)]
    assert client.patch(path, json={"images": []}).get_json()["images"] == []
    assert stored_files(conn) == []


def test_metadata_are_merged_by_writers_of_different_keys(
    app: Flask, client: FlaskClient, session: str
) -> None:
    message = client.post(f"{session}/messages", json={**USER, "metadata": {"keep": 1, "go": 2}}).headers[
        "Location"
    ]
    for path in (session, message):
        client.patch(path, json={"metadata": {"keep": 1, "go": 2}})
        assert client.patch(path, json={"metadata": {"go": None, "new": [None]}}).get_json()["metadata"] == {
            "keep": 1,
            "new": [None],
        }

        def write(writer: int, path: str = path) -> None:
            for number in range(10):
                change = {"metadata": {f"k{writer}": number}}
                assert app.test_client().patch(path, json=change).status_code == 200

        at_once(4, write)
        merged = client.get(path).get_json()["metadata"]
        assert merged == {"keep": 1, "new": [None], "k0": 9, "k1": 9, "k2": 9, "k3": 9}


def test_metadata_that_grow_past_the_limit_by_merging_are_refused(client: FlaskClient, session: str) -> None:
    message = client.post(f"{session}/messages", json=USER).headers["Location"]
    for path in (session, message):
        assert client.patch(path, json={"metadata": {"a": "x" * 10_000}}).status_code == 200
        refused = client.patch(path, json={"metadata": {"b": "x" * 10_000}})
        assert refused.status_code == 422
        [error] = refused.get_json()["errors"]
        assert (error["loc"], error["type"]) == (["body", "metadata"], "too_long")
        assert set(client.get(path).get_json()["metadata"]) == {"a"}
        # 16 KiB as compact JSON fit, whatever PostgreSQL makes of it.
        full = {str(number): [1, {"a": "b, c: d"}] for number in range(500)}
        assert client.patch(path, json={"metadata": {"a": None, **full}}).get_json()["metadata"] == full


def test_message_with_a_known_id_is_returned_unchanged(client: FlaskClient, messages: str) -> None:
    chosen = str(uuid4())
    first = client.post(messages, json={**USER, "id": chosen})
    assert (first.status_code, first.get_json()["id"]) == (201, chosen)
    client.patch(first.headers["Location"], json={"content": "changed"})
    again = client.post(
        messages, json={**USER, "id": chosen, "content": "other"}, headers={"If-Match": f'"{uuid4()}"'}
    )
    assert again.status_code == 200
    assert again.get_json()["content"] == "changed"
    assert len(client.get(messages).get_json()) == 1
    other = f"{SESSIONS}/{client.post(SESSIONS).get_json()['id']}/messages"
    assert client.post(other, json={**USER, "id": chosen}).status_code == 201


def test_metadata_of_32_levels_are_stored_wherever_they_stand(client: FlaskClient, messages: str) -> None:
    def nested(levels: int) -> Any:
        value: Any = {}
        for _ in range(levels - 1):
            value = {"a": value}
        return value

    message = {**USER, "metadata": nested(32)}
    for path, body in (
        (SESSIONS, {"metadata": nested(32), "messages": [message]}),
        (messages, message),
        (messages, {"messages": [message], "session": {"metadata": nested(32)}}),
    ):
        assert client.post(path, json=body).status_code == 201
    refused = client.post(messages, json={"messages": [USER, {**USER, "metadata": nested(33)}]})
    assert refused.get_json()["errors"][0]["loc"] == ["body", "messages", 1, "metadata"]


@pytest.mark.parametrize("messages", [[], [USER]])
def test_head_of_a_new_session_is_one_of_its_messages(
    client: FlaskClient, conn: Conn, messages: list[Any]
) -> None:
    refused = client.post(SESSIONS, json={"messages": messages, "head_id": str(uuid4())})
    assert refused.status_code == 422
    assert refused.get_json()["errors"][0]["loc"] == ["body", "head_id"]
    assert conn.execute("SELECT count(*) FROM sessions").fetchone() == (0,)


def test_storm_of_one_id_makes_one_message(app: Flask, client: FlaskClient, messages: str) -> None:
    body = {**USER, "id": str(uuid4())}

    def post(_: int) -> list[int]:
        return [app.test_client().post(messages, json=body).status_code for _ in range(5)]

    statuses = sorted(status for each in at_once(6, post) for status in each)
    assert statuses == [200] * 29 + [201]
    assert client.get(messages.removesuffix("/messages")).get_json()["message_count"] == 1


def test_batch_is_added_in_order_with_one_version(client: FlaskClient, session: str, messages: str) -> None:
    before = client.get(session).headers["ETag"]
    batch = [{"role": "user", "content": str(number), "images": [data_url(png())]} for number in range(100)]
    made = client.post(messages, json={"messages": batch, "session": {"title": "T", "archived": True}})
    assert made.status_code == 201
    reply = made.get_json()
    assert [(message["seq"], message["content"]) for message in reply["messages"]] == [
        (number + 1, str(number)) for number in range(100)
    ]
    summary = reply["session"]
    assert (summary["title"], summary["archived"], summary["message_count"]) == ("T", True, 100)
    assert summary["last_message_preview"] == "99"
    assert summary["head_id"] == reply["messages"][-1]["id"]
    assert before != f'"{summary["version"]}"' == client.get(session).headers["ETag"] == made.headers["ETag"]


def test_batch_adds_the_missing_messages(client: FlaskClient, messages: str) -> None:
    ids = [str(uuid4()) for _ in range(4)]
    batch = [{**USER, "id": each, "content": each} for each in ids]
    client.post(messages, json={"messages": batch[:2]})
    again = client.post(messages, json={"messages": batch[:2]}, headers={"If-Match": f'"{uuid4()}"'})
    assert again.status_code == 200
    some = client.post(messages, json={"messages": batch})
    assert some.status_code == 201
    assert [message["id"] for message in some.get_json()["messages"]] == ids
    assert [message["content"] for message in client.get(messages).get_json()] == ids
    stale = client.post(
        messages,
        json={"messages": [*batch, {**USER, "id": str(uuid4())}]},
        headers={"If-Match": f'"{uuid4()}"'},
    )
    assert stale.status_code == 412
    assert len(client.get(messages).get_json()) == 4


def test_batch_is_replayed_by_its_key(client: FlaskClient, messages: str) -> None:
    body = {
        "messages": [USER, {**USER, "parts": [{"url": PDF}], "metadata": {"a": 1}}],
        "session": {"title": "x"},
    }
    first = client.post(messages, json=body, headers={"Idempotency-Key": "k"})
    client.post(messages, json=USER)
    again = client.post(messages, json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.get_json()) == (201, first.get_json())
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(client.get(messages).get_json()) == 3


def test_append_honours_if_match(client: FlaskClient, session: str, messages: str) -> None:
    tag = client.get(session).headers["ETag"]
    assert client.post(messages, json=USER, headers={"If-Match": tag}).status_code == 201
    assert client.post(messages, json=USER, headers={"If-Match": tag}).status_code == 412
    assert (
        client.post(f"{SESSIONS}/{uuid4()}/messages", json=USER, headers={"If-Match": tag}).status_code == 404
    )
    assert len(client.get(messages).get_json()) == 1


def test_creation_honours_if_none_match(client: FlaskClient) -> None:
    chosen = str(uuid4())
    for expected in (201, 412):
        made = client.post(SESSIONS, json={"id": chosen, "title": "x"}, headers={"If-None-Match": "*"})
        assert made.status_code == expected


def test_session_is_created_with_its_messages(client: FlaskClient, conn: Conn) -> None:
    body = {
        "title": "t",
        "messages": [USER, {"role": "assistant", "parts": [{"type": "text", "text": "yo"}]}],
    }
    first = client.post(SESSIONS, json=body, headers={"Idempotency-Key": "k"})
    assert first.status_code == 201
    reply = first.get_json()
    assert [message["content"] for message in reply["messages"]] == ["hi", "yo"]
    assert (reply["message_count"], reply["last_message_preview"]) == (2, "yo")
    assert reply == client.get(first.headers["Location"]).get_json()
    again = client.post(SESSIONS, json=body, headers={"Idempotency-Key": "k"})
    assert (again.status_code, again.get_json()) == (201, reply)
    refused = client.post(SESSIONS, json={"messages": [USER, {"role": "robot", "content": ""}]})
    assert refused.get_json()["errors"][0]["loc"] == ["body", "messages", 1, "role"]
    assert conn.execute("SELECT count(*) FROM sessions").fetchone() == (1,)


def test_streaming_message_is_searched_and_counted_when_it_ends(
    client: FlaskClient, session: str, messages: str
) -> None:
    made = client.post(
        messages, json={"role": "assistant", "content": "", "status": "streaming", "agent_name": "a"}
    )
    path, listed = made.headers["Location"], client.get(SESSIONS).get_json()["sessions"][0]["updated_at"]
    tags = {client.get(session).headers["ETag"]}
    for end in range(1, 6):
        patched = client.patch(path, json={"content": "galaxy " * end, "parts": [{"n": end}]})
        assert (patched.get_json()["status"], patched.get_json()["content"]) == ("streaming", "galaxy " * end)
        assert patched.get_json()["updated_at"] > patched.get_json()["created_at"]
        tags.add(patched.headers["ETag"])
    assert len(tags) == 6
    shown = client.get(SESSIONS).get_json()["sessions"][0]
    assert (shown["updated_at"], shown["last_message_preview"]) == (listed, "galaxy " * 5)
    assert client.get("/api/v1/search?q=galaxy").get_json()["results"] == []
    assert client.get("/api/v1/analytics/summary").get_json()["total_tokens"] == 0
    ended = client.patch(path, json={"status": "complete"}).get_json()
    assert (ended["status"], ended["token_count"], ended["content"]) == ("complete", 5, "galaxy " * 5)
    assert len(client.get("/api/v1/search?q=galaxy").get_json()["results"]) == 1
    assert client.get("/api/v1/analytics/summary").get_json()["total_tokens"] == 5
    assert client.get(SESSIONS).get_json()["sessions"][0]["updated_at"] > listed


def test_created_at_of_an_import_is_kept(client: FlaskClient, session: str, messages: str) -> None:
    old = datetime(2020, 2, 3, 4, 5, 6, 789, UTC)
    made = client.post(
        messages, json={**USER, "content": "ancient", "created_at": "2020-02-03T05:05:06.000789+01:00"}
    )
    assert datetime.fromisoformat(made.get_json()["created_at"]) == old
    summary = client.get(session).get_json()
    assert datetime.fromisoformat(summary["updated_at"]) > old
    assert [message["seq"] for message in client.get(messages).get_json()] == [1]
    usage = client.get("/api/v1/analytics/usage?start_date=2020-02-03&end_date=2020-02-03").get_json()
    assert usage["total_messages"] == 1
    assert len(client.get("/api/v1/search?q=ancient&until=2020-03-01").get_json()["results"]) == 1
    assert len(client.get("/api/v1/search?q=ancient").get_json()["results"]) == 1
    imported = client.post(SESSIONS, json={"created_at": old.isoformat()}).get_json()
    assert (
        datetime.fromisoformat(imported["created_at"])
        == datetime.fromisoformat(imported["updated_at"])
        == old
    )
    later = old + timedelta(days=1)
    client.post(f"{SESSIONS}/{imported['id']}/messages", json={**USER, "created_at": later.isoformat()})
    assert (
        datetime.fromisoformat(client.get(f"{SESSIONS}/{imported['id']}").get_json()["updated_at"]) == later
    )


def test_refused_batch_stores_nothing(client: FlaskClient, conn: Conn, messages: str) -> None:
    for body in (
        {"messages": [USER, {**USER, "parts": [{"url": "data:a/b;base64," + "*" * 2000}]}]},
        {"messages": [{**USER, "images": [data_url(png())]}, {**USER, "parent_id": str(uuid4())}]},
        {"messages": [{**USER, "images": [data_url(png())]}], "session": {"head_id": str(uuid4())}},
    ):
        assert client.post(messages, json=body).status_code == 422
    assert client.get(messages).get_json() == []
    assert stored_files(conn) == []
