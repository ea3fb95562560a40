"""The calls for messages."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import httpx

from mai_sessions_client._async.base import AsyncBaseClient
from mai_sessions_client._http import UNSET, Unset, body, condition_headers, new_key, query
from mai_sessions_client.bodies import NewMessage, SessionChanges
from mai_sessions_client.errors import Invalid
from mai_sessions_client.models import AppendedMessages, Message, MessagePage, Role, Status

_PAGE = 100


class AsyncMessages(AsyncBaseClient):
    async def append_message(
        self,
        session_id: str,
        role: Role,
        content: str | None = None,
        *,
        id: str | None = None,
        parts: Sequence[Mapping[str, Any]] | None = None,
        images: Sequence[str | bytes] | None = None,
        documents: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        model_id: str | None = None,
        agent_name: str | None = None,
        response_time_ms: float | None = None,
        token_count: int | None = None,
        is_error: bool | None = None,
        status: Status | None = None,
        parent_id: str | Unset | None = UNSET,
        created_at: datetime | None = None,
        if_match: str | None = None,
        key: str | None = None,
    ) -> Message:
        """Append a message to the shown branch, or below `parent_id`; None starts a branch of its own."""
        response = await self._send(
            "POST",
            f"sessions/{session_id}/messages",
            json=body(
                id=id,
                role=role,
                content=content,
                parts=parts,
                images=images,
                documents=documents,
                metadata=metadata,
                model_id=model_id,
                agent_name=agent_name,
                response_time_ms=response_time_ms,
                token_count=token_count,
                is_error=is_error,
                status=status,
                parent_id=parent_id,
                created_at=created_at,
            ),
            headers=condition_headers(key=key or new_key(), if_match=if_match),
        )
        return _message(response)

    async def append_messages(
        self,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        session: SessionChanges | None = None,
        if_match: str | None = None,
        key: str | None = None,
    ) -> AppendedMessages:
        """Append up to 100 messages in order and change the session, all or nothing."""
        response = await self._send(
            "POST",
            f"sessions/{session_id}/messages",
            json=body(messages=messages, session=session),
            headers=condition_headers(key=key or new_key(), if_match=if_match),
        )
        return AppendedMessages.from_json(response.json())

    async def list_messages(
        self,
        session_id: str,
        *,
        limit: int | None = None,
        offset: int | None = None,
        after_seq: int | None = None,
        before_seq: int | None = None,
        max_tokens: int | None = None,
        head_id: str | None = None,
        all_branches: bool = False,
        known: MessagePage | None = None,
    ) -> MessagePage:
        """Return a page of messages, oldest first.

        `max_tokens` selects the system messages and the newest others that fit, from a user message on.
        `known` is an earlier result of the same call. It is returned if nothing has changed since. Raises
        Invalid with `is_too_large` if the page exceeds the limit of a response; `messages()` does not.
        """
        response = await self._send(
            "GET",
            f"sessions/{session_id}/messages",
            params=query(
                limit=limit,
                offset=offset,
                after_seq=after_seq,
                before_seq=before_seq,
                max_tokens=max_tokens,
                head_id=head_id,
                branches="all" if all_branches else None,
            ),
            headers=condition_headers(if_none_match=known.etag if known is not None else None),
        )
        if known is not None and response.status_code == httpx.codes.NOT_MODIFIED:
            return known
        return MessagePage(
            [Message.from_json(message) for message in response.json()],
            etag=response.headers.get("ETag"),
            has_older="prev" in response.links,
            has_newer="next" in response.links,
        )

    async def messages(
        self, session_id: str, *, head_id: str | None = None, all_branches: bool = False
    ) -> AsyncIterator[Message]:
        """Iterate over the messages of a branch, oldest first, a page at a time.

        The pages become smaller where they exceed the limit of a response.
        """
        after_seq, limit = 0, _PAGE
        while True:
            try:
                page = await self.list_messages(
                    session_id, limit=limit, after_seq=after_seq, head_id=head_id, all_branches=all_branches
                )
            except Invalid as error:
                if not error.is_too_large or limit == 1:
                    raise
                limit //= 2
                continue
            for message in page:
                yield message
            if len(page) < limit:
                return
            after_seq = page[-1].seq

    async def get_message(self, session_id: str, message_id: str, *, known: Message | None = None) -> Message:
        """Return a message. `known` is an earlier result, and is returned if nothing has changed since."""
        response = await self._send(
            "GET",
            f"sessions/{session_id}/messages/{message_id}",
            headers=condition_headers(if_none_match=known.etag if known else None),
        )
        if known and response.status_code == httpx.codes.NOT_MODIFIED:
            return known
        return _message(response)

    async def update_message(
        self,
        session_id: str,
        message_id: str,
        *,
        content: str | None = None,
        parts: Sequence[Mapping[str, Any]] | None = None,
        images: Sequence[str | bytes] | None = None,
        documents: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        model_id: str | None = None,
        agent_name: str | None = None,
        response_time_ms: float | None = None,
        token_count: int | None = None,
        is_error: bool | None = None,
        status: Status | None = None,
        if_match: str | None = None,
    ) -> Message:
        """Change the given fields. `metadata` is merged, all others are replaced."""
        response = await self._send(
            "PATCH",
            f"sessions/{session_id}/messages/{message_id}",
            json=body(
                content=content,
                parts=parts,
                images=images,
                documents=documents,
                metadata=metadata,
                model_id=model_id,
                agent_name=agent_name,
                response_time_ms=response_time_ms,
                token_count=token_count,
                is_error=is_error,
                status=status,
            ),
            headers=condition_headers(if_match=if_match),
        )
        return _message(response)

    async def delete_message(self, session_id: str, message_id: str, *, if_match: str | None = None) -> None:
        """Delete a message. Its children move to its parent."""
        await self._delete(f"sessions/{session_id}/messages/{message_id}", if_match)

    async def clear_messages(self, session_id: str, *, if_match: str | None = None) -> None:
        """Delete all messages of a session."""
        headers = condition_headers(if_match=if_match)
        await self._send("DELETE", f"sessions/{session_id}/messages", headers=headers)


def _message(response: httpx.Response) -> Message:
    return Message.from_json(response.json(), etag=response.headers.get("ETag"))
