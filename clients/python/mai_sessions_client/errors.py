"""The exceptions of the client."""

from typing import Any, ClassVar

import httpx


class ProblemError(Exception):
    """An error response. `detail` is for people, `type` and `errors` are for programs.

    With a 422, `errors` is a list of `{"loc": […], "msg": "…", "type": "…"}`. `request_id` names the request
    in the log of the service.
    """

    _by_status: ClassVar[dict[int, type["ProblemError"]]] = {}

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        type: str = "about:blank",
        request_id: str | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}" if detail else f"{status} {title}")
        self.status = status
        self.title = title
        self.detail = detail
        self.type = type
        self.request_id = request_id
        self.errors = errors or []

    def __init_subclass__(cls, status: int) -> None:
        cls._by_status[status] = cls

    @classmethod
    def of(cls, response: httpx.Response) -> "ProblemError":
        """Return the error for a response. Its body is a problem document, or the error page of a proxy."""
        try:
            body = response.json()
        except ValueError:
            body = None
        problem: dict[str, Any] = body if isinstance(body, dict) else {}
        return cls._by_status.get(response.status_code, cls)(
            response.status_code,
            str(problem.get("title") or response.reason_phrase),
            str(problem.get("detail") or ""),
            type=str(problem.get("type") or "about:blank"),
            request_id=problem.get("request_id") or response.headers.get("X-Request-ID"),
            errors=problem.get("errors"),
        )


class Unauthorized(ProblemError, status=401):
    """The token is missing, expired or wrong. If `token` is a function, it was called twice."""


class NotFound(ProblemError, status=404):
    """The session or message does not exist, or belongs to another user."""


class Stale(ProblemError, status=412):
    """`if_match` does not match: the session or message has changed since it was read."""


class Invalid(ProblemError, status=422):
    """A value of the request is invalid. `errors` names it and the reason."""

    @property
    def is_too_large(self) -> bool:
        """Whether the response would exceed the limit of the service. The same request for fewer messages
        may succeed.
        """
        return any(error.get("type") == "too_large" for error in self.errors)


class Unavailable(ProblemError, status=503):
    """The service did not become available during `retry_for`."""
