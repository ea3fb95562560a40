"""The calls for sessions."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

import httpx

from mai_sessions_client._async.base import AsyncBaseClient
from mai_sessions_client._http import UNSET, Unset, body, condition_headers, new_key, query
from mai_sessions_client.bodies import NewMessage, SessionAction
from mai_sessions_client.models import BatchResult, Session, SessionDetail, SessionPage

_PAGE = 100


class AsyncSessions(AsyncBaseClient):
    async def list_sessions(
        self,
        *,
        search: str | None = None,
        archived: bool | Literal["any"] | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
        known: SessionPage | None = None,
    ) -> SessionPage:
        """Return a page of sessions, newest first.

        `metadata` selects the sessions whose metadata contain it. `known` is an earlier result of the same
        call. It is returned if nothing has changed since.
        """
        response = await self._send(
            "GET",
            "sessions",
            params=query(
                search=search, archived=archived, metadata=metadata, limit=limit, offset=offset, cursor=cursor
            ),
            headers=condition_headers(if_none_match=known.etag if known else None),
        )
        if known and response.status_code == httpx.codes.NOT_MODIFIED:
            return known
        return SessionPage.from_json(response.json(), etag=response.headers.get("ETag"))

    async def sessions(
        self,
        *,
        search: str | None = None,
        archived: bool | Literal["any"] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Session]:
        """Iterate over all sessions, newest first, a page at a time."""
        cursor = None
        while True:
            page = await self.list_sessions(
                search=search, archived=archived, metadata=metadata, limit=_PAGE, cursor=cursor
            )
            for session in page.sessions:
                yield session
            cursor = page.next_cursor
            if cursor is None:
                return

    async def create_session(
        self,
        *,
        id: str | None = None,
        title: str | None = None,
        agent_name: str | None = None,
        model_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        archived: bool | None = None,
        created_at: datetime | None = None,
        messages: Sequence[NewMessage] | None = None,
        head_id: str | None = None,
        only_new: bool = False,
        key: str | None = None,
    ) -> SessionDetail:
        """Create a session, with up to 100 messages, all or nothing.

        If the session `id` exists, it is returned unchanged, or with `only_new` Stale is raised.
        """
        response = await self._send(
            "POST",
            "sessions",
            json=body(
                id=id,
                title=title,
                agent_name=agent_name,
                model_id=model_id,
                metadata=metadata,
                archived=archived,
                created_at=created_at,
                messages=messages,
                head_id=head_id,
            ),
            headers=condition_headers(key=key or new_key(), if_none_match="*" if only_new else None),
        )
        return SessionDetail.from_json(response.json())

    async def get_session(
        self,
        session_id: str,
        *,
        messages_limit: int | None = None,
        head_id: str | None = None,
        all_branches: bool = False,
        known: SessionDetail | None = None,
    ) -> SessionDetail:
        """Return a session with its messages, or with the newest `messages_limit` of them.

        `known` is an earlier result of the same call. It is returned if nothing has changed since. Raises
        Invalid with `is_too_large` if the messages exceed the limit of a response: read them with
        `messages()`.
        """
        branches = "all" if all_branches else None
        response = await self._send(
            "GET",
            f"sessions/{session_id}",
            params=query(messages_limit=messages_limit, head_id=head_id, branches=branches),
            headers=condition_headers(if_none_match=known.etag if known else None),
        )
        if known and response.status_code == httpx.codes.NOT_MODIFIED:
            return known
        return SessionDetail.from_json(response.json())

    async def update_session(
        self,
        session_id: str,
        *,
        title: str | None = None,
        agent_name: str | None = None,
        model_id: str | Unset | None = UNSET,
        metadata: Mapping[str, Any] | None = None,
        archived: bool | None = None,
        head_id: str | None = None,
        if_match: str | None = None,
    ) -> Session:
        """Change the given fields.

        `model_id=None` clears it. `metadata` is merged: a key whose value is None is removed.
        """
        changes = body(
            title=title,
            agent_name=agent_name,
            model_id=model_id,
            metadata=metadata,
            archived=archived,
            head_id=head_id,
        )
        headers = condition_headers(if_match=if_match)
        if model_id is None:
            changes["model_id"] = None
            headers["Content-Type"] = "application/merge-patch+json"
        response = await self._send(
            "PATCH", f"sessions/{session_id}", params={"messages_limit": "0"}, json=changes, headers=headers
        )
        return Session.from_json(response.json())

    async def delete_session(self, session_id: str, *, if_match: str | None = None) -> None:
        """Delete a session with its messages."""
        await self._delete(f"sessions/{session_id}", if_match)

    async def batch_sessions(
        self,
        session_ids: Sequence[str],
        action: SessionAction,
        *,
        key: str | None = None,
    ) -> BatchResult:
        """Delete, archive or unarchive up to 500 sessions, all or nothing."""
        response = await self._send(
            "POST",
            "sessions/batch",
            json={"ids": list(session_ids), "action": action},
            headers=condition_headers(key=key or new_key()),
        )
        return BatchResult.from_json(response.json())
