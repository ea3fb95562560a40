"""A client that checks every response against the contract."""

import json
import re
from collections.abc import Iterator
from typing import Any, ClassVar

from flask.testing import FlaskClient
from hypothesis import currently_in_test_context
from marshmallow import RAISE, Schema
from werkzeug.test import TestResponse

from mai_sessions.ids import parse_id

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"')


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in a body that are long enough not to occur in the log by chance."""
    if (
        isinstance(value, str)
        and 12 <= len(value) <= 1000
        and value.isascii()
        and value.isprintable()
        and not parse_id(value)
    ):
        yield value
    elif isinstance(value, dict | list):
        for nested in value.values() if isinstance(value, dict) else value:
            yield from _texts(nested)


class ContractClient(FlaskClient):
    """Checks every response for the rules that hold everywhere: contract §1."""

    # All texts and tokens that the tests of this process have sent.
    written: ClassVar[set[str]] = set()

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Send a request, and check its response."""
        # Hypothesis sends constants of the code, too, which the log has for other reasons.
        if not currently_in_test_context():
            self.written.update(_texts(kwargs.get("json")))
        self.written.update(_texts(dict(kwargs.get("headers") or {}).get("Authorization")))
        # Buffered, so that the response is closed and its record is complete.
        kwargs.setdefault("buffered", True)
        response = super().open(*args, **kwargs)
        assert response.headers["X-Request-ID"]
        assert not 300 <= response.status_code < 304, "no redirects, ever"
        if response.status_code >= 400:
            check_problem(response)
        elif response.status_code not in (204, 304) and response.request.method not in ("HEAD", "OPTIONS"):
            self._check_documented(response)
        return response

    def _check_documented(self, response: TestResponse) -> None:
        endpoint, _ = self.application.create_url_adapter(response.request).match()  # type: ignore[union-attr]
        view = self.application.view_functions[endpoint]
        if endpoint.startswith("mai_sessions_docs."):
            return
        documented = view._apidoc["response"]["responses"]
        schema = documented[response.status_code][0].get("schema")
        if not isinstance(schema, Schema):
            return
        bodies = [response.data]
        if response.content_type == "application/x-ndjson":
            bodies = response.data.splitlines()
        else:
            assert response.content_type == "application/json"
        for body in bodies:
            assert not re.search(rb"\s", _STRING.sub(b"", body)), "JSON is compact"
            schema.load(json.loads(body), unknown=RAISE)
        # With an explicit offset, in UTC.
        for stamp in re.findall(r'"(?:created_at|updated_at|timestamp)":\s*"([^"]*)"', response.text):
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?\+00:00", stamp)


def check_problem(response: TestResponse) -> None:
    """Check the body of an error: RFC 9457, a detail that is text, and nothing internal."""
    assert response.content_type == "application/problem+json"
    if response.request.method == "HEAD":
        return
    problem = response.get_json()
    assert problem["status"] == response.status_code
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert set(problem) - {"errors"} == {"type", "title", "status", "detail", "request_id"}
    assert isinstance(problem["detail"], str)
    assert problem["detail"]
    for error in problem.get("errors", []):
        assert set(error) == {"loc", "msg", "type"}
    for inside in ("Traceback", "psycopg", "SELECT", "INSERT", "UPDATE", ".py"):
        assert inside not in problem["detail"]
