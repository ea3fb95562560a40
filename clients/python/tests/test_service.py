"""Every call against the real service."""

import asyncio
import base64
import uuid
from datetime import UTC, date, datetime, timedelta

import pytest

from mai_sessions_client import AsyncClient, Client, Invalid, NewMessage, NotFound, Stale

GIF = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


def test_sessions_are_created_read_changed_and_deleted(client: Client) -> None:
    created = client.create_session(title="Cats", agent_name="coder", model_id="m", metadata={"a": 1, "b": 2})
    assert (created.title, created.agent_name, created.model_id) == ("Cats", "coder", "m")
    assert created.created_at.tzinfo is not None
    changed = client.update_session(created.id, title="Dogs", model_id=None, metadata={"b": None, "c": 3})
    assert (changed.title, changed.model_id, changed.metadata) == ("Dogs", None, {"a": 1, "c": 3})
    client.update_session(created.id, archived=True)
    assert client.list_sessions().total == 0
    assert [session.id for session in client.sessions(archived=True)] == [created.id]
    assert [session.id for session in client.sessions(archived="any", metadata={"c": 3})] == [created.id]
    client.delete_session(created.id)
    with pytest.raises(NotFound) as error:
        client.get_session(created.id)
    assert error.value.detail == "Session not found"


def test_iteration_covers_all_pages(client: Client) -> None:
    ids = [client.create_session(title=f"s{number}").id for number in range(105)]
    assert [session.id for session in client.sessions()] == ids[::-1]
    session = client.create_session()
    for start in range(0, 250, 50):
        client.append_messages(session.id, [{"role": "user", "content": str(start + n)} for n in range(50)])
    assert [message.content for message in client.messages(session.id)] == [str(n) for n in range(250)]
    done = client.batch_sessions(ids, "delete")
    assert (done.done, done.not_found) == (ids, [])
    assert client.batch_sessions(ids[:1], "archive").not_found == ids[:1]


def test_messages_are_appended_read_changed_and_deleted(client: Client) -> None:
    session = client.create_session()
    created_at = datetime(2020, 2, 2, tzinfo=UTC)
    message = client.append_message(
        session.id,
        "user",
        "Look",
        images=[GIF],
        documents=["a.pdf"],
        metadata={"x": 1},
        parts=[{"type": "text", "text": "Look"}],
        created_at=created_at,
    )
    assert (message.created_at, message.documents, message.metadata) == (created_at, ["a.pdf"], {"x": 1})
    assert message.parts == [{"type": "text", "text": "Look"}]
    attachment = client.get_attachment(message.images[0])
    assert (attachment.content, attachment.content_type) == (GIF, "image/gif")
    read = client.get_message(session.id, message.id)
    assert read.etag
    changed = client.update_message(
        session.id, message.id, content="Saw", metadata={"x": None}, if_match=read.etag
    )
    assert (changed.content, changed.metadata) == ("Saw", {})
    with pytest.raises(Stale):
        client.update_message(session.id, message.id, content="Seen", if_match=read.etag)
    client.delete_message(session.id, message.id)
    with pytest.raises(NotFound):
        client.get_message(session.id, message.id)
    client.append_message(session.id, "assistant", "More")
    client.clear_messages(session.id)
    assert client.get_session(session.id).messages == []


def test_branches_are_made_and_read_with_ids_of_the_client(client: Client) -> None:
    session = client.create_session()
    question = client.append_message(session.id, "user", "Q")
    first = client.append_message(session.id, "assistant", "A1", id=str(uuid.uuid4()))
    second = client.append_message(session.id, "assistant", "A2", parent_id=question.id)
    other = client.append_message(session.id, "user", "Another first", parent_id=None)
    assert (first.parent_id, second.parent_id, other.parent_id) == (question.id, question.id, None)
    client.update_session(session.id, head_id=second.id)
    assert [message.content for message in client.list_messages(session.id)] == ["Q", "A2"]
    assert [message.content for message in client.messages(session.id, head_id=first.id)] == ["Q", "A1"]
    detail = client.get_session(session.id, all_branches=True)
    assert [message.content for message in detail.messages] == ["Q", "A1", "A2", "Another first"]


