"""Sessions whose messages exceed the limit of a response."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest
from conftest import serving
from pydantic_ai.conversation import Conversation
from pydantic_ai.messages import ModelRequest, UserPromptPart

from mai_sessions_client import AsyncClient, Client, Invalid
from mai_sessions_client.openai_agents import MaiSession
from mai_sessions_client.pydantic_ai import MaiConversationStore

TEXTS = [f"{number} {'x' * 600}" for number in range(12)]


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Where a service is whose responses hold three of these messages."""
    with serving(MAI_SESSIONS_MAX_RESPONSE="6000") as origin:
        yield origin


def test_messages_are_read_in_pages_that_fit(client: Client) -> None:
    session_id = client.create_session().id
    for text in TEXTS:
        client.append_message(session_id, "user", text)
    client.append_message(session_id, "assistant", "y" * 20_000)
    with pytest.raises(Invalid) as raised:
        client.get_session(session_id)
    assert raised.value.is_too_large
    assert [message.content for message in client.messages(session_id)] == [*TEXTS, "y" * 20_000]


def test_other_invalid_page_is_refused(client: Client) -> None:
    session_id = client.create_session().id
    with pytest.raises(Invalid) as raised:
        list(client.messages(session_id, head_id=str(uuid.uuid4())))
    assert not raised.value.is_too_large


def test_stores_of_agents_read_large_sessions(origin: str) -> None:
    async def use() -> None:
        async with AsyncClient(origin) as client:
            session = MaiSession("large", client)
            for text in TEXTS:
                await session.add_items([{"role": "user", "content": text}])
            for limit, expected in ((None, TEXTS), (10, TEXTS[-10:]), (1, TEXTS[-1:])):
                items = await session.get_items(limit)
                assert [item.get("content") for item in items] == expected

            store = MaiConversationStore(client)
            history = [ModelRequest([UserPromptPart(text)]) for text in TEXTS]
            await store.save(Conversation(conversation_id="large talk", messages=history))
            for limit, expected in ((None, TEXTS), (10, TEXTS[-10:])):
                loaded = await store.load("large talk", limit=limit)
                assert loaded
                assert [part.content for message in loaded.messages for part in message.parts] == expected

    asyncio.run(use())
