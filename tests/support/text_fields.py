"""The places of a request that take a text, or refuse it: those of the OpenAPI document."""

import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from support.service import TREE

DOCUMENT: dict[str, Any] = json.loads((TREE / "docs" / "openapi.json").read_text())
# The other required fields of a body.
REQUIRED = {"role": "user", "content": "x", "ids": [], "action": "archive"}


class Field(NamedTuple):
    """A place for a text in a request: in its `path`, `query` or `body`. `limit` is in characters; None means
    only the limit of the body or line. Where the value is of another type, `is_text` is false.
    """

    method: str
    path: str
    place: str
    name: str
    limit: int | None
    is_text: bool
    make: Callable[[str], Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.name}"


class Maker(NamedTuple):
    """How a value that holds a text is made for a schema."""

    limit: int | None
    is_text: bool
    make: Callable[[str], Any]


def _resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def _required(schema: dict[str, Any]) -> dict[str, Any]:
    return {name: REQUIRED[name] for name in _resolved(schema).get("required", []) if name in REQUIRED}


def _makers(schema: dict[str, Any]) -> Iterator[Maker]:
    schema = _resolved(schema)
    types = schema.get("type", "object")
    if "array" in types:
        for limit, is_text, make in _makers(schema.get("items", {})):
            yield Maker(limit, is_text, lambda text, make=make: [make(text)])
    elif "object" in types and schema.get("properties"):
        for name, nested in schema["properties"].items():
            for limit, is_text, make in _makers(nested):
                yield Maker(
                    limit,
                    is_text,
                    lambda text, name=name, make=make: {**_required(schema), name: make(text)},
                )
    elif "object" in types:
        yield Maker(None, True, lambda text: {"type": "text", "text": text})
        yield Maker(None, True, lambda text: {text: 1})
    else:
        is_text = "string" in types and "enum" not in schema and "format" not in schema
        yield Maker(schema.get("maxLength") if is_text else None, is_text, lambda text: text)


def _parameters(method: str, path: str, listed: list[dict[str, Any]]) -> Iterator[Field]:
    for parameter in listed:
        if parameter.get("in") in ("path", "query"):
            is_text = "string" in parameter["schema"].get("type", "") and parameter["in"] == "query"
            yield Field(method, path, parameter["in"], parameter["name"], None, is_text, lambda text: text)


def _bodies(method: str, path: str, schema: dict[str, Any]) -> Iterator[Field]:
    for alternative in map(_resolved, schema.get("anyOf", [schema])):
        for name, nested in alternative.get("properties", {}).items():
            for limit, is_text, make in _makers(nested):

                def make_body(
                    text: str,
                    alternative: dict[str, Any] = alternative,
                    name: str = name,
                    make: Callable[[str], Any] = make,
                ) -> Any:
                    return {**_required(alternative), name: make(text)}

                yield Field(method, path, "body", name, limit, is_text, make_body)
                if limit:
                    # Beyond its limit a text is refused.
                    yield Field(method, path, "body", name, None, False, make_body)


def fields() -> Iterator[Field]:
    """Yield every place of every route."""
    for path, operations in DOCUMENT["paths"].items():
        shared = operations.get("parameters", [])
        for method, operation in operations.items():
            if method == "parameters":
                continue
            verb = method.upper()
            yield from _parameters(verb, path, [*shared, *operation.get("parameters", [])])
            content = operation.get("requestBody", {}).get("content", {})
            if "application/json" in content:
                yield from _bodies(verb, path, _resolved(content["application/json"]["schema"]))