def test_batch_is_stored_under_a_condition_or_not_at_all(client: Client) -> None:
    session = client.create_session()
    stored = client.append_messages(
        session.id, [{"role": "user", "content": "1"}, {"role": "tool", "content": "2"}]
    )
    assert ([message.seq for message in stored.messages], stored.session.message_count) == ([1, 2], 2)
    with pytest.raises(Stale):
        client.append_messages(session.id, [{"role": "user", "content": "3"}], if_match=session.etag)
    with pytest.raises(Invalid) as error:
        client.append_messages(
            session.id, [{"role": "user", "content": "3"}, {"role": "user", "content": "\0"}]
        )
    assert error.value.errors
    assert client.get_session(session.id).message_count == 2


def test_session_is_created_with_its_messages_or_not_at_all(client: Client) -> None:
    session_id, question, first, second = (str(uuid.uuid4()) for _ in range(4))
    messages: list[NewMessage] = [
        {"id": question, "role": "user", "content": "Q", "images": [GIF], "parent_id": None},
        {"id": first, "role": "assistant", "content": "A1", "parent_id": question},
        {"id": second, "role": "assistant", "content": "A2", "parent_id": question},
    ]
    with pytest.raises(Invalid):
        client.create_session(id=session_id, messages=[*messages, {"role": "user", "content": "\0"}])
    with pytest.raises(NotFound):
        client.get_session(session_id)
    created = client.create_session(id=session_id, title="Cats", messages=messages, head_id=first)
    assert (created.id, created.title, created.message_count) == (session_id, "Cats", 3)
    assert [message.id for message in created.messages] == [question, first]
    assert client.get_attachment(created.messages[0].images[0]).content == GIF
    repeated = client.create_session(id=session_id, messages=[{"role": "user", "content": "Another"}])
    assert (repeated.etag, repeated.message_count) == (created.etag, 3)


def test_batch_changes_its_session_or_stores_nothing(client: Client) -> None:
    session = client.create_session(metadata={"a": 1, "b": 2})
    first = str(uuid.uuid4())
    messages: list[NewMessage] = [
        {"id": first, "role": "user", "content": "1"},
        {"role": "assistant", "content": "2"},
    ]
    with pytest.raises(Invalid):
        client.append_messages(session.id, messages, session={"title": "\0"})
    assert client.get_session(session.id).etag == session.etag
    stored = client.append_messages(
        session.id,
        messages,
        session={
            "title": "Cats",
            "agent_name": "coder",
            "model_id": "m",
            "metadata": {"b": None, "c": 3},
            "archived": True,
            "head_id": first,
        },
        if_match=session.etag,
    )
    changed = stored.session
    assert (changed.title, changed.agent_name, changed.model_id) == ("Cats", "coder", "m")
    assert (changed.metadata, changed.archived) == ({"a": 1, "c": 3}, True)
    read = client.get_session(session.id)
    assert (read.etag, [message.id for message in read.messages]) == (changed.etag, [first])


def test_session_that_has_not_changed_is_not_read_again(client: Client) -> None:
    session = client.get_session(client.create_session().id)
    assert client.get_session(session.id, known=session) is session
    client.append_message(session.id, "user", "x")
    assert client.get_session(session.id, known=session).message_count == 1


