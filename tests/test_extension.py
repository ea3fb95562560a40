"""`MaiSessions` in a host application: contract §10."""

import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from flask import Blueprint, Flask, abort, request, session
from flask.testing import FlaskClient
from support.samples import png
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client, TestResponse

from mai_sessions import MaiSessions
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError

PREFIX = "/chat/api"
PNG = png()


def make_host() -> Flask:
    """An application with a page, a login, a blueprint called `api`, an async view and its own error
    pages.
    """
    app = Flask("host")
    app.secret_key = "host"
    api = Blueprint("api", __name__, url_prefix="/api/v1")

    @api.get("/sessions")
    def list_sessions() -> dict[str, str]:
        return {"sessions": "of the host"}

    app.register_blueprint(api)

    @app.get("/")
    def page() -> str:
        return "<h1>Host</h1>"

    @app.post("/login/<name>")
    def login(name: str) -> str:
        session["user"] = name
        return "in"

    @app.get("/async")
    async def asynchronous() -> str:
        return "async"

    @app.get("/slash/")
    def slash() -> str:
        return "slash"

    @app.get("/fails/<int:status>")
    def fails(status: int) -> str:
        abort(status)

    @app.get("/breaks")
    def breaks() -> str:
        raise KeyError("host")

    @app.errorhandler(404)
    def not_found(error: HTTPException) -> tuple[str, int]:
        return "<h1>Nothing here</h1>", 404

    @app.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[str, int]:
        return f"<h1>{error.code}</h1>", error.code or 500

    @app.errorhandler(Exception)
    def error(error: Exception) -> tuple[str, int]:
        return "<h1>Broken</h1>", 500

    @app.after_request
    def mark(response: Any) -> Any:
        response.headers["X-Host"] = "1"
        return response

    return app


# Requests to the host's own routes, and to unknown paths.
HOST_REQUESTS = [
    ("GET", "/"),
    ("HEAD", "/"),
    ("OPTIONS", "/"),
    ("POST", "/"),
    ("GET", "/api/v1/sessions"),
    ("GET", "/api/v1/sessions/"),
    ("GET", "/api/v1/none"),
    ("GET", "//api//v1/sessions"),
    ("GET", "/async"),
    ("GET", "/slash"),
    ("GET", "/slash/"),
    ("GET", "//slash/"),
    ("GET", "/fails/404"),
    ("GET", "/fails/405"),
    ("GET", "/fails/413"),
    ("GET", "/fails/422"),
    ("GET", "/breaks"),
    ("GET", "/none"),
    ("GET", "/health"),
    ("GET", "/docs"),
    ("GET", f"{PREFIX}/none"),
    ("GET", f"{PREFIX}"),
]


def host_responses(client: FlaskClient) -> list[tuple[int, bytes, list[tuple[str, str]]]]:
    responses = [client.open(path, method=method) for method, path in HOST_REQUESTS]
    return [(response.status_code, response.data, list(response.headers)) for response in responses]


@pytest.fixture
def make_chats(database_url: str, conn: Any) -> Iterator[Callable[..., Flask]]:
    """Makes hosts in which the API is registered."""
    made = []

    def make(url: str = database_url, chats: MaiSessions | None = None) -> Flask:
        app = make_host()
        app.config["MAI_SESSIONS_DATABASE_URL"] = url
        app.config["MAI_SESSIONS_MAX_BODY"] = "100000"
        (chats or MaiSessions(identify=lambda: session.get("user"))).init_app(app, url_prefix=PREFIX)
        made.append(app)
        return app

    yield make
    for app in made:
        app.extensions["mai_sessions"].close()


def log_in(app: Flask, name: str) -> FlaskClient:
    client = app.test_client()
    assert client.post(f"/login/{name}").status_code == 200
    return client


def check_problem(response: TestResponse, status: int) -> None:
    assert (response.status_code, response.content_type) == (status, "application/problem+json")
    problem = response.get_json()
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["X-Request-ID"]


