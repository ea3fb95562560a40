"""A session for the OpenAI Agents SDK; needs the extra `openai-agents`.

Each item is stored as a message: `parts` hold the item of the SDK, the metadata mark it, and role and text
serve people, the list and the search. A message that a chat page or another framework wrote is read by its
role and text.
"""

import uuid
from collections.abc import Mapping
from typing import Any, cast

from agents.items import TResponseInputItem
from agents.memory.session import SessionABC
from agents.memory.session_settings import SessionSettings, resolve_session_limit

from mai_sessions_client._async import AsyncClient
from mai_sessions_client._attachments import data_url_pointers, with_bytes
from mai_sessions_client._newest import newest_messages
from mai_sessions_client.bodies import NewMessage
from mai_sessions_client.errors import NotFound
from mai_sessions_client.models import Message, Role

_BATCH = 100
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://openai.github.io/openai-agents-python/sessions")
# The metadata of a message whose part is an item. `files` holds the JSON pointers of its data URLs.
_MARK = {"format": "openai-agents"}
_ROLES: dict[str, Role] = {"user": "user", "system": "system", "developer": "system"}


class MaiSession(SessionABC):
    """A session of the SDK's `Runner`: `Runner.run(agent, "Hi", session=MaiSession("support-42", client))`.

    A `session_id` that is not a UUID is stored in the metadata of a session whose id is derived from it. The
    first items create the session. Up to 100 items that are added together are stored together or not at all.
    """

    def __init__(
        self,
        session_id: str,
        client: AsyncClient,
        *,
        title: str | None = None,
        agent_name: str | None = None,
        session_settings: SessionSettings | None = None,
    ) -> None:
        self.session_id = session_id
        self.session_settings = session_settings or SessionSettings()
        self._client = client
        self._title = title
        self._agent_name = agent_name
        self._id = _uuid_of(session_id)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """Return the newest `limit` items, or all, oldest first."""
        limit = resolve_session_limit(limit, self.session_settings)
        try:
            messages = await newest_messages(self._client, self._id, limit)
        except NotFound:
            return []
        items = [(message, item) for message in messages for item in _items_of(message)]
        newest = items if limit is None else items[max(0, len(items) - limit) :]
        return [await self._item(message, item) for message, item in newest]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Append items, in requests of up to 100."""
        added = [_message_of(item) for item in items]
        for start in range(0, len(added), _BATCH):
            messages = added[start : start + _BATCH]
            try:
                await self._client.append_messages(self._id, messages)
            except NotFound:
                await self._create(messages)

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove and return the newest item, or return None if there is none."""
        while True:
            newest = await self._newest()
            if newest is None:
                return None
            try:
                await self._client.delete_message(self._id, newest.id)
            except NotFound:
                # Another process removed it first.
                continue
            if items := _items_of(newest):
                return await self._item(newest, items[-1])

    async def clear_session(self) -> None:
        """Remove all items."""
        try:
            await self._client.clear_messages(self._id)
        except NotFound:
            return

    async def _create(self, messages: list[NewMessage]) -> None:
        metadata = {"openai_agents": {"session_id": self.session_id}} if self._id != self.session_id else None
        created = await self._client.create_session(
            id=self._id, title=self._title, agent_name=self._agent_name, metadata=metadata, messages=messages
        )
        # Another process may have created it first, with items of its own.
        if messages and not any(message.id == messages[0]["id"] for message in created.messages):
            await self._client.append_messages(self._id, messages)

    async def _newest(self) -> Message | None:
        try:
            session = await self._client.get_session(self._id, messages_limit=1)
        except NotFound:
            return None
        return session.messages[-1] if session.messages else None

    async def _item(self, message: Message, part: Mapping[str, Any]) -> TResponseInputItem:
        files = message.metadata.get("files", ())
        return cast(TResponseInputItem, await with_bytes(self._client, part, files))


def _uuid_of(session_id: str) -> str:
    try:
        return str(uuid.UUID(session_id))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, session_id))


def _message_of(item: TResponseInputItem) -> NewMessage:
    """Return the message of an item. Its id makes a repeated request store it once."""
    value = cast(dict[str, Any], item)
    kind = value.get("type", "message")
    role = _ROLES.get(value.get("role", ""), "assistant")
    if str(kind).endswith("_output"):
        role = "tool"
    return {
        "id": str(uuid.uuid4()),
        "role": role,
        "content": _text(value),
        "parts": [value],
        "metadata": {**_MARK, "files": data_url_pointers(value)},
    }


def _items_of(message: Message) -> list[Mapping[str, Any]]:
    """Return the items of a message. A message from elsewhere gives its text, or nothing."""
    if message.metadata.items() >= _MARK.items():
        return list(message.parts or [])
    if message.role == "tool" or not message.content:
        return []
    return [{"role": message.role, "content": message.content}]


def _text(item: Mapping[str, Any]) -> str:
    """Return the text of an item for people."""
    content = item.get("content", item.get("output", ""))
    if isinstance(content, str):
        return content
    pieces = [piece.get("text") for piece in content or [] if isinstance(piece, Mapping)]
    return "\n\n".join(piece for piece in pieces if isinstance(piece, str) and piece)
