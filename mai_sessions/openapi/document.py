"""The OpenAPI document: the parts that all operations share, beyond their schemas."""

from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from apispec import APISpec, BasePlugin
from flask import Flask
from flask_smorest import Api

from mai_sessions.openapi.examples import EXAMPLES
from mai_sessions.schemas.problems import Problem
from mai_sessions.web.blueprint import api, service
from mai_sessions.web.problems import PROBLEM_TYPES, ProblemType

PROBLEM_JSON = "application/problem+json"
DESCRIPTION = """\
Stores the chats of an LLM frontend: sessions, and the messages in them.

Ids are UUIDs, timestamps ISO 8601 in UTC. Every path matches with and without a slash at its end. Unknown
keys of a body and unknown query parameters are ignored; an empty query parameter counts as not given. Every
error is a problem document (RFC 9457).

The messages of one response are at most 64 MiB of JSON by default, or one message. A read of more is a
`422` whose error is of the type `too_large` and names the parameter that asks for fewer: `messages_limit`,
`limit` or `max_tokens`. The response to a write of a session holds the newest messages that fit."""

_TEXT = {"type": "string"}
_TAG = {"schema": {"type": "string"}, "description": "The version of the resource, a strong entity tag"}
HEADERS: dict[str, dict[str, Any]] = {
    "Accept-Ranges": {"schema": {"type": "string", "enum": ["bytes"]}, "description": "The unit of Range"},
    "Content-Disposition": {
        "schema": _TEXT,
        "description": "For a file that is not an image: a download, with its name (RFC 6266)",
    },
    "Content-Range": {"schema": _TEXT, "description": "The part that is sent, and the size of the whole"},
    "ETag": _TAG,
    "Idempotency-Replayed": {
        "schema": {"type": "string", "enum": ["true"]},
        "description": "This is the first response again: the Idempotency-Key was used before",
    },
    "Link": {
        "schema": _TEXT,
        "description": "The pages before (`prev`) and after (`next`), if any (RFC 8288)",
    },
    "Location": {"schema": _TEXT, "description": "The path of the new resource, or of the one that exists"},
    "Retry-After": {
        "schema": {"type": "integer"},
        "description": "Seconds after which the same request may succeed",
    },
    "WWW-Authenticate": {"schema": _TEXT, "description": "The credentials that are required"},
    "X-Request-ID": {"schema": _TEXT, "description": "The id of the request"},
}
PARAMETERS: dict[str, dict[str, Any]] = {
    "Idempotency-Key": {
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]{1,255}$"},
        "description": "Makes retries safe: the same key and body again get the first response again, and "
        "nothing is written",
    },
    "If-Match": {
        "schema": _TEXT,
        "description": "Entity tags: nothing is changed unless the current one is among them",
    },
    "If-None-Match": {
        "schema": _TEXT,
        "description": "Entity tags of the caller: a `304` without a body if the current one is among them. "
        "In a POST, `*`: a `412` if the id exists",
    },
    "Range": {"schema": _TEXT, "description": "The part of the content to send, as `bytes=0-1023`"},
    "X-Request-ID": {
        "schema": _TEXT,
        "description": "An id for the request in the log and the response; a malformed one is replaced",
    },
}
PATH_SCHEMAS: dict[str, dict[str, Any]] = {
    "session_id": {"type": "string", "format": "uuid"},
    "message_id": {"type": "string", "format": "uuid"},
    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
}
# The groups of operations, in the order in which a page shows them.
TAGS = {
    "sessions": "Sessions, and the list of them",
    "messages": "The messages of a session",
    "attachments": "Images and files of messages",
    "search": "Full-text search over titles and messages",
    "analytics": "What was used, for a dashboard",
    "export": "All sessions and messages of the caller",
    "service": "The state of the service itself",
}
# Problems that do not depend on the operation: a wrong method, a first line or header that is too long.
_OF_NO_OPERATION = {405, 414, 431}
# Responses that flask-smorest adds by itself, in its own form.
_OF_SMOREST = ("UNPROCESSABLE_ENTITY", "DEFAULT_ERROR")
# Tags of the operations on resources with a version.
_VERSIONED = {"sessions", "messages", "attachments"}
# The condition that the creation of a resource may have.
_CREATION_CONDITIONS = {"create_session": "If-None-Match", "append_messages": "If-Match"}


