"""How requests are sent: token, retries, errors."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import httpx

from mai_sessions_client._http import Retries, condition_headers
from mai_sessions_client.errors import NotFound, ProblemError

_PREFIX = "/api/v1/"

Token = str | Callable[[], str | Awaitable[str]]


class AsyncBaseClient:
    """The constructor and the requests of the client. AsyncClient describes the parameters."""

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        token: Token | None = None,
        retry_for: float = 30.0,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._token = token
        self._retry_for = retry_for
        self._http = httpx.AsyncClient(
            base_url=base_url.rstrip("/") + _PREFIX, timeout=timeout, headers=headers, transport=transport
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _delete(self, path: str, if_match: str | None) -> None:
        retries = Retries(time.monotonic() + self._retry_for, is_deletion=True)
        try:
            await self._send("DELETE", path, headers=condition_headers(if_match=if_match), retries=retries)
        except NotFound:
            # An earlier attempt deleted it, and its response was lost.
            if not retries.attempts:
                raise

    async def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        retries: Retries | None = None,
        stream: bool = False,
    ) -> httpx.Response:
        """Send a request until it succeeds, fails for good, or the time for retries ends.

        With `stream`, the caller reads and closes the response. Raises ProblemError and httpx.TransportError.
        """
        retries = retries or Retries(time.monotonic() + self._retry_for)
        request = self._http.build_request(method, path, params=params, json=json, headers=headers)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = await self._attempt(request, stream=stream)
                if outcome.is_success or outcome.status_code == httpx.codes.NOT_MODIFIED:
                    return outcome
                await outcome.aread()
            except httpx.TransportError as error:
                outcome = error
            pause = retries.pause(outcome, time.monotonic())
            if pause is None:
                raise ProblemError.of(outcome) if isinstance(outcome, httpx.Response) else outcome
            await asyncio.sleep(pause)

    async def _attempt(self, request: httpx.Request, *, stream: bool) -> httpx.Response:
        """Send a request once, or twice if the first token has expired."""
        for _ in range(2):
            if self._token is not None:
                request.headers["Authorization"] = f"Bearer {await self._bearer()}"
            response = await self._http.send(request, stream=stream)
            if response.status_code != httpx.codes.UNAUTHORIZED or not callable(self._token):
                break
            await response.aread()
        return response

    async def _bearer(self) -> str:
        token = self._token() if callable(self._token) else self._token or ""
        return token if isinstance(token, str) else await token
