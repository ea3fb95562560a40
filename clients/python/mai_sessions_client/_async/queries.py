"""The calls for search, analytics, attachments and the export."""

from collections.abc import AsyncIterator
from datetime import date

import httpx

from mai_sessions_client._async.base import AsyncBaseClient
from mai_sessions_client._http import query, range_header
from mai_sessions_client.models import (
    AgentsUsage,
    Attachment,
    Json,
    ModelsUsage,
    Role,
    SearchPage,
    SearchResult,
    Summary,
    Usage,
)

_PAGE = 50


class AsyncQueries(AsyncBaseClient):
    async def search(
        self,
        q: str,
        *,
        role: Role | None = None,
        agent_name: str | None = None,
        model_id: str | None = None,
        session_id: str | None = None,
        since: date | None = None,
        until: date | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> SearchPage:
        """Return a page of titles and messages that match `q`, best match first."""
        response = await self._send(
            "GET",
            "search",
            params=query(
                q=q,
                role=role,
                agent_name=agent_name,
                model_id=model_id,
                session_id=session_id,
                since=since,
                until=until,
                limit=limit,
                cursor=cursor,
            ),
        )
        return SearchPage.from_json(response.json())

    async def search_results(
        self,
        q: str,
        *,
        role: Role | None = None,
        agent_name: str | None = None,
        model_id: str | None = None,
        session_id: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> AsyncIterator[SearchResult]:
        """Iterate over all results of a search, a page at a time."""
        cursor = None
        while True:
            page = await self.search(
                q,
                role=role,
                agent_name=agent_name,
                model_id=model_id,
                session_id=session_id,
                since=since,
                until=until,
                limit=_PAGE,
                cursor=cursor,
            )
            for result in page.results:
                yield result
            cursor = page.next_cursor
            if cursor is None:
                return

    async def usage(self, *, start_date: date | None = None, end_date: date | None = None) -> Usage:
        """Return totals and a row for each day, both ends included; by default the last 30 days."""
        return Usage.from_json(await self._analysis("usage", start_date, end_date))

    async def agents_usage(
        self, *, start_date: date | None = None, end_date: date | None = None
    ) -> AgentsUsage:
        """Return the usage of each agent, by default of the last 30 days."""
        return AgentsUsage.from_json(await self._analysis("agents", start_date, end_date))

    async def models_usage(
        self, *, start_date: date | None = None, end_date: date | None = None
    ) -> ModelsUsage:
        """Return the usage of each model, by default of the last 30 days."""
        return ModelsUsage.from_json(await self._analysis("models", start_date, end_date))

    async def _analysis(self, name: str, start_date: date | None, end_date: date | None) -> Json:
        params = query(start_date=start_date, end_date=end_date)
        response = await self._send("GET", f"analytics/{name}", params=params)
        content: Json = response.json()
        return content

    async def summary(self) -> Summary:
        """Return the totals of the last 30 days."""
        return Summary.from_json((await self._send("GET", "analytics/summary")).json())

    async def get_attachment(
        self, url: str, *, byte_range: tuple[int, int | None] | None = None
    ) -> Attachment:
        """Return an attachment, by its URL in a message or by its SHA-256.

        `byte_range` selects the bytes from the first to the last one, both included; None for the end.
        Raises ValueError for a URL of another host.
        """
        if self._http.base_url.join(url).netloc != self._http.base_url.netloc:
            raise ValueError(f"not an attachment of this service: {url}")
        # Below `base_url`: behind a proxy that strips a prefix, the service does not know the whole path.
        name = url.partition("/attachments/")[2] or url
        response = await self._send("GET", f"attachments/{name}", headers=range_header(byte_range))
        return Attachment(response.content, response.headers.get("Content-Type", "application/octet-stream"))

    async def export(self, *, session_id: str | None = None) -> AsyncIterator[Json]:
        """Iterate over all sessions with all their messages, oldest first, while the service streams them.

        Raises httpx.TransportError if the stream breaks off. The client does not resume it.
        """
        response = await self._send("GET", "export", params=query(session_id=session_id), stream=True)
        try:
            async for line in response.aiter_lines():
                if line:
                    yield httpx.Response(200, content=line).json()
        finally:
            await response.aclose()