def test_host_responds_the_same_with_and_without_the_extension(make_chats: Callable[..., Flask]) -> None:
    bare, app = make_host(), make_chats()
    assert host_responses(app.test_client()) == host_responses(bare.test_client())
    assert app.url_map.converters == bare.url_map.converters
    assert app.url_map.strict_slashes == bare.url_map.strict_slashes
    assert app.jinja_env.globals.keys() == bare.jinja_env.globals.keys()
    assert set(app.extensions) - set(bare.extensions) == {"mai_sessions"}
    assert {name for name in app.blueprints if name != "api"} == {"mai_sessions"}
    assert {
        key: value
        for key, value in app.config.items()
        if not key.startswith("MAI_SESSIONS_") and bare.config.get(key) != value
    } == {}


def test_all_routes_work_for_a_user_of_the_host(make_chats: Callable[..., Flask]) -> None:
    app = make_chats()
    visited = set()

    @app.after_request
    def record_endpoint(response: Any) -> Any:
        if response.status_code < 300:
            visited.add(request.endpoint)
        return response

    ann, bob, nobody = log_in(app, "ann"), log_in(app, "bob"), app.test_client()
    created = ann.post(f"{PREFIX}/sessions", json={"title": "Trip"})
    assert created.status_code == 201
    path = created.headers["Location"]
    assert path == f"{PREFIX}/sessions/{created.get_json()['id']}"
    assert created.headers["X-Host"] == "1"
    assert created.headers["Cache-Control"] == "private, no-cache"
    for number in range(3):
        body = {"role": "user", "content": f"{number}", "images": [b64encode(PNG).decode()]}
        message = ann.post(f"{path}/messages", json=body)
        assert message.status_code == 201
        assert message.headers["Location"] == f"{path}/messages/{message.get_json()['id']}"
    [image] = message.get_json()["images"]
    assert image.startswith(f"{PREFIX}/attachments/")
    loaded = ann.get(image)
    assert (loaded.status_code, loaded.data) == (200, PNG)
    assert loaded.headers["X-Content-Type-Options"] == "nosniff"
    page = ann.get(f"{path}/messages?limit=1&offset=1")
    assert f"<{path}/messages?limit=1&offset=2>" in page.headers["Link"]
    for url in (f"{PREFIX}/sessions", f"{PREFIX}/sessions/", path, f"{path}/", f"{PREFIX}/search?q=trip"):
        assert ann.get(url).status_code == 200
    for name in ("usage", "agents", "models", "summary"):
        assert ann.get(f"{PREFIX}/analytics/{name}").status_code == 200
    assert ann.get(path, headers={"If-None-Match": ann.get(path).headers["ETag"]}).status_code == 304
    for url in (path, f"{path}/messages", message.headers["Location"], image):
        check_problem(bob.get(url), 404)
        check_problem(nobody.get(url), 401)
    assert ann.patch(path, json={"title": "Journey"}).get_json()["title"] == "Journey"
    assert ann.patch(message.headers["Location"], json={"content": "last"}).status_code == 200
    assert ann.get(message.headers["Location"]).get_json()["content"] == "last"
    assert len(ann.get(f"{PREFIX}/export").data.splitlines()) == 1
    assert ann.delete(message.headers["Location"]).status_code == 204
    assert ann.delete(f"{path}/messages").status_code == 204
    batch = {"ids": [path.rpartition("/")[2]], "action": "archive"}
    assert ann.post(f"{PREFIX}/sessions/batch", json=batch).status_code == 200
    assert ann.delete(path).status_code == 204
    assert visited >= {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if rule.endpoint.startswith("mai_sessions.") and not rule.endpoint.endswith("_refuse_method")
    }


