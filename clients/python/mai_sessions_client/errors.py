"""What a call raises."""

from typing import Any, ClassVar

import httpx


class ProblemError(Exception):
    """The service refused a request. `detail` is for people, `type` and `errors` are for programs.

    `errors` is a list of `{"loc": […], "msg": "…", "type": "…"}` with a 422; `request_id` names the request
    in the service's log.
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
        """Build the error of a response, whether its body is a problem document or a proxy's page."""
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
    """The token is missing, expired or wrong; a new one was asked for once."""


class NotFound(ProblemError, status=404):
    """There is no such session or message, or it is another user's."""


class Stale(ProblemError, status=412):
    """`if_match` does not match: somebody else changed the session or message since it was read."""


class Invalid(ProblemError, status=422):
    """The request cannot be accepted as it is; `errors` says which fields and why."""


class Unavailable(ProblemError, status=503):
    """The service is away, and was for as long as calls are repeated."""
