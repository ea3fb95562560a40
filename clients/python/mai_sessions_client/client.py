"""The synchronous client, made from async_client.py by generate_client.py: do not edit it."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from types import TracebackType
from typing import Any, Literal, Self, TypedDict

import httpx

from mai_sessions_client._http import UNSET, Retries, Unset, body, condition_headers, new_key, query
from mai_sessions_client.errors import NotFound, ProblemError
from mai_sessions_client.models import (
    AgentsUsage,
    AppendedMessages,
    Attachment,
    BatchResult,
    Json,
    Message,
    ModelsUsage,
    Role,
    SearchPage,
    SearchResult,
    Session,
    SessionDetail,
    SessionPage,
    Status,
    Summary,
    Usage,
)

Token = str | Callable[[], str]
SessionAction = Literal["delete", "archive", "unarchive"]
_PREFIX = "/api/v1/"
_PAGE = 100


class NewMessage(TypedDict, total=False):
    """A message of a batch. `images` are bytes, base64, data URLs or links of the service."""

    id: str
    role: Role
    content: str
    parts: Sequence[Mapping[str, Any]]
    images: Sequence[str | bytes]
    documents: Sequence[str]
    metadata: Mapping[str, Any]
    model_id: str | None
    agent_name: str | None
    response_time_ms: float | None
    token_count: int
    is_error: bool
    status: Status
    parent_id: str | None
    created_at: datetime


class SessionChanges(TypedDict, total=False):
    """What a batch of messages changes of its session."""

    title: str
    agent_name: str
    model_id: str
    metadata: Mapping[str, Any]
    archived: bool
    head_id: str


class Client:
    """A client of one service, as one user. Use it in `with`, or call `close()`.

    `base_url` is where the service is mounted, without `/api/v1`. `token` is a bearer token, or a function
    that gives one: it is called before every attempt, and a 401 calls it once more. A request that fails for
    a passing reason is sent again for `retry_for` seconds, a write under the same key. Calls raise
    ProblemError for what the service refuses, and httpx.TransportError when it cannot be reached.
    """

    def __init__(
        self,
        base_url: str = "http://127.0.0.1:8000",
        *,
        token: Token | None = None,
        retry_for: float = 30.0,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._token = token
        self._retry_for = retry_for
        self._http = httpx.Client(
            base_url=base_url.rstrip("/") + _PREFIX, timeout=timeout, headers=headers, transport=transport
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Sessions

    def list_sessions(
        self,
        *,
        search: str | None = None,
        archived: bool | Literal["any"] | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int | None = None,
        offset: int | None = None,
        cursor: str | None = None,
    ) -> SessionPage:
        """Give a page of sessions, newest first. `metadata` lists those whose metadata contain it."""
        response = self._send(
            "GET",
            "sessions",
            params=query(
                search=search, archived=archived, metadata=metadata, limit=limit, offset=offset, cursor=cursor
            ),
        )
        return SessionPage.from_json(response.json())

    def sessions(
        self,
        *,
        search: str | None = None,
        archived: bool | Literal["any"] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Iterator[Session]:
        """Iterate over all sessions, newest first, a page at a time."""
        cursor = None
        while True:
            page = self.list_sessions(
                search=search, archived=archived, metadata=metadata, limit=_PAGE, cursor=cursor
            )
            for session in page.sessions:
                yield session
            cursor = page.next_cursor
            if cursor is None:
                return

    def create_session(
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

        An `id` that is there gives that session as it stands, or with `only_new` raises Stale.
        """
        response = self._send(
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

    def get_session(
        self,
        session_id: str,
        *,
        messages_limit: int | None = None,
        head_id: str | None = None,
        all_branches: bool = False,
        known: SessionDetail | None = None,
    ) -> SessionDetail:
        """Give a session with its messages, or with the newest `messages_limit` of them.

        `known` is what the same call gave before: it is given back, unread, when nothing has changed.
        """
        branches = "all" if all_branches else None
        response = self._send(
            "GET",
            f"sessions/{session_id}",
            params=query(messages_limit=messages_limit, head_id=head_id, branches=branches),
            headers=condition_headers(if_none_match=known.etag if known else None),
        )
        if known and response.status_code == httpx.codes.NOT_MODIFIED:
            return known
        return SessionDetail.from_json(response.json())

    def update_session(
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
        """Change what is given. `model_id=None` clears it; `metadata` is merged, a key given as None goes."""
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
        response = self._send(
            "PATCH", f"sessions/{session_id}", params={"messages_limit": "0"}, json=changes, headers=headers
        )
        return Session.from_json(response.json())

    def delete_session(self, session_id: str, *, if_match: str | None = None) -> None:
        """Delete a session and everything of it."""
        self._delete(f"sessions/{session_id}", if_match)

    def batch_sessions(
        self,
        session_ids: Sequence[str],
        action: Literal["delete", "archive", "unarchive"],
        *,
        key: str | None = None,
    ) -> BatchResult:
        """Delete, archive or unarchive up to 500 sessions, all or nothing."""
        response = self._send(
            "POST",
            "sessions/batch",
            json={"ids": list(session_ids), "action": action},
            headers=condition_headers(key=key or new_key()),
        )
        return BatchResult.from_json(response.json())

    # Messages

    def append_message(
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
        """Append a message to the shown branch, or below `parent_id`, where None makes a first message."""
        response = self._send(
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

    def append_messages(
        self,
        session_id: str,
        messages: Sequence[NewMessage],
        *,
        session: SessionChanges | None = None,
        if_match: str | None = None,
        key: str | None = None,
    ) -> AppendedMessages:
        """Append up to 100 messages in order and change the session, all or nothing."""
        response = self._send(
            "POST",
            f"sessions/{session_id}/messages",
            json=body(messages=messages, session=session),
            headers=condition_headers(key=key or new_key(), if_match=if_match),
        )
        return AppendedMessages.from_json(response.json())

    def list_messages(
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
    ) -> list[Message]:
        """Give a page of messages, oldest first.

        `max_tokens` gives the newest messages that fit, from a user message on, after the system messages.
        """
        response = self._send(
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
        )
        return [Message.from_json(message) for message in response.json()]

    def messages(
        self, session_id: str, *, head_id: str | None = None, all_branches: bool = False
    ) -> Iterator[Message]:
        """Iterate over the messages of a branch, oldest first, a page at a time."""
        after_seq = 0
        while True:
            page = self.list_messages(
                session_id, limit=_PAGE, after_seq=after_seq, head_id=head_id, all_branches=all_branches
            )
            for message in page:
                yield message
            if len(page) < _PAGE:
                return
            after_seq = page[-1].seq

    def get_message(self, session_id: str, message_id: str) -> Message:
        """Give a message."""
        return _message(self._send("GET", f"sessions/{session_id}/messages/{message_id}"))

    def update_message(
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
        """Change what is given: `metadata` is merged, all else replaced."""
        response = self._send(
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

    def delete_message(self, session_id: str, message_id: str, *, if_match: str | None = None) -> None:
        """Delete a message. Its children move to its parent."""
        self._delete(f"sessions/{session_id}/messages/{message_id}", if_match)

    def clear_messages(self, session_id: str) -> None:
        """Delete all messages of a session."""
        self._send("DELETE", f"sessions/{session_id}/messages")

    # Search, analytics, attachments, export

    def search(
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
        """Search titles and messages, best match first."""
        response = self._send(
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

    def search_results(
        self,
        q: str,
        *,
        role: Role | None = None,
        agent_name: str | None = None,
        model_id: str | None = None,
        session_id: str | None = None,
        since: date | None = None,
        until: date | None = None,
    ) -> Iterator[SearchResult]:
        """Iterate over all results of a search, a page at a time."""
        cursor = None
        while True:
            page = self.search(
                q,
                role=role,
                agent_name=agent_name,
                model_id=model_id,
                session_id=session_id,
                since=since,
                until=until,
                limit=50,
                cursor=cursor,
            )
            for result in page.results:
                yield result
            cursor = page.next_cursor
            if cursor is None:
                return

    def usage(self, *, start_date: date | None = None, end_date: date | None = None) -> Usage:
        """Give totals and days; the last 30 days unless told otherwise, both ends included."""
        params = query(start_date=start_date, end_date=end_date)
        response = self._send("GET", "analytics/usage", params=params)
        return Usage.from_json(response.json())

    def agents_usage(
        self, *, start_date: date | None = None, end_date: date | None = None
    ) -> AgentsUsage:
        """Give what each agent was used for."""
        params = query(start_date=start_date, end_date=end_date)
        response = self._send("GET", "analytics/agents", params=params)
        return AgentsUsage.from_json(response.json())

    def models_usage(
        self, *, start_date: date | None = None, end_date: date | None = None
    ) -> ModelsUsage:
        """Give what each model was used for."""
        params = query(start_date=start_date, end_date=end_date)
        response = self._send("GET", "analytics/models", params=params)
        return ModelsUsage.from_json(response.json())

    def summary(self) -> Summary:
        """Give the totals of the last 30 days."""
        return Summary.from_json((self._send("GET", "analytics/summary")).json())

    def get_attachment(self, url: str) -> Attachment:
        """Give the bytes of an attachment, by its URL as a message gives it or by its SHA-256."""
        absolute = self._http.base_url.join(url if "/" in url else f"attachments/{url}")
        if absolute.netloc != self._http.base_url.netloc:
            raise ValueError(f"not an attachment of this service: {url}")
        response = self._send("GET", str(absolute))
        return Attachment(response.content, response.headers.get("Content-Type", "application/octet-stream"))

    def export(self, *, session_id: str | None = None) -> Iterator[Json]:
        """Iterate over all sessions with all their messages, oldest first, as they are streamed.

        A stream that breaks off raises httpx.TransportError; it is not resumed.
        """
        request = self._http.build_request("GET", "export", params=query(session_id=session_id))
        response = self._attempt(request, stream=True)
        try:
            if response.is_error:
                response.read()
                raise ProblemError.of(response)
            for line in response.iter_lines():
                if line:
                    yield httpx.Response(200, content=line).json()
        finally:
            response.close()

    # Requests

    def _delete(self, path: str, if_match: str | None) -> None:
        retries = Retries(time.monotonic() + self._retry_for)
        try:
            self._send("DELETE", path, headers=condition_headers(if_match=if_match), retries=retries)
        except NotFound:
            # An earlier attempt deleted it, and its response was lost.
            if not retries.attempts:
                raise

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        retries: Retries | None = None,
    ) -> httpx.Response:
        """Send a request until it succeeds or is refused. Raises ProblemError and httpx.TransportError."""
        retries = retries or Retries(time.monotonic() + self._retry_for)
        request = self._http.build_request(method, path, params=params, json=json, headers=headers)
        while True:
            outcome: httpx.Response | httpx.TransportError
            try:
                outcome = self._attempt(request)
                if outcome.is_success or outcome.status_code == httpx.codes.NOT_MODIFIED:
                    return outcome
            except httpx.TransportError as error:
                outcome = error
            pause = retries.pause(outcome, time.monotonic())
            if pause is None:
                raise ProblemError.of(outcome) if isinstance(outcome, httpx.Response) else outcome
            time.sleep(pause)

    def _attempt(self, request: httpx.Request, *, stream: bool = False) -> httpx.Response:
        """Send a request once, or twice where the first token has expired."""
        for _ in range(2):
            if self._token is not None:
                request.headers["Authorization"] = f"Bearer {self._bearer()}"
            response = self._http.send(request, stream=stream)
            if response.status_code != httpx.codes.UNAUTHORIZED or not callable(self._token):
                break
            response.read()
        return response

    def _bearer(self) -> str:
        token = self._token() if callable(self._token) else self._token or ""
        return token


def _message(response: httpx.Response) -> Message:
    return Message.from_json(response.json(), etag=response.headers.get("ETag"))