def test_errors_below_the_prefix_are_problems(make_chats: Callable[..., Flask]) -> None:
    client = log_in(make_chats(), "ann")
    sessions = f"{PREFIX}/sessions"
    check_problem(client.get(f"{sessions}/none"), 404)
    check_problem(client.get(f"{sessions}/{uuid4()}/messages/none"), 404)
    check_problem(client.get(f"{PREFIX}/attachments/none"), 404)
    check_problem(client.get(sessions, headers={"Accept": "text/html"}), 406)
    check_problem(client.post(sessions, data="x" * 100_001, content_type="application/json"), 413)
    check_problem(client.post(sessions, data="x", content_type="text/plain"), 415)
    check_problem(client.post(sessions, data="{", content_type="application/json"), 422)
    # A server that does not decode chunked bodies, and does not say where they end.
    chunked = {"HTTP_TRANSFER_ENCODING": "chunked"}
    check_problem(client.post(sessions, environ_overrides=chunked), 411)
    check_problem(client.get(f"{sessions}?limit=x"), 422)


def test_unexpected_error_is_a_problem(make_chats: Callable[..., Flask]) -> None:
    def identify() -> str:
        raise KeyError("of the host's user")

    response = make_chats(chats=MaiSessions(identify=identify)).test_client().get(f"{PREFIX}/sessions")
    check_problem(response, 500)
    assert "KeyError" not in response.text


def test_body_is_read_after_a_hook_of_the_host_read_it(make_chats: Callable[..., Flask]) -> None:
    app = make_chats()

    @app.before_request
    def read_body() -> None:
        request.get_data()

    client = log_in(app, "ann")
    assert client.post(f"{PREFIX}/sessions", json={"title": "Read twice"}).status_code == 201
    long = client.post(f"{PREFIX}/sessions", data="x" * 100_001, content_type="application/json")
    check_problem(long, 413)


def test_two_applications_have_databases_of_their_own(
    make_chats: Callable[..., Flask], make_migrated_database: Callable[[], str]
) -> None:
    chats = MaiSessions(identify=lambda: session.get("user"))
    one, two = make_chats(chats=chats), make_chats(make_migrated_database(), chats=chats)
    session_id = str(uuid4())
    for app, title in ((one, "One"), (two, "Two")):
        created = log_in(app, "ann").post(f"{PREFIX}/sessions", json={"id": session_id, "title": title})
        assert created.status_code == 201
    for app, title in ((one, "One"), (two, "Two")):
        read = log_in(app, "ann").get(f"{PREFIX}/sessions/{session_id}")
        assert read.get_json()["title"] == title


def test_urls_carry_the_path_of_a_dispatcher(make_chats: Callable[..., Flask]) -> None:
    client = Client(DispatcherMiddleware(Flask("outer"), {"/mounted": make_chats()}))
    assert client.post("/mounted/login/ann").status_code == 200
    created = client.post(f"/mounted{PREFIX}/sessions", json={})
    assert created.headers["Location"].startswith(f"/mounted{PREFIX}/sessions/")
    path = created.headers["Location"]
    body = {"role": "user", "content": "", "images": [b64encode(PNG).decode()]}
    message = client.post(f"{path}/messages", json=body).get_json()
    [image] = message["images"]
    assert image.startswith(f"/mounted{PREFIX}/attachments/")
    assert client.get(image).data == PNG
    client.post(f"{path}/messages", json=body)
    assert f"<{path}/messages?" in client.get(f"{path}/messages?limit=1").headers["Link"]


def test_links_in_metadata_and_unknown_ones_in_parts_are_not_rewritten(
    make_chats: Callable[..., Flask],
) -> None:
    client = log_in(make_chats(), "ann")
    images = {"images": [f"/api/v1/attachments/{'ab' * 32}"]}
    created = client.post(f"{PREFIX}/sessions", json={"metadata": images})
    assert created.get_json()["metadata"] == images
    body = {"role": "user", "content": "x", "metadata": images, "parts": [{"type": "file", **images}]}
    message = client.post(f"{created.headers['Location']}/messages", json=body)
    read = client.get(message.headers["Location"])
    for response in (message, read):
        assert response.get_json()["metadata"] == images
        assert response.get_json()["parts"] == body["parts"]


