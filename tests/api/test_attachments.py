from hashlib import sha256
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from support.races import at_once
from support.samples import AVIF, AVIF_BY_COMPATIBLE_BRAND, GIF, JPEG, WEBP, base64_of, data_url, png

Conn = psycopg.Connection[Any]


@pytest.fixture
def session(client: FlaskClient) -> str:
    """The path of a session."""
    return f"/api/v1/sessions/{client.post('/api/v1/sessions').get_json()['id']}"


def append(client: FlaskClient, session: str, *images: str) -> dict[str, Any]:
    response = client.post(f"{session}/messages", json={"role": "user", "content": "look", "images": images})
    assert response.status_code == 201
    message: dict[str, Any] = response.get_json()
    return message


def counts(conn: Conn) -> dict[str, int]:
    """The reference count of each attachment, by its hash."""
    return dict(conn.execute("SELECT sha256, reference_count FROM attachments").fetchall())


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (png(), "image/png"),
        (JPEG, "image/jpeg"),
        (GIF, "image/gif"),
        (WEBP, "image/webp"),
        (AVIF, "image/avif"),
        (AVIF_BY_COMPATIBLE_BRAND, "image/avif"),
    ],
)
def test_image_is_returned_byte_exact(
    client: FlaskClient, session: str, content: bytes, content_type: str
) -> None:
    message = append(client, session, base64_of(content), data_url(content, content_type))
    assert message["images"] == [f"/api/v1/attachments/{sha256(content).hexdigest()}"] * 2
    response = client.get(message["images"][0])
    assert response.data == content
    assert response.content_type == content_type
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response.headers["Content-Security-Policy"]
    assert "private" in response.headers["Cache-Control"]
    assert "immutable" in response.headers["Cache-Control"]
    for path in (session, f"{session}/messages", "/api/v1/sessions"):
        assert base64_of(content) not in client.get(path).text


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(base64_of(b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"), id="svg"),
        pytest.param(
            data_url(b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml"), id="svg as it is"
        ),
        pytest.param(data_url(b"<html><script>alert(1)</script>"), id="html as png"),
        pytest.param(data_url(b"%PDF-1.7"), id="pdf as png"),
        pytest.param(base64_of(png())[:-3], id="truncated"),
        pytest.param("data:image/png,abc", id="no base64"),
        pytest.param("data:image/png;base64,", id="nothing"),
        pytest.param("https://example.org/x.png", id="link"),
        pytest.param("", id="empty"),
        pytest.param("\ud7ff", id="not ASCII"),
        pytest.param(7, id="number"),
        pytest.param(None, id="null"),
    ],
)
def test_invalid_image_is_refused_and_nothing_is_stored(
    client: FlaskClient, conn: Conn, session: str, image: Any
) -> None:
    body = {"role": "user", "content": "look", "images": [data_url(png()), image]}
    response = client.post(f"{session}/messages", json=body)
    assert response.status_code == 422
    assert response.get_json()["errors"][0]["loc"] == ["body", "images", 1]
    assert counts(conn) == {}
    assert client.get(session).get_json()["message_count"] == 0


@pytest.mark.parametrize("declared", ["image/png", "image/jpeg", "image/gif", "image/webp", "image/avif"])
def test_file_that_is_declared_an_image_is_a_download(
    client: FlaskClient, session: str, declared: str
) -> None:
    body = {"role": "user", "parts": [{"url": data_url(b"<script>alert(1)</script>" * 64, declared)}]}
    link = client.post(f"{session}/messages", json=body).get_json()["parts"][0]["url"]
    response = client.get(link)
    assert response.mimetype == declared
    assert response.headers["Content-Disposition"].startswith("attachment")


def test_message_has_at_most_twenty_images(client: FlaskClient, conn: Conn, session: str) -> None:
    images = [data_url(png(noise=str(n).encode())) for n in range(21)]
    assert len(append(client, session, *images[:20])["images"]) == 20
    response = client.post(f"{session}/messages", json={"role": "user", "content": "", "images": images})
    assert response.status_code == 422
    assert set(counts(conn).values()) == {1}
    assert len(counts(conn)) == 20


def test_image_of_an_unknown_session_is_not_stored(client: FlaskClient, conn: Conn) -> None:
    path = "/api/v1/sessions/00000000-0000-7000-8000-000000000000/messages"
    assert (
        client.post(path, json={"role": "user", "content": "", "images": [data_url(png())]}).status_code
        == 404
    )
    assert counts(conn) == {}


def test_names_of_documents_are_returned(client: FlaskClient, session: str) -> None:
    names = ["a b.pdf", "數據.csv", "x" * 255]
    message = client.post(
        f"{session}/messages", json={"role": "user", "content": "", "documents": names}
    ).get_json()
    assert message["documents"] == names
    assert client.get(session).get_json()["messages"][0]["documents"] == names
    for bad in (["x" * 256], ["x"] * 21, [1], "x", ["\0"]):
        response = client.post(f"{session}/messages", json={"role": "user", "content": "", "documents": bad})
        assert response.status_code == 422


def test_attachment_is_read_by_range_and_condition(client: FlaskClient, session: str) -> None:
    content = png(40, 40)
    url = append(client, session, data_url(content))["images"][0]
    part = client.get(url, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.data) == (206, content[2:6])
    assert part.headers["Content-Range"] == f"bytes 2-5/{len(content)}"
    assert client.get(url, headers={"Range": "bytes=-4"}).data == content[-4:]
    assert client.get(url, headers={"Range": "bytes=9-"}).data == content[9:]
    too_far = client.get(url, headers={"Range": "bytes=99999-"})
    assert too_far.status_code == 416
    assert too_far.headers["Content-Range"] == f"bytes */{len(content)}"
    tag = client.get(url).headers["ETag"]
    assert not tag.startswith("W/")
    assert client.get(url, headers={"If-None-Match": tag}).status_code == 304
    assert client.get(url, headers={"Range": "bytes=0-1", "If-Range": '"other"'}).data == content
    head = client.head(url)
    assert (head.data, int(head.headers["Content-Length"])) == (b"", len(content))


def test_refused_patch_of_a_message_with_an_image_names_what_is_wrong(
    client: FlaskClient, session: str
) -> None:
    body = {"role": "user", "content": "x", "images": [data_url(png())], "metadata": {"a": "x" * 10_000}}
    made = client.post(f"{session}/messages", json=body)
    known, unknown = made.get_json()["images"][0], f"/api/v1/attachments/{'ab' * 32}"
    for change, loc, type in [
        ({"images": [known], "metadata": {"b": "x" * 10_000}}, ["metadata"], "too_long"),
        ({"images": [known, unknown]}, ["images", 1], "unknown"),
        ({"images": [known, unknown], "metadata": {"b": 1}}, ["images", 1], "unknown"),
    ]:
        refused = client.patch(made.headers["Location"], json=change)
        [error] = refused.get_json()["errors"]
        assert (refused.status_code, error["loc"], error["type"]) == (422, ["body", *loc], type)
    assert client.get(made.headers["Location"]).get_json() == made.get_json()


def test_unknown_attachment_is_a_404(client: FlaskClient) -> None:
    for name in ("0" * 64, "x", "%00", "é"):
        response = client.get(f"/api/v1/attachments/{name}")
        assert response.status_code == 404
        assert response.get_json()["detail"] == "Attachment not found"


def test_image_is_stored_once_and_removed_with_its_last_message(
    client: FlaskClient, conn: Conn, session: str
) -> None:
    image, key = data_url(png()), sha256(png()).hexdigest()
    other = f"/api/v1/sessions/{client.post('/api/v1/sessions').get_json()['id']}"
    messages = [
        append(client, session, image),
        append(client, session, image, image),
        append(client, other, image),
    ]
    assert counts(conn) == {key: 3}
    assert client.delete(f"{session}/messages/{messages[0]['id']}").status_code == 204
    assert counts(conn) == {key: 2}
    assert client.delete(f"{session}/messages").status_code == 204
    assert counts(conn) == {key: 1}
    assert client.get(messages[0]["images"][0]).status_code == 200
    assert client.delete(other).status_code == 204
    assert counts(conn) == {}
    assert client.get(messages[0]["images"][0]).status_code == 404


def test_append_and_removal_of_one_image_race(
    app: Flask, client: FlaskClient, conn: Conn, session: str
) -> None:
    image = data_url(png(200, 200))

    def append_and_delete(_: int) -> None:
        own = app.test_client()
        for _ in range(25):
            message = append(own, session, image)
            assert own.get(message["images"][0]).status_code == 200
            assert own.delete(f"{session}/messages/{message['id']}").status_code == 204

    at_once(4, append_and_delete)
    assert counts(conn) == {}
    assert client.get(session).get_json()["message_count"] == 0