def test_pages_and_messages_that_have_not_changed_are_not_read_again(client: Client) -> None:
    session = client.create_session()
    first = client.append_message(session.id, "user", "1")
    client.append_message(session.id, "assistant", "2")
    sessions, message = client.list_sessions(), client.get_message(session.id, first.id)
    page = client.list_messages(session.id, limit=1)
    assert (page.has_older, page.has_newer) == (False, True)
    assert client.list_messages(session.id, max_tokens=1).has_older
    assert client.list_sessions(known=sessions) is sessions
    assert client.list_messages(session.id, limit=1, known=page) is page
    assert client.get_message(session.id, first.id, known=message) is message
    client.update_message(session.id, first.id, content="one")
    assert client.list_sessions(known=sessions) is not sessions
    assert client.list_messages(session.id, limit=1, known=page)[0].content == "one"
    assert client.get_message(session.id, first.id, known=message).content == "one"
    empty_id = client.create_session().id
    empty = client.list_messages(empty_id)
    assert client.list_messages(empty_id, known=empty) is empty


def test_part_of_an_attachment_is_read(client: Client) -> None:
    session = client.create_session()
    [url] = client.append_message(session.id, "user", "", images=[GIF]).images
    assert client.get_attachment(url, byte_range=(0, 5)).content == GIF[:6]
    assert client.get_attachment(url, byte_range=(6, None)).content == GIF[6:]


def test_messages_are_cleared_under_a_condition(client: Client) -> None:
    session = client.create_session()
    client.append_message(session.id, "user", "1")
    with pytest.raises(Stale):
        client.clear_messages(session.id, if_match=session.etag)
    client.clear_messages(session.id, if_match=client.get_session(session.id).etag)
    assert client.list_messages(session.id) == []


def test_state_of_the_service_is_read(client: Client) -> None:
    assert client.service().name == "mai-sessions"
    assert client.health().timestamp.tzinfo is not None
    client.live()
    client.ready()
    detailed = client.detailed_health()
    assert (detailed.status, detailed.version) == ("healthy", client.service().version)
    assert detailed.services["postgres"]["ok"]
    assert "mai_sessions_http_requests" in client.metrics()


def test_existing_session_is_refused_if_it_must_be_new(client: Client) -> None:
    session = client.create_session()
    assert client.create_session(id=session.id).id == session.id
    with pytest.raises(Stale):
        client.create_session(id=session.id, only_new=True)


def test_search_and_analytics_return_typed_results(client: Client) -> None:
    session = client.create_session(title="Zebra crossing")
    client.append_message(session.id, "assistant", "A zebra", model_id="org/some-model", agent_name="coder")
    assert {result.session.id for result in client.search_results("zebra")} == {session.id}
    assert client.search("zebra", role="assistant", since=date.today() - timedelta(1)).results[0].seq == 1
    today = datetime.now(UTC).date()
    usage = client.usage(start_date=today, end_date=today)
    assert usage.daily_usage[-1].date == today
    assert "coder" in {agent.name for agent in client.agents_usage().agents}
    assert "Some Model" in {model.model_name for model in client.models_usage().models}
    assert client.summary().active_sessions >= 1


def test_export_streams_every_session(client: Client) -> None:
    for number in range(3):
        client.append_message(client.create_session(title=f"s{number}").id, "user", "x")
    exported = list(client.export())
    assert [session["title"] for session in exported] == ["s0", "s1", "s2"]
    assert [message["content"] for message in exported[0]["messages"]] == ["x"]
    assert [session["id"] for session in client.export(session_id=exported[1]["id"])] == [exported[1]["id"]]


def test_asynchronous_client_has_the_same_methods(origin: str, client: Client) -> None:
    async def run() -> None:
        async with AsyncClient(origin) as other:
            session = await other.create_session(title="async")
            await other.append_message(session.id, "user", "hello")
            assert [found.id async for found in other.sessions()] == [session.id]
            assert [message.content async for message in other.messages(session.id)] == ["hello"]

    asyncio.run(run())

    def public(cls: type) -> set[str]:
        return {name.removeprefix("a") if name == "aclose" else name for name in vars(cls) if name[0] != "_"}

    assert public(AsyncClient) == public(Client)