def test_whole_application_carries_the_path_of_a_dispatcher(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    client = Client(DispatcherMiddleware(Flask("outer"), {"/mounted": app}))
    assert client.get("/mounted/").get_json()["docs"] == "/mounted/docs"
    assert client.get("/mounted/openapi.json").get_json()["servers"] == [{"url": "/mounted/"}]
    page = client.get("/mounted/docs").text
    assert 'src="/mounted/docs/swagger-ui-bundle.js"' in page
    assert client.get("/mounted/docs/start.js").status_code == 200
    path = client.post("/mounted/api/v1/sessions", json={}).headers["Location"]
    assert client.get(path).status_code == 200


@pytest.mark.parametrize("user", ["", "x" * 256, "a\0b"])
def test_user_id_that_the_database_cannot_hold_is_refused(
    make_chats: Callable[..., Flask], user: str
) -> None:
    client = make_chats(chats=MaiSessions(identify=lambda: user)).test_client()
    check_problem(client.get(f"{PREFIX}/sessions"), 401)


def test_wrong_settings_are_refused() -> None:
    for config, reason in [
        ({"MAI_SESSIONS_DATABASE_URL": ""}, "^MAI_SESSIONS_DATABASE_URL is not set$"),
        ({"MAI_SESSIONS_DATABASE_URL": "mysql:///chats"}, "^MAI_SESSIONS_DATABASE_URL: the scheme"),
        ({"MAI_SESSIONS_MAX_BODY": "much"}, "MAI_SESSIONS_MAX_BODY"),
        ({"MAI_SESSIONS_MAX_BODY": 0}, "MAI_SESSIONS_MAX_BODY"),
        ({"MAI_SESSIONS_DATABASE": "x"}, "did you mean"),
        ({"MAI_SESSIONS_AUTH": "proxy", "MAI_SESSIONS_TRUSTED_PROXIES": ["127.0.0.1"]}, "identify"),
    ]:
        app = Flask("host")
        app.config.update({"MAI_SESSIONS_DATABASE_URL": "postgresql:///chats"} | config)
        with pytest.raises(StartupError, match=reason):
            MaiSessions(app, identify=lambda: "ann")


@pytest.mark.parametrize("prefix", ["/<tenant>/chat", "chat", "//chat"])
def test_prefix_that_is_not_a_plain_path_is_refused(prefix: str) -> None:
    with pytest.raises(StartupError, match="url_prefix"):
        MaiSessions(identify=lambda: "ann").init_app(Flask("host"), url_prefix=prefix)


def test_second_registration_is_refused_and_changes_nothing(make_chats: Callable[..., Flask]) -> None:
    app = make_chats()
    state = app.extensions["mai_sessions"]
    with pytest.raises(StartupError, match="already"):
        MaiSessions(identify=lambda: "mallory").init_app(app, url_prefix="/other")
    assert app.extensions["mai_sessions"] is state


def test_async_identify_names_the_user(make_chats: Callable[..., Flask]) -> None:
    async def identify() -> str | None:
        return session.get("user")

    app = make_chats(chats=MaiSessions(identify=identify))
    check_problem(app.test_client().get(f"{PREFIX}/sessions"), 401)
    assert log_in(app, "ann").get(f"{PREFIX}/sessions").status_code == 200


def test_settings_are_those_of_the_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://of-the-host")
    monkeypatch.setenv("MAI_SESSIONS_MAX_BODY", "7")
    app = Flask("host")
    app.config["DATABASE_URL"] = "postgresql://of-the-host"
    app.config["MAI_SESSIONS_DATABASE_URL"] = "postgresql:///chats"
    app.config["MAI_SESSIONS_CORS_ORIGINS"] = ["https://a.example"]
    app.config["MAI_SESSIONS_THREADS"] = "9"
    MaiSessions(app, identify=lambda: "ann")
    settings = app.extensions["mai_sessions"].settings
    assert settings == Settings(
        database_url="postgresql:///chats", cors_origins=("https://a.example",), threads=9
    )


def test_extension_imports_neither_server_nor_metrics_nor_documentation() -> None:
    program = (
        "import sys, mai_sessions\n"
        "names = {name.partition('.')[0] for name in sys.modules}\n"
        "print(*sorted(names & {'gunicorn', 'prometheus_client', 'flask_swagger_ui', 'flask_cors'}))"
    )
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert printed.stdout.strip() == ""
