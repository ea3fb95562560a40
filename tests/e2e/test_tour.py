"""A tour of the API with curl and over HTTP, as in the README."""

import http.client
import json
import re
import subprocess
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
from support.chats import SESSIONS
from support.service import Service, call

pytestmark = pytest.mark.parametrize("service", ["direct", "pgbouncer"], indirect=True, scope="module")

README = Path(__file__).parents[2] / "README.md"


def curl(*arguments: str) -> tuple[int, str]:
    """Run curl without redirects and without the user's configuration, and return status and body."""
    command = [
        "curl",
        "--disable",
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--write-out",
        "\n%{http_code}",
        *arguments,
    ]
    done = subprocess.run(command, check=True, capture_output=True, encoding="utf-8")
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def test_tour_of_the_readme_works_as_it_is_pasted(service: Service) -> None:
    [tour] = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert "http://127.0.0.1:8000/api/v1" in tour
    script = tour.replace("http://127.0.0.1:8000", service.url)
    for _ in range(2):
        done = subprocess.run(["bash", "-eu"], input=script, check=True, capture_output=True, text=True)
        created, first, second, read, renamed, listed, messages, found, problem, deleted = (
            json.loads(line or "null") for line in done.stdout.removesuffix("\n").split("\n")
        )
        assert (created["title"], created["messages"]) == ("Test chat", [])
        assert first == second
        assert (read["message_count"], read["messages"]) == (1, [first])
        assert (renamed["title"], renamed["messages"]) == ("The sky", [])
        assert [session["id"] for session in listed["sessions"]] == [created["id"]]
        assert messages == [first]
        assert found["results"][0]["snippet"] == "<mark>Why</mark> is the sky <mark>blue</mark>?"
        assert problem["status"] == 422
        assert deleted is None


def test_tour_with_curl_gets_the_documented_responses(service: Service) -> None:
    sessions = f"{service.url}{SESSIONS}"
    before = json.loads(curl(sessions)[1])

    status, body = curl(
        "-X", "POST", sessions, "-H", "Content-Type: application/json", "-d", '{"title": "Test Chat"}'
    )
    made = json.loads(body)
    assert (status, made["title"]) == (201, "Test Chat")

    status, body = curl(sessions)
    page = json.loads(body)
    assert (status, page["total"]) == (200, before["total"] + 1)
    assert page["sessions"][0]["id"] == made["id"]

    status, body = curl(f"{sessions}/{made['id']}")
    assert (status, json.loads(body)) == (200, made)
    assert made["messages"] == []

    assert curl("-X", "DELETE", f"{sessions}/{made['id']}") == (204, "")
    assert curl(f"{sessions}/{made['id']}")[0] == 404
    assert json.loads(curl(sessions)[1]) == before


def test_no_path_is_redirected(service: Service) -> None:
    for path in ("/", "/health", "/health/live", "/health/ready", SESSIONS):
        for url in (service.url + path, f"{service.url}{path.rstrip('/')}/"):
            assert curl(url)[0] == 200
            assert curl("--head", url)[0] == 200
    assert curl("-X", "POST", f"{service.url}{SESSIONS}", "-d", '{"title": "x"}')[0] == 415


def test_session_is_created_used_and_deleted_over_one_connection(service: Service) -> None:
    with closing(service.connect()) as connection:
        status, session = call(connection, "POST", SESSIONS, {"title": "Chain", "model_id": "m"})
        assert status == 201
        path = f"{SESSIONS}/{session['id']}"

        status, page = call(connection, "GET", f"{SESSIONS}?search=chain")
        assert (status, page["total"], page["sessions"][0]["id"]) == (200, 1, session["id"])
        assert call(connection, "GET", path) == (200, session)

        contents = ["Hello", "Hello! How can I help?", "😀" * 150]
        messages = []
        for number, content in enumerate(contents, 1):
            status, message = call(
                connection, "POST", f"{path}/messages", {"role": "user", "content": content}
            )
            assert (status, message["seq"], message["content"]) == (201, number, content)
            messages.append(message)

        status, patched = call(connection, "PATCH", path, {"title": "Chained"})
        assert (status, patched["title"], patched["model_id"]) == (200, "Chained", "m")
        assert (patched["message_count"], patched["last_message_preview"]) == (3, "😀" * 100)
        assert patched["messages"] == messages
        assert patched["updated_at"] > messages[-1]["created_at"]

        status, page = call(connection, "GET", SESSIONS)
        del patched["messages"]
        assert (status, page["sessions"][0]) == (200, patched)

        assert call(connection, "GET", f"{path}/messages") == (200, messages)
        assert call(connection, "GET", f"{path}/messages?limit=1&offset=1") == (200, messages[1:2])
        assert call(connection, "GET", f"{path}/messages?after_seq=1") == (200, messages[1:])

        assert call(connection, "DELETE", path) == (204, None)
        for gone in (
            call(connection, "DELETE", path),
            call(connection, "GET", path),
            call(connection, "GET", f"{path}/messages"),
        ):
            assert (gone[0], gone[1]["detail"]) == (404, "Session not found")
        assert call(connection, "GET", f"{SESSIONS}?search=chain")[1]["total"] == 0


def test_odd_request_lines_are_refused(service: Service) -> None:
    """Test clients cannot send such requests."""
    for line in (
        b"GET /api/v1/sessions?search=\xff HTTP/1.1",
        b"GET /api/v1/sessions/\xff HTTP/1.1",
        b"BREW / HTTP/1.1",
    ):
        with closing(service.connect()) as connection:
            connection.connect()
            connection.sock.sendall(line + b"\r\nHost: localhost\r\n\r\n")
            response = http.client.HTTPResponse(connection.sock)
            response.begin()
            assert 400 <= response.status < 500
            response.close()


def test_chunked_body_is_read(service: Service) -> None:
    title = f"chunked {uuid4()}"
    with closing(service.connect()) as connection:
        body = iter([b'{"title":', json.dumps(title).encode(), b"}"])
        connection.request("POST", SESSIONS, body, {"Content-Type": "application/json"}, encode_chunked=True)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["title"]) == (201, title)
