"""A conversation store for Pydantic AI; needs the extra `pydantic-ai`.

A conversation is stored as a session whose metadata hold the record, an entry as a message whose `parts` hold
the message of Pydantic AI. Role and text serve people, the list and the search.
"""

import base64
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

import pydantic
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    UserPromptPart,
)

from mai_sessions_client._async import AsyncClient
from mai_sessions_client._attachments import data_url_pointers, with_bytes
from mai_sessions_client._newest import newest_messages
from mai_sessions_client.bodies import NewMessage, SessionChanges
from mai_sessions_client.errors import Invalid, NotFound, Stale
from mai_sessions_client.models import Message, Role, Session

_MEMBER = "pydantic_ai"
_PART = "pydantic_ai_message"
_BATCH = 100
_TITLE = 80
_REMEMBERED = 10_000
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://ai.pydantic.dev/conversations")

_RECORD = pydantic.TypeAdapter(ConversationRecord)


class MaiConversationStore(ConversationStore):
    """A `ConversationStore`: `await store.load(id)`, run the agent, `await store.save(result)`.

    A conversation id that is not a UUID is stored in the metadata of a session whose id is derived from it.
    Up to 100 new messages are stored together with the record or not at all. A fork copies the messages that
    it shares. Deleting a conversation deletes its messages. The record, including the tool calls that a run
    waits for, is limited to 16 KiB. `read_entry` finds entries of the conversations that this store has read.
    """

    def __init__(self, client: AsyncClient, *, agent_name: str | None = None) -> None:
        self._client = client
        self._agent_name = agent_name
        # `read_entry` gets no conversation id, so this maps each entry that was read to its session.
        self._session_ids: OrderedDict[str, str] = OrderedDict()

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation, or None."""
        return self._record(await self._session(conversation_id))

    async def read_records(
        self, *, scope: str | None = None, limit: int | None = None
    ) -> Sequence[ConversationRecord]:
        """Return the records, of a scope if one is given, newest first."""
        wanted = {"format_version": 1} if scope is None else {"scope": scope}
        sessions = self._client.sessions(archived="any", metadata={_MEMBER: wanted})
        records = [record async for session in sessions if (record := self._record(session))]
        records.sort(key=lambda record: record.updated_at, reverse=True)
        return records[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and its new entries. Raises ConversationConflict."""
        while True:
            session = await self._session(record.conversation_id)
            stored = self._record(session)
            if (stored.revision if stored else None) != expected_revision:
                raise ConversationConflict(record.conversation_id)
            entries = [*await self._shared_entries(record, stored, new_entries), *new_entries]
            try:
                await self._write(session, record, [_message_of(entry) for entry in entries])
            except Stale:
                # Only another save is a conflict. A changed title is none; the revision tells them apart.
                continue
            self._remember(_uuid_of(record.conversation_id), (entry.id for entry in entries))
            return

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation and its messages. Raises ConversationConflict."""
        while True:
            session = await self._session(conversation_id)
            stored = self._record(session)
            if session is None or stored is None or stored.revision != expected_revision:
                raise ConversationConflict(conversation_id)
            try:
                await self._client.delete_session(session.id, if_match=session.etag)
            except NotFound:
                raise ConversationConflict(conversation_id) from None
            except Stale:
                continue
            return

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry. Raises LookupError."""
        try:
            message = await self._client.get_message(self._session_ids[entry_id], entry_id)
        except NotFound:
            raise LookupError(entry_id) from None
        return await self._entry(message)

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """Return the entries up to `head_id`, or the newest `limit`, oldest first. Raises LookupError."""
        if head_id is None or limit == 0:
            return []
        session_id = self._session_ids[head_id]
        try:
            messages = await newest_messages(self._client, session_id, limit, head_id=head_id)
        except (NotFound, Invalid):
            raise LookupError(head_id) from None
        entries = [await self._entry(message) for message in messages]
        self._remember(session_id, (entry.id for entry in entries))
        return entries

    async def _session(self, conversation_id: str) -> Session | None:
        try:
            return await self._client.get_session(_uuid_of(conversation_id), messages_limit=0)
        except NotFound:
            return None

    def _record(self, session: Session | None) -> ConversationRecord | None:
        if session is None or _MEMBER not in session.metadata:
            return None
        record = _RECORD.validate_python(session.metadata[_MEMBER])
        self._remember(session.id, [*([record.head_id] if record.head_id else []), *record.branches])
        return record

    def _remember(self, session_id: str, entry_ids: Iterable[str]) -> None:
        for entry_id in entry_ids:
            self._session_ids[entry_id] = session_id
            self._session_ids.move_to_end(entry_id)
        while len(self._session_ids) > _REMEMBERED:
            self._session_ids.popitem(last=False)

    async def _shared_entries(
        self,
        record: ConversationRecord,
        stored: ConversationRecord | None,
        new_entries: Sequence[ConversationEntry],
    ) -> list[ConversationEntry]:
        """Return the entries that a new fork shares with its source. Raises ConversationConflict."""
        if record.head_id is None or any(entry.id == record.head_id for entry in new_entries):
            return []
        if stored is not None and record.head_id in (stored.head_id, *stored.branches):
            return []
        try:
            history = await self.read_history(record.head_id)
        except LookupError:
            raise ConversationConflict(record.conversation_id) from None
        return [] if stored else history

    async def _write(
        self, session: Session | None, record: ConversationRecord, messages: list[NewMessage]
    ) -> None:
        """Write the messages, then the record. Raises Stale if the session has changed since it was read."""
        session_id = _uuid_of(record.conversation_id)
        metadata = {_MEMBER: _RECORD.dump_python(record, mode="json")}
        if session is None:
            fits = len(messages) <= _BATCH
            session = await self._client.create_session(
                id=session_id,
                title=_title(messages),
                agent_name=self._agent_name,
                metadata=metadata if fits else None,
                messages=messages if fits else None,
                head_id=record.head_id if messages and fits else None,
                only_new=True,
            )
            if fits:
                return
        etag = session.etag
        while len(messages) > _BATCH:
            appended = await self._client.append_messages(session_id, messages[:_BATCH], if_match=etag)
            etag, messages = appended.session.etag, messages[_BATCH:]
        changes: SessionChanges = {"metadata": metadata}
        if record.head_id:
            changes["head_id"] = record.head_id
        if messages:
            await self._client.append_messages(session_id, messages, session=changes, if_match=etag)
        else:
            # Metadata alone would not move the session up the list; the title does.
            await self._client.update_session(
                session_id, title=session.title, metadata=metadata, head_id=record.head_id, if_match=etag
            )

    async def _entry(self, message: Message) -> ConversationEntry:
        """Return the entry of a message. Raises LookupError if another client added the message."""
        part = next((part for part in message.parts or [] if part.get("type") == _PART), None)
        if part is None:
            raise LookupError(f"message {message.id} was not stored by Pydantic AI")
        files = message.metadata.get("files", ())
        value = _binaries_restored(await with_bytes(self._client, part["message"], files))
        (stored,) = ModelMessagesTypeAdapter.validate_json(pydantic.TypeAdapter(Any).dump_json([value]))
        return ConversationEntry(id=message.id, parent_id=message.parent_id, message=stored)


