"""The calls for the state of the service. Their routes are beside `/api/v1`."""

import time

import httpx

from mai_sessions_client._async.base import AsyncBaseClient
from mai_sessions_client._http import Retries
from mai_sessions_client.models import DetailedHealth, Health, ServiceInfo


class AsyncService(AsyncBaseClient):
    async def service(self) -> ServiceInfo:
        """Return the name and the release of the service."""
        return ServiceInfo.from_json((await self._get_beside("")).json())

    async def health(self) -> Health:
        """Return the time of the service. A process of it responds."""
        return Health.from_json((await self._get_beside("health")).json())

    async def live(self) -> None:
        """Return if a process of the service responds."""
        await self._get_beside("health/live")

    async def ready(self) -> None:
        """Return if the service can use its database. Raises Unavailable otherwise, at once."""
        await self._get_beside("health/ready", retries=Retries(time.monotonic()))

    async def detailed_health(self) -> DetailedHealth:
        """Return the state of the service and its database."""
        return DetailedHealth.from_json((await self._get_beside("health/detailed")).json())

    async def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""
        return (await self._get_beside("metrics")).text

    async def _get_beside(self, path: str, *, retries: Retries | None = None) -> httpx.Response:
        return await self._send("GET", str(self._http.base_url.join(f"../../{path}")), retries=retries)
