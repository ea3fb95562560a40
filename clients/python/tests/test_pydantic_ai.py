"""Pydantic AI's flows over its in-memory store and over the real service: the same results."""

import asyncio
import itertools
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from pydantic_ai import Agent, BinaryContent, DeferredToolRequests, DeferredToolResults
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationStore,
    InMemoryConversationStore,
)
from pydantic_ai.exceptions import UserError
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    TextPart,
    ToolCallPart,
    UserPromptPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from mai_sessions_client import AsyncClient, Client
from mai_sessions_client.pydantic_ai import MaiConversationStore

FILES = [
    BinaryContent(data=bytes(range(256)) * 8, media_type=media_type)
    for media_type in ("image/png", "application/pdf", "audio/wav", "text/plain")
]
Flow = Callable[[ConversationStore], Coroutine[Any, Any, None]]


def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Call the first tool once a turn, then count the questions."""
    last = messages[-1].parts[-1]
    questions = sum(isinstance(part, UserPromptPart) for message in messages for part in message.parts)
    if isinstance(last, UserPromptPart) and info.function_tools:
        return ModelResponse([ToolCallPart(info.function_tools[0].name, {}, f"call-{questions}")])
    return ModelResponse([TextPart(f"{questions} questions")])


agent = Agent(FunctionModel(respond, model_name="stub"))


@agent.tool_plain
def weather() -> str:
    return "rain"


careful = Agent(FunctionModel(respond, model_name="stub"), output_type=[str, DeferredToolRequests])


@careful.tool_plain(requires_approval=True)
def erase() -> str:
    return "erased"


def text_of(messages: list[ModelMessage]) -> list[str]:
    """What a conversation says, without its times and ids."""
    return [
        f"{type(part).__name__}: {getattr(part, 'content', getattr(part, 'tool_name', ''))}"
        for message in messages
        for part in message.parts
    ]


@pytest.fixture(params=["memory", "service"])
def both(request: pytest.FixtureRequest, origin: str, client: Client) -> Callable[[Flow], None]:
    """Run a flow over a store that begins empty."""

    def run(flow: Flow) -> None:
        async def with_store() -> None:
            if request.param == "memory":
                await flow(InMemoryConversationStore())
                return
            async with AsyncClient(origin) as asynchronous:
                await flow(MaiConversationStore(asynchronous, agent_name="weather"))

        asyncio.run(with_store())

    return run


async def turn(
    store: ConversationStore, conversation_id: str, prompt: str, *, scope: str | None = None
) -> str:
    conversation = await store.load(conversation_id, scope=scope) or Conversation(
        conversation_id=conversation_id
    )
    result = await agent.run(prompt, conversation=conversation)
    await store.save(result, scope=scope)
    return result.output


def test_turns_with_a_tool_are_loaded_as_they_were_saved(both: Callable[[Flow], None]) -> None:
    async def flow(store: ConversationStore) -> None:
        assert await store.load("chat") is None
        assert await turn(store, "chat", "Oslo?") == "1 questions"
        assert await turn(store, "chat", "And now?") == "2 questions"
        loaded = await store.load("chat")
        assert loaded is not None
        assert text_of(loaded.messages) == [
            "UserPromptPart: Oslo?",
            "ToolCallPart: weather",
            "ToolReturnPart: rain",
            "TextPart: 1 questions",
            "UserPromptPart: And now?",
            "ToolCallPart: weather",
            "ToolReturnPart: rain",
            "TextPart: 2 questions",
        ]
        assert loaded.usage.requests == 4
        entries = await store.load_entries("chat")
        assert entries is not None
        assert [entry.parent_id for entry in entries] == [None, *(entry.id for entry in entries[:-1])]
        window = await store.load("chat", limit=2)
        assert window is not None
        assert text_of(window.messages) == text_of(loaded.messages)[-2:]
        assert (await store.read_entry(entries[3].id)).message == entries[3].message

    both(flow)


def test_deferred_approval_survives_a_restart(both: Callable[[Flow], None]) -> None:
    async def flow(store: ConversationStore) -> None:
        result = await careful.run("Erase it", conversation=Conversation(conversation_id="careful"))
        await store.save(result)
        if isinstance(store, MaiConversationStore):
            store = MaiConversationStore(store._client)
        paused = await store.load("careful")
        assert paused is not None
        assert paused.deferred_tool_requests is not None
        (call,) = paused.deferred_tool_requests.approvals
        results = DeferredToolResults(approvals={call.tool_call_id: True})
        resumed = await careful.run(conversation=paused, deferred_tool_results=results)
        assert resumed.output == "1 questions"
        await store.save(resumed)
        done = await store.load("careful")
        assert done is not None
        assert done.deferred_tool_requests is None
        assert "ToolReturnPart: erased" in text_of(done.messages)

    both(flow)


def test_branch_is_left_and_selected_again(both: Callable[[Flow], None]) -> None:
    async def flow(store: ConversationStore) -> None:
        await turn(store, "chat", "First")
        await turn(store, "chat", "Second")
        before = await store.load("chat")
        left = await store.load_entries("chat")
        assert before is not None
        assert left is not None
        branched = await store.branch("chat", at=4, expected_revision=before.revision)
        result = await agent.run("Instead", conversation=branched)
        await store.save(result)
        now = await store.load("chat")
        assert now is not None
        assert [text for text in text_of(now.messages) if "Prompt" in text] == [
            "UserPromptPart: First", "UserPromptPart: Instead",
        ]  # fmt: skip
        (record,) = await store.list_conversations()
        assert record.branches == [left[-1].id]
        await store.branch("chat", from_entry=left[-1].id, expected_revision=now.revision)
        back = await store.load("chat")
        assert back is not None
        assert back.messages == before.messages
        emptied = await store.branch("chat", at=0, expected_revision=back.revision)
        assert emptied.messages == []
        assert await turn(store, "chat", "From the start") == "1 questions"

    both(flow)


def test_fork_shares_history_and_outlives_its_source(both: Callable[[Flow], None]) -> None:
    async def flow(store: ConversationStore) -> None:
        await turn(store, "source", "Shared")
        source = await store.load_entries("source")
        fork = await store.fork("source", new_conversation_id="fork")
        assert source is not None
        assert [entry.id for entry in await store.load_entries("fork") or []] == [
            entry.id for entry in source
        ]
        await store.save(await agent.run("Only here", conversation=fork))
        assert len((await store.load("source") or fork).messages) == 4
        with pytest.raises(ConversationConflict):
            await store.fork("source", new_conversation_id="fork")
        await store.delete("source")
        assert await store.load("source") is None
        kept = await store.load("fork")
        assert kept is not None
        assert len(kept.messages) == 8
        assert (await store.list_conversations())[0].forked_from == "source"

    both(flow)


def test_concurrent_saves_raise_one_conflict(both: Callable[[Flow], None]) -> None:
    async def flow(store: ConversationStore) -> None:
        await turn(store, "chat", "First")
        loaded = [await store.load("chat") for _ in range(2)]
        results = [await agent.run("Second", conversation=conversation) for conversation in loaded]
        outcomes = await asyncio.gather(*(store.save(result) for result in results), return_exceptions=True)
        assert sum(isinstance(outcome, ConversationConflict) for outcome in outcomes) == 1
        now = await store.load("chat")
        assert now is not None
        assert len(now.messages) == 8
        with pytest.raises(ConversationConflict):
            await store.save(Conversation(conversation_id="chat", messages=[]))

    both(flow)


def test_scope_hides_conversations_of_other_scopes(both: Callable[[Flow], None]) -> None:
    async def flow(store: ConversationStore) -> None:
        await turn(store, "a", "x", scope="ann")
        await turn(store, "b", "x", scope="bob")
        await turn(store, "c", "x")
        await turn(store, "a", "y", scope="ann")
        assert await store.load("a", scope="bob") is None
        await store.delete("a", scope="bob")
        assert [record.conversation_id for record in await store.list_conversations()] == ["a", "c", "b"]
        assert [record.conversation_id for record in await store.list_conversations(limit=1)] == ["a"]
        assert [record.conversation_id for record in await store.list_conversations(scope="bob")] == ["b"]
        with pytest.raises(UserError):
            await store.branch("a", at=0, expected_revision=None, scope="bob")

    both(flow)


def test_history_of_251_messages_with_files_is_loaded_as_it_was_saved(both: Callable[[Flow], None]) -> None:
    async def flow(store: ConversationStore) -> None:
        messages: list[ModelMessage] = [ModelRequest([UserPromptPart(["See", *FILES])])]
        for number in range(125):
            messages += [ModelResponse([TextPart(str(number))]), ModelRequest([UserPromptPart(str(number))])]
        await store.save(Conversation(conversation_id="long", messages=messages))
        loaded = await store.load("long")
        assert loaded is not None
        # An image is another class once Pydantic AI has read it from JSON, so the JSON is compared.
        assert ModelMessagesTypeAdapter.dump_json(loaded.messages) == ModelMessagesTypeAdapter.dump_json(
            messages
        )

    both(flow)


def test_changed_title_does_not_conflict_with_a_save(origin: str, client: Client) -> None:
    async def flow() -> None:
        async with AsyncClient(origin) as asynchronous:
            store = MaiConversationStore(asynchronous)
            await turn(store, "chat", "What is it?")
            (session,) = list(client.sessions())
            assert (session.title, session.message_count) == ("What is it?", 4)
            client.update_session(session.id, title="Renamed")
            await turn(store, "chat", "Still?")
            assert [message.content for message in client.messages(session.id)][:2] == ["What is it?", ""]
            assert client.get_session(session.id).title == "Renamed"

    asyncio.run(flow())


def test_killed_save_leaves_the_conversation_as_it_was(origin: str, client: Client) -> None:
    """A save of more than one batch that ends after the first."""

    class Killed(Exception):
        pass

    async def flow() -> None:
        async with AsyncClient(origin) as asynchronous:
            store = MaiConversationStore(asynchronous)
            await turn(store, "chat", "First")
            before = await store.load("chat")
            assert before is not None
            append, calls = asynchronous.append_messages, itertools.count()

            async def append_once(*args: Any, **kwargs: Any) -> Any:
                if next(calls):
                    raise Killed
                return await append(*args, **kwargs)

            # The save is cut off between two requests.
            asynchronous.append_messages = append_once  # type: ignore[method-assign]
            more: list[ModelMessage] = [ModelResponse([TextPart(str(number))]) for number in range(150)]
            longer = Conversation(
                conversation_id="chat", messages=[*before.messages, *more], revision=before.revision
            )
            with pytest.raises(Killed):
                await store.save(longer)
            asynchronous.append_messages = append  # type: ignore[method-assign]
            now = await store.load("chat")
            assert now is not None
            assert (now.messages, now.revision) == (before.messages, before.revision)
            assert await turn(store, "chat", "Second") == "2 questions"

    asyncio.run(flow())
