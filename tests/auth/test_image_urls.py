"""Images under the mode `jwt`: signed URLs, and the entity tags that name their period."""

import re
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256

import pytest
from flask.testing import FlaskClient
from support.tokens import PNG, WITH_SECRET, bearer


def test_image_url_of_a_response_needs_no_token(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(**WITH_SECRET)
    ann = bearer()
    session = client.post("/api/v1/sessions", headers=ann).headers["Location"]
    body = {"role": "user", "content": "see", "images": [b64encode(PNG).decode()]}
    replies = [client.post(f"{session}/messages", json=body, headers=ann)]
    replies += [client.get(session, headers=ann), client.get(f"{session}/messages", headers=ann)]
    for reply in replies:
        found = re.findall(r'"images"\s*:\s*\["([^"]*)"', reply.text)
        assert len(found) == 1
        response = client.get(found[0])
        assert response.data == PNG
        assert "private" in response.headers["Cache-Control"]
    url: str = found[0]
    bare = url.partition("?")[0]
    for forged in [
        bare,
        bare.replace(sha256(PNG).hexdigest(), "0" * 64) + "?" + url.partition("?")[2],
        url.replace("user=ann", "user=bob"),
        re.sub(r"expires=\d+", "expires=99999999999", url),
        re.sub(r"signature=.", "signature=x", url),
        url + "x",
    ]:
        assert client.get(forged).status_code == 401, forged
    query = url.partition("?")[2]
    assert client.get(f"{session}?{query}").status_code == 401
    assert client.get(url, headers={"Authorization": "Bearer x"}).status_code == 401


def test_entity_tag_changes_with_the_period_of_the_signatures(
    make_client: Callable[..., FlaskClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = bearer(exp=10**11)
    client = make_client(**WITH_SECRET)
    now = float(3600 * 500_000)
    monkeypatch.setattr("time.time", lambda: now)
    session = client.post("/api/v1/sessions", headers=ann).headers["Location"]
    tag = client.get(session, headers=ann).headers["ETag"]
    assert client.get(session, headers={**ann, "If-None-Match": tag}).status_code == 304
    # The client would keep URLs that no longer work, …
    now += 3600
    response = client.get(session, headers={**ann, "If-None-Match": tag})
    assert response.status_code == 200
    assert response.get_json()["messages"] == []
    # … but the session has not changed.
    patched = client.patch(session, json={"title": "x"}, headers={**ann, "If-Match": tag})
    assert patched.status_code == 200
    assert client.delete(session, headers={**ann, "If-Match": tag}).status_code == 412
    assert (
        client.delete(session, headers={**ann, "If-Match": f"W/{patched.headers['ETag']}"}).status_code == 204
    )


def test_other_modes_do_not_sign_urls(client: FlaskClient) -> None:
    session = client.post("/api/v1/sessions").headers["Location"]
    body = {"role": "user", "content": "see", "images": [b64encode(PNG).decode()]}
    message = client.post(f"{session}/messages", json=body).get_json()
    assert message["images"] == [f"/api/v1/attachments/{sha256(PNG).hexdigest()}"]
    assert client.get(message["images"][0]).data == PNG
