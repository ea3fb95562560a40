"""The OpenAPI document is complete, its examples are valid, and the committed copy is current."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from marshmallow import EXCLUDE, RAISE, Schema, class_registry

from mai_sessions.openapi.examples import EXAMPLES
from mai_sessions.web import problems

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def document(client: FlaskClient) -> dict[str, Any]:
    body: dict[str, Any] = client.get("/openapi.json").get_json()
    return body


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def test_committed_document_is_current(client: FlaskClient) -> None:
    served = client.get("/openapi.json").text + "\n"
    if "WRITE_OPENAPI" in os.environ:
        (DOCS / "openapi.json").write_text(served, encoding="utf-8")
    assert (DOCS / "openapi.json").read_text(encoding="utf-8") == served, "run `make openapi`"


def test_every_route_is_documented(app: Flask, document: dict[str, Any]) -> None:
    served = {
        (method.lower(), re.sub(r"<(\w+)>", r"{\1}", rule.rule), rule.endpoint.rpartition(".")[2])
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        # Endpoints that only refuse methods are not documented.
        if not rule.endpoint.startswith("mai_sessions_docs.")
        and not rule.endpoint.endswith("._refuse_method")
    }
    documented = [
        (method, path, operation["operationId"]) for method, path, operation in operations(document)
    ]
    assert sorted(documented) == sorted(served)
    assert len({operation_id for _, _, operation_id in documented}) == len(documented)


def test_every_json_body_has_a_valid_example(app: Flask, document: dict[str, Any]) -> None:
    bodies = [
        body
        for _, _, operation in operations(document)
        for body in [*operation["responses"].values(), operation.get("requestBody", {})]
    ]
    media = [
        body["content"][kind] for body in bodies for kind in body.get("content", {}) if kind.endswith("json")
    ]
    media += [
        body["content"]["application/problem+json"] for body in document["components"]["responses"].values()
    ]
    assert media
    for medium in media:
        if "anyOf" in medium["schema"]:
            cases = [(each, medium["examples"][name_of(each)]["value"]) for each in medium["schema"]["anyOf"]]
        else:
            cases = [(medium["schema"], medium["example"])]
        for described, example in cases:
            name = name_of(described.get("items", described))
            schema: Schema = class_registry.get_class(name)(many="items" in described)  # type: ignore[operator]
            with app.app_context():
                schema.load(example, unknown=EXCLUDE if schema.unknown == EXCLUDE else RAISE)


def name_of(schema: dict[str, Any]) -> str:
    name: str = schema["$ref"].rpartition("/")[2]
    return name


def test_every_example_belongs_to_a_schema(document: dict[str, Any]) -> None:
    assert set(EXAMPLES) <= set(document["components"]["schemas"])


def test_every_error_response_is_a_problem(document: dict[str, Any]) -> None:
    meanings = {kind.title.replace(" ", ""): str(status) for status, kind in problems.PROBLEM_TYPES.items()}
    for _, _, operation in operations(document):
        errors = {status: response for status, response in operation["responses"].items() if status >= "4"}
        assert errors
        for status, response in errors.items():
            assert meanings[response["$ref"].removeprefix("#/components/responses/")] == status
    assert {int(status) for status in meanings.values()} >= {
        status.value for status in problems._STATUS.values()
    }


@pytest.mark.parametrize(
    ("operation_id", "header", "status"),
    [
        ("create_session", "If-None-Match", "412"),
        ("append_messages", "If-Match", "412"),
        ("patch_session", "If-Match", "412"),
        ("delete_message", "If-Match", "412"),
        ("clear_messages", "If-Match", "412"),
        ("get_session", "If-None-Match", "304"),
        ("list_sessions", "If-None-Match", "304"),
    ],
)
def test_conditional_requests_are_documented(
    document: dict[str, Any], operation_id: str, header: str, status: str
) -> None:
    [operation] = [each for _, _, each in operations(document) if each["operationId"] == operation_id]
    assert {"$ref": f"#/components/parameters/{header}"} in operation["parameters"]
    assert status in operation["responses"]


def test_parameters_of_an_operation_are_those_that_it_reads(document: dict[str, Any]) -> None:
    [patch] = [each for _, _, each in operations(document) if each["operationId"] == "patch_session"]
    assert [each["name"] for each in patch["parameters"] if "name" in each] == ["messages_limit"]


def test_headers_of_a_batch_are_those_that_it_has(document: dict[str, Any]) -> None:
    [batch] = [each for _, _, each in operations(document) if each["operationId"] == "batch_sessions"]
    assert batch["responses"]["200"]["headers"].keys() == {"Idempotency-Replayed", "X-Request-ID"}


def test_errors_page_explains_every_problem() -> None:
    headings = re.findall(r"^## (\d+) (.*)$", (DOCS / "errors.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert headings == [(str(status), kind.title) for status, kind in problems.PROBLEM_TYPES.items()]


def test_page_loads_nothing_from_another_host(client: FlaskClient) -> None:
    page = client.get("/docs", headers={"Accept": "text/html"})
    assert page.mimetype == "text/html"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    parts = re.findall(r'(?:href|src|data-document)="([^"]*)"', page.text)
    assert len(parts) == 5
    for part in parts:
        assert part.startswith("/")
        assert client.get(part).status_code == 200


def test_assets_are_only_those_of_the_page(client: FlaskClient) -> None:
    for name in ("index.css", "../__init__.py", "%2e%2e/__init__.py", "swagger-ui.js"):
        assert client.get(f"/docs/{name}").status_code == 404
