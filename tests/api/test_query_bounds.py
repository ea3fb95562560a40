"""Every combination of the parameters of a query, at the bounds that the document names."""

import json
import re
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from support.chats import SESSIONS, Chat

PATHS = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text(encoding="utf-8"))["paths"]
QUERIES = {
    path: query
    for path, item in PATHS.items()
    if "get" in item
    and (query := [one for one in item["get"].get("parameters", []) if one.get("in") == "query"])
}
# The largest numbers of PostgreSQL's integer types.
LARGEST = [2**15 - 1, 2**31 - 1, 2**63 - 1]
DATES = ["0001-01-01", "9999-12-31"]
# The values of parameters whose bounds the document does not name. Cursors come from responses.
VALUES = {
    "start_date": DATES,
    "end_date": DATES,
    "since": DATES,
    "until": DATES,
    "search": ["hi"],
    "metadata": ['{"a":9223372036854775808}'],
    "q": ["hi"],
    "agent_name": ["x"],
    "model_id": ["x"],
    "cursor": [],
    "session_id": [],
    "head_id": [],
}


def bounds(parameter: dict[str, Any]) -> list[str | None]:
    """Return values of a parameter, and None for its absence."""
    schema = parameter["schema"]
    if "minimum" in schema:
        inside = [number for number in LARGEST if number < schema["maximum"]]
        return [None, *map(str, [schema["minimum"], *inside, schema["maximum"]])]
    return [None, *(schema.get("enum") or VALUES[parameter["name"]])]


@pytest.mark.parametrize("path", QUERIES)
def test_no_combination_of_bounds_fails(client: FlaskClient, chat: Chat, path: str) -> None:
    """Each is a page or a refusal, and what a page links to is a page."""
    url = path.replace("{session_id}", chat.session.rpartition("/")[2])
    client.post(SESSIONS, json={"title": "hi"})
    for content in ("hi", "there"):
        client.post(chat.messages, json={"role": "user", "content": content})
    names = [parameter["name"] for parameter in QUERIES[path]]
    statuses = set()
    for values in product(*map(bounds, QUERIES[path])):
        query = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        response = client.get(f"{url}?{urlencode(query)}", buffered=True)
        assert response.status_code in {200, 422}, (query, response.text)
        statuses.add(response.status_code)
        following = re.findall("<([^>]+)>", response.headers.get("Link", ""))
        following += [
            f"{url}?{urlencode({**query, 'offset': 0, 'cursor': cursor})}"
            for cursor in re.findall('"next_cursor":"([^"]+)"', response.text)
        ]
        for link in following:
            assert client.get(link, buffered=True).status_code == 200, (query, link)
    assert 200 in statuses
