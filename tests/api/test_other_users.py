"""Every route, called on every identifier of another user: the row does not exist, and nothing changes."""

from hashlib import sha256
from typing import Any
from uuid import UUID

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg import sql
from support.samples import png

from mai_sessions.content.attachments import Attachment
from mai_sessions.content.message import NewMessage
from mai_sessions.repository import appends, creations

OTHER_USER = "somebody else"
SESSION_ID = UUID("01900000-0000-7000-8000-000000000001")
IMAGE = Attachment(sha256(png()).hexdigest(), "image/png", png())
BODY = {"role": "user", "content": "mine", "title": "mine"}
TABLES = ("users", "sessions", "messages", "attachments")


@pytest.fixture
def ids(app: Flask, conn: psycopg.Connection[Any]) -> dict[str, str]:
    """The identifiers of another user, by their names in the routes."""
    with app.extensions["mai_sessions"].database.connection() as pooled:
        creations.create_session(pooled, OTHER_USER, creations.NewSession(SESSION_ID, "t", "chat"))
        secret = NewMessage("user", "secret", 1, images=[IMAGE.sha256], attachments=[IMAGE])
        [message_id] = appends.append_messages(pooled, OTHER_USER, SESSION_ID, [secret]).ids
    return {"session_id": str(SESSION_ID), "message_id": str(message_id), "sha256": IMAGE.sha256}


def test_other_user_sees_and_changes_nothing(
    app: Flask, client: FlaskClient, conn: psycopg.Connection[Any], ids: dict[str, str]
) -> None:
    def rows() -> list[Any]:
        return [
            conn.execute(sql.SQL("TABLE {} ORDER BY 1, 2").format(sql.Identifier(name))).fetchall()
            for name in TABLES
        ]

    before, asked = rows(), 0
    for rule in app.url_map.iter_rules():
        if not ids.keys() & rule.arguments:
            continue
        url = app.url_map.bind("localhost").build(rule.endpoint, ids)
        for method in (rule.methods or set()) - {"OPTIONS"}:
            body = {"json": BODY} if method in ("POST", "PATCH", "PUT") else {}
            response = client.open(url, method=method, **body)
            assert (rule.rule, method, response.status_code) == (rule.rule, method, 404)
            assert "secret" not in response.text
            asked += 1
    assert asked >= 12
    assert rows() == before


def test_rows_of_another_user_are_neither_listed_nor_counted(
    client: FlaskClient, ids: dict[str, str]
) -> None:
    for query in ("", "?search=t"):
        page = client.get(f"/api/v1/sessions{query}").get_json()
        assert (page["sessions"], page["total"]) == ([], 0)
