"""The OpenAI Agents SDK over the real service, with a stub model."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from agents import Agent, Model, ModelResponse, Runner, Usage, function_tool, set_tracing_disabled
from agents.memory import SQLiteSession
from agents.memory.session import Session
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from mai_sessions_client import AsyncClient, Client
from mai_sessions_client.openai_agents import MaiSession

set_tracing_disabled(True)

DATA = base64.b64encode(bytes(range(256)) * 8).decode()


def run(origin: str, use: Callable[[AsyncClient], Coroutine[Any, Any, None]]) -> None:
    async def with_client() -> None:
        async with AsyncClient(origin) as client:
            await use(client)

    asyncio.run(with_client())


def question(text: str) -> Any:
    return {"role": "user", "content": text}


class StubModel(Model):
    """Call the tool, then repeat its output."""

    async def get_response(self, *args: Any, **kwargs: Any) -> ModelResponse:
        items = kwargs.get("input", args[1] if len(args) > 1 else [])
        last = items[-1] if isinstance(items, list) else {}
        output: Any
        if last.get("type") == "function_call_output":
            text = ResponseOutputText(type="output_text", text=f"It is {last['output']}.", annotations=[])
            output = ResponseOutputMessage(
                id="msg_1", type="message", role="assistant", status="completed", content=[text]
            )
        else:
            output = ResponseFunctionToolCall(
                type="function_call", name="weather", call_id=f"call_{len(items)}", arguments="{}"
            )
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """No runner streams here."""
        raise NotImplementedError


def test_items_are_added_together_or_not_at_all(origin: str, client: Client) -> None:
    async def use(asynchronous: AsyncClient) -> None:
        session = MaiSession("support-42", asynchronous, title="Support", agent_name="support")
        assert isinstance(session, Session)
        assert await session.get_items() == []
        items = [question(str(number)) for number in range(20)]
        await session.add_items(items)
        assert await session.get_items() == items
        assert await session.get_items(3) == items[-3:]
        (stored,) = list(client.sessions())
        assert (stored.title, stored.message_count) == ("Support", 20)
        assert stored.metadata == {"openai_agents": {"session_id": "support-42"}}
        with pytest.raises(Exception, match="422"):
            await session.add_items([*items, question("\0")])
        assert await session.get_items() == items

    run(origin, use)


def test_items_of_several_batches_keep_their_order(origin: str, client: Client) -> None:
    async def use(asynchronous: AsyncClient) -> None:
        session = MaiSession(str(uuid.uuid4()), asynchronous)
        items = [question(str(number)) for number in range(250)]
        await session.add_items(items)
        assert await session.get_items() == items

    run(origin, use)


def test_messages_of_others_are_read_by_role_and_text(origin: str, client: Client) -> None:
    async def use(asynchronous: AsyncClient) -> None:
        session_id = str(uuid.uuid4())
        session = MaiSession(session_id, asynchronous)
        await session.add_items([question("mine")])
        foreign = [{"type": "text", "text": "typed"}, {"type": "file", "url": "https://example.org/a.pdf"}]
        client.append_message(session_id, role="user", content="typed", parts=foreign)
        client.append_message(session_id, role="assistant", content="answered")
        client.append_message(session_id, role="tool", content="", parts=[{"type": "tool_result"}])
        answer = {"role": "assistant", "content": "answered"}
        assert await session.get_items() == [question("mine"), question("typed"), answer]
        assert await session.pop_item() == answer
        assert await session.get_items() == [question("mine"), question("typed")]

    run(origin, use)


def test_concurrent_pops_return_each_item_once(origin: str, client: Client) -> None:
    async def use(asynchronous: AsyncClient) -> None:
        session = MaiSession("popped", asynchronous)
        await session.add_items([question(str(number)) for number in range(6)])
        assert await session.pop_item() == question("5")
        popped = await asyncio.gather(*(session.pop_item() for _ in range(5)))
        # Not every kind of item has a content, but these have.
        assert sorted(item["content"] for item in popped if item) == ["0", "1", "2", "3", "4"]  # type: ignore[typeddict-item]
        assert await session.pop_item() is None
        await session.add_items([question("again")])
        await session.clear_session()
        assert await session.get_items() == []

    run(origin, use)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_image", "image_url": f"data:image/png;base64,{DATA}", "detail": "auto"},
        {"type": "input_image", "image_url": "data:image/png;base64,iVBORw0KGgo=", "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": f"data:application/pdf;base64,{DATA}"},
        {"type": "input_file", "filename": "a.txt", "file_data": f"data:text/plain;base64,{DATA}"},
        {"type": "input_text", "text": f"/api/v1/attachments/{'0' * 64}"},
        {"type": "input_text", "text": f"https://other.example/api/v1/attachments/{'0' * 64}"},
    ],
    ids=["picture", "small picture", "pdf", "text file", "link to nothing", "link to another service"],
)
def test_item_with_a_file_or_link_is_returned_as_it_was_added(
    origin: str, client: Client, part: dict[str, str]
) -> None:
    async def use(asynchronous: AsyncClient) -> None:
        session = MaiSession("files", asynchronous)
        item: Any = {"role": "user", "content": [part]}
        await session.add_items([item])
        assert await session.get_items() == [item]

    run(origin, use)


def test_text_that_is_a_link_to_an_attachment_of_the_user_stays_text(origin: str, client: Client) -> None:
    async def use(asynchronous: AsyncClient) -> None:
        session = MaiSession("quoted", asynchronous)
        url = f"data:application/pdf;base64,{DATA}"
        await session.add_items([{"role": "user", "content": [{"type": "input_file", "file_data": url}]}])
        [message] = (await asynchronous.get_session(session._id)).messages
        assert message.parts
        link = message.parts[0]["content"][0]["file_data"]
        mixed: Any = {
            "role": "user",
            "content": [{"type": "input_text", "text": link}, {"type": "input_file", "file_data": url}],
        }
        await session.add_items([mixed])
        assert (await session.get_items())[-1] == mixed

    run(origin, use)


def test_concurrent_first_items_are_all_stored(origin: str, client: Client) -> None:
    async def use(asynchronous: AsyncClient) -> None:
        writers = [MaiSession("raced", asynchronous) for _ in range(4)]
        await asyncio.gather(*(writer.add_items([question(str(n))]) for n, writer in enumerate(writers)))
        found = await writers[0].get_items()
        # Not every kind of item has a content, but these have.
        assert sorted(str(item["content"]) for item in found) == ["0", "1", "2", "3"]  # type: ignore[typeddict-item]

    run(origin, use)


def test_runner_reads_the_same_turns_as_with_sqlite_session(origin: str, client: Client) -> None:
    async def use(asynchronous: AsyncClient) -> None:
        agent = Agent(
            name="weather", model=StubModel(), tools=[function_tool(lambda: "rain", name_override="weather")]
        )
        stored, reference = MaiSession("runner", asynchronous), SQLiteSession("runner")
        for text in ("Oslo?", "And now?"):
            results = [await Runner.run(agent, text, session=session) for session in (stored, reference)]
            assert results[0].final_output == results[1].final_output == "It is rain."
        assert await stored.get_items() == await reference.get_items()
        reference.close()

    run(origin, use)