def _uuid_of(conversation_id: str) -> str:
    try:
        return str(uuid.UUID(conversation_id))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, conversation_id))


def _message_of(entry: ConversationEntry) -> NewMessage:
    message = entry.message
    (value,) = ModelMessagesTypeAdapter.dump_python([message], mode="json")
    linked = _binaries_linked(value)
    new: NewMessage = {
        "id": entry.id,
        "parent_id": entry.parent_id,
        "role": _role(message),
        "content": _text(message),
        "parts": [{"type": _PART, "message": linked}],
        "metadata": {"files": data_url_pointers(linked)},
    }
    if isinstance(message, ModelResponse):
        new["model_id"] = message.model_name
    return new


def _role(message: ModelMessage) -> Role:
    if isinstance(message, ModelResponse):
        return "assistant"
    if any(isinstance(part, UserPromptPart) for part in message.parts):
        return "user"
    return "system" if all(isinstance(part, SystemPromptPart) for part in message.parts) else "tool"


def _text(message: ModelMessage) -> str:
    """Return the text of a message for people."""
    texts: list[str] = []
    for part in message.parts:
        if isinstance(part, TextPart):
            texts.append(part.content)
        elif isinstance(part, UserPromptPart):
            content = [part.content] if isinstance(part.content, str) else part.content
            texts += [item for item in content if isinstance(item, str)]
    return "\n\n".join(texts)


def _title(messages: Iterable[NewMessage]) -> str | None:
    """Return the beginning of the first question, or None."""
    first = next((message["content"] for message in messages if message["role"] == "user"), "")
    return " ".join(first.split())[:_TITLE] or None


def _binaries_linked(value: Any) -> Any:
    """Return the JSON of a message with files as data URLs, which the service stores as attachments."""
    if isinstance(value, list):
        return [_binaries_linked(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("kind") == "binary" and isinstance(value.get("data"), str):
        data = base64.b64encode(base64.urlsafe_b64decode(value["data"])).decode()
        return {**value, "data": f"data:{value.get('media_type')};base64,{data}"}
    return {key: _binaries_linked(item) for key, item in value.items()}


def _binaries_restored(value: Any) -> Any:
    """Undo `_binaries_linked`. Raises LookupError."""
    if isinstance(value, list):
        return [_binaries_restored(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("kind") == "binary" and isinstance(value.get("data"), str):
        if not value["data"].startswith("data:"):
            raise LookupError(f"no attachment {value['data']}")
        data = base64.b64decode(value["data"].partition(",")[2])
        return {**value, "data": base64.urlsafe_b64encode(data).decode()}
    return {key: _binaries_restored(item) for key, item in value.items()}
