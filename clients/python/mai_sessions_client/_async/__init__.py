"""The asynchronous client. `_sync` is generated from it by `generate_client.py`."""

from mai_sessions_client._async.messages import AsyncMessages
from mai_sessions_client._async.queries import AsyncQueries
from mai_sessions_client._async.service import AsyncService
from mai_sessions_client._async.sessions import AsyncSessions


class AsyncClient(AsyncSessions, AsyncMessages, AsyncQueries, AsyncService):
    """A client of one service, as one user. Use it in `async with`, or call `aclose()`.

    `base_url` is where the service is mounted, without `/api/v1`. `token` is a bearer token, or a function
    that returns one: the client calls it before every attempt, and once more after a 401. The client repeats
    a request that fails for a passing reason for `retry_for` seconds, a write with the same key. `timeout` is
    httpx's, in seconds. Calls raise ProblemError for a response with an error status, and
    httpx.TransportError if no response arrived.
    """


__all__ = ["AsyncClient"]