class Completion(BasePlugin):
    """Adds to each operation what follows from its method, its path and its tag: headers, problems, and
    examples of bodies.
    """

    def init_spec(self, spec: APISpec) -> None:
        super().init_spec(spec)
        for name, header in HEADERS.items():
            spec.components.header(name, header)
        for name, parameter in PARAMETERS.items():
            spec.components.parameter(name, "header", {"name": name, **parameter})
        for status, problem in PROBLEM_TYPES.items():
            if status in _OF_NO_OPERATION:
                continue
            content = {PROBLEM_JSON: {"schema": Problem, "example": _problem_example(status, problem)}}
            response = {
                "description": problem.meaning,
                "content": content,
                "headers": _problem_headers(status),
            }
            spec.components.response(_name(status), response)
        spec.components.security_scheme(
            "bearer",
            {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "JWT",
                "description": "With `MAI_SESSIONS_AUTH=jwt`",
            },
        )

    def path_helper(
        self,
        path: str | None = None,
        operations: Any = None,
        parameters: list[dict[Any, Any]] | None = None,
        **kwargs: Any,
    ) -> None:
        """Give the identifiers in the path, which are strings for werkzeug, their format."""
        for parameter in parameters or []:
            if parameter["in"] == "path":
                parameter["schema"] = PATH_SCHEMAS[parameter["name"]]

    def operation_helper(self, path: str | None = None, operations: Any = None, **kwargs: Any) -> None:
        rule = kwargs["rule"]
        for method, operation in operations.items():
            operation["operationId"] = rule.endpoint.rpartition(".")[2]
            is_private = rule.endpoint.startswith(f"{api.name}.")
            _complete(operation, method, is_private=is_private, has_id=bool(rule.arguments))


SPEC: dict[str, Any] = {
    "extra_plugins": [Completion()],
    "info": {"description": DESCRIPTION, "license": {"name": "MIT", "identifier": "MIT"}},
    "servers": [{"url": "/"}],
}


def _complete(operation: dict[str, Any], method: str, *, is_private: bool, has_id: bool) -> None:
    responses = {
        str(status): response
        for status, response in operation["responses"].items()
        if response not in _OF_SMOREST
    }
    good = {status: response for status, response in responses.items() if status.startswith("2")}
    name: str = operation["operationId"]
    is_versioned = not _VERSIONED.isdisjoint(operation["tags"]) and name != "batch_sessions"
    # Without authentication, every request must have a loopback Host.
    parameters, problems = ["X-Request-ID"], [403, 406, 500]
    headers: list[str] = []
    operation["security"] = []
    if is_private:
        operation["security"] = [{}, {"bearer": []}]
        problems += [401, 503]
    if has_id or name == "export_sessions":
        problems.append(404)
    if "requestBody" in operation:
        problems += [400, 408, 413, 415, 422]
    if any(parameter.get("in") == "query" for parameter in operation.get("parameters", [])):
        problems.append(422)
    if is_versioned and method != "delete":
        headers.append("ETag")
    if any(map(_is_page, good.values())):
        headers.append("Link")
    if is_versioned and method == "get":
        parameters.append("If-None-Match")
        responses["304"] = {
            "description": "The caller has this version already",
            "headers": _headers(*headers, "X-Request-ID"),
        }
    if is_versioned and method in ("patch", "delete"):
        parameters.append("If-Match")
        problems.append(412)
    if method == "post":
        parameters.append("Idempotency-Key")
        headers.append("Idempotency-Replayed")
        problems.append(409)
    if condition := _CREATION_CONDITIONS.get(name):
        parameters.append(condition)
        headers.append("Location")
        problems.append(412)
    if "206" in good:
        parameters.append("Range")
        headers += ["Accept-Ranges", "Content-Disposition"]
        problems.append(416)
    for status, response in good.items():
        part = ["Content-Range"] if status == "206" else []
        response["headers"] = _headers(*headers, *part, "X-Request-ID")
        _name_any_type(response)
        _add_examples(response)
    _add_examples(operation.get("requestBody", {}))
    responses |= {str(status): _name(status) for status in problems}
    operation["responses"] = dict(sorted(responses.items()))
    operation.setdefault("parameters", []).extend(sorted(parameters))


