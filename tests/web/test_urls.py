"""The URLs in responses, behind a prefix and without one."""

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest
from flask import Flask, g

from mai_sessions import MaiSessions
from mai_sessions.auth.signed_urls import UrlSigner
from mai_sessions.config import Settings
from mai_sessions.web.urls import api_url, with_attachment_urls

SHA256 = "ab" * 32
STORED = f"/api/v1/attachments/{SHA256}"
# As the statements write a link.
MARKED = f"\0{SHA256}"


@pytest.fixture
def make_app() -> Any:
    def make(url_prefix: str, **settings: Any) -> Flask:
        app = Flask("host")
        MaiSessions().init_app(app, url_prefix=url_prefix, settings=Settings(**settings))
        return app

    return make


@pytest.mark.parametrize(
    ("url_prefix", "script_name", "expected"),
    [
        ("/api/v1", "", "/api/v1"),
        ("/chat/api", "", "/chat/api"),
        ("/chat/api/", "", "/chat/api"),
        ("/api/v1", "/mounted", "/mounted/api/v1"),
        ("/chats", "/a b", "/a%20b/chats"),
        ("/gespräche", "/caf\xc3\xa9", "/caf%C3%A9/gespr%C3%A4che"),
    ],
)
def test_api_url_has_script_name_and_prefix(
    make_app: Any, url_prefix: str, script_name: str, expected: str
) -> None:
    app = make_app(url_prefix)
    with app.test_request_context(environ_overrides={"SCRIPT_NAME": script_name}):
        assert api_url() == expected
        [url] = json.loads(with_attachment_urls(orjson.dumps({"images": [MARKED]})))["images"]
        assert url == f"{expected}/attachments/{SHA256}"


def test_only_marked_links_are_rewritten(make_app: Any) -> None:
    texts = {
        "content": json.dumps({"images": [STORED]}),
        "documents": [f'"images":["{STORED}"]', r"\u0000", rf'"\u0000{SHA256}"'],
        "metadata": {"images": [STORED, f"\\u0000{SHA256}"]},
    }
    body = orjson.dumps({**texts, "images": [MARKED, MARKED], "parts": [{"url": MARKED}]})
    signer = UrlSigner(b"k" * 32, 3600)
    app = make_app("/api/v1")
    app.extensions["mai_sessions"].url_signer = signer
    with app.test_request_context():
        g.mai_sessions_user_id = "ann"
        rewritten = json.loads(with_attachment_urls(body))
    urls = [*rewritten.pop("images"), rewritten.pop("parts")[0]["url"]]
    assert len(urls) == 3
    for url in urls:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        assert path == STORED
        assert signer.verify("ann", SHA256, query["expires"][0], query["signature"][0])
    assert rewritten == texts