def _is_page(response: dict[str, Any]) -> bool:
    media = response.get("content", {}).values()
    return any(medium.get("schema", {}).get("type") == "array" for medium in media)


def _name_any_type(response: dict[str, Any]) -> None:
    """Add a type to the wildcard, with which generators of clients cannot work."""
    if any_type := response.get("content", {}).get("*/*"):
        response["content"] = {"application/octet-stream": any_type, "*/*": any_type}


def _add_examples(body: dict[str, Any]) -> None:
    for media in body.get("content", {}).values():
        schema = media.get("schema", {})
        if "anyOf" in schema:
            names = [_schema_name(alternative) for alternative in schema["anyOf"]]
            media["examples"] = {name: {"value": EXAMPLES[name]} for name in names}
        elif (name := _schema_name(schema.get("items", schema))) in EXAMPLES:
            media["example"] = [EXAMPLES[name]] if "items" in schema else EXAMPLES[name]


def _schema_name(schema: Any) -> str:
    # apispec replaces a schema by its reference before or after this plugin, depending on where it stands.
    if isinstance(schema, dict):
        return str(schema.get("$ref", "")).rpartition("/")[2]
    return schema.__name__ if isinstance(schema, type) else type(schema).__name__


def _headers(*names: str) -> dict[str, dict[str, str]]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _name(status: int) -> str:
    return PROBLEM_TYPES[status].title.replace(" ", "")


def _problem_headers(status: int) -> dict[str, dict[str, str]]:
    own = {401: ["WWW-Authenticate"], 416: ["Content-Range"], 503: ["Retry-After"]}
    return _headers(*own.get(status, []), "X-Request-ID")


def _problem_example(status: int, problem: ProblemType) -> dict[str, Any]:
    example = {
        "type": "about:blank",
        "title": problem.title,
        "status": status,
        "detail": problem.meaning,
        "request_id": "7f1c",
    }
    if status == HTTPStatus.UNPROCESSABLE_ENTITY:
        rule = {"loc": ["body", "title"], "msg": "Longer than maximum length 255.", "type": "too_long"}
        return {**example, "detail": "body.title: Longer than maximum length 255.", "errors": [rule]}
    return example


class _Api(Api):  # type: ignore[misc]
    def _register_error_handlers(self) -> None:
        """Do nothing: `web.problems` registers the handlers."""

    def _register_responses(self) -> None:
        """Do nothing: `Completion` adds the responses."""

    def _register_pagination_header(self) -> None:
        """Pages are chosen by the query, not by flask-smorest's header."""


def build(app: Flask) -> dict[str, Any]:
    """Build the document of an application that `create_app` makes."""
    app.config.update(API_TITLE="mai-sessions", API_VERSION=version("mai-sessions"), OPENAPI_VERSION="3.1.0")
    smorest = _Api(app, spec_kwargs=SPEC)
    for blueprint in (api, service):
        blueprint.register_views_in_doc(smorest, app, smorest.spec, name=blueprint.name, parameters=None)
    for name, description in TAGS.items():
        smorest.spec.tag({"name": name, "description": description})
    document: dict[str, Any] = smorest.spec.to_dict()
    return document
