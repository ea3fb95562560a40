"""Branches: random trees of messages, with every read compared with a simple model."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from support.chats import SESSIONS
from support.scripts import RunChecks

Conn = psycopg.Connection[Any]
ROLES = st.sampled_from(["user", "user", "assistant", "assistant", "system", "tool"])


@dataclass
class Model:
    """A session: its messages by `seq`, each as its id, role, tokens and parent, and its head."""

    path: str
    nodes: dict[int, dict[str, Any]] = field(default_factory=dict)
    last_seq: int = 0
    head: int | None = None

    def add(self, id: str, role: str, tokens: int, parent: int | None) -> None:
        self.last_seq += 1
        self.nodes[self.last_seq] = {"id": id, "role": role, "tokens": tokens, "parent": parent}
        self.head = self.last_seq

    def remove(self, seq: int) -> None:
        parent = self.nodes.pop(seq)["parent"]
        for node in self.nodes.values():
            if node["parent"] == seq:
                node["parent"] = parent
        if self.head == seq:
            self.head = parent if parent is not None else max(self.nodes, default=None)

    def branch(self, head: int | None) -> list[int]:
        seqs: list[int] = []
        while head is not None:
            seqs.append(head)
            head = self.nodes[head]["parent"]
        return seqs[::-1]

    def window(self, max_tokens: int) -> list[int]:
        """The system messages, and the newest others that fit, from a user message on."""
        branch = self.branch(self.head)
        for start in range(len(branch)):
            window = branch[start:]
            systems = [seq for seq in branch[:start] if self.nodes[seq]["role"] == "system"]
            if self.nodes[window[0]]["role"] == "user" and self.tokens(systems + window) <= max_tokens:
                return systems + window
        return branch[-1:]

    def tokens(self, seqs: list[int]) -> int:
        return sum(self.nodes[seq]["tokens"] for seq in seqs)

    def ids(self, seqs: list[int]) -> list[str]:
        return [self.nodes[seq]["id"] for seq in seqs]


class Trees(RuleBasedStateMachine):
    """Two sessions that grow, fork and shrink."""

    client: FlaskClient
    conn: Conn

    @initialize()
    def create(self) -> None:
        self.models = [Model(self.client.post(SESSIONS).headers["Location"]) for _ in range(2)]

    def _known(self, data: st.DataObject) -> tuple[Model, int | None]:
        model = data.draw(st.sampled_from(self.models))
        return model, data.draw(st.sampled_from(sorted(model.nodes))) if model.nodes else None

    @rule(
        data=st.data(),
        role=ROLES,
        tokens=st.integers(0, 9),
        how=st.sampled_from(["head", "head", "first", "any"]),
    )
    def append(self, data: st.DataObject, role: str, tokens: int, how: str) -> None:
        model, seq = self._known(data)
        parent = {"head": model.head, "first": None, "any": seq}[how]
        body: dict[str, Any] = {"role": role, "content": f"m{model.last_seq + 1}", "token_count": tokens}
        if how != "head":
            body["parent_id"] = None if parent is None else model.nodes[parent]["id"]
        reply = self.client.post(f"{model.path}/messages", json=body).get_json()
        model.add(reply["id"], role, tokens, parent)

    @rule(data=st.data(), count=st.integers(1, 4))
    def append_batch(self, data: st.DataObject, count: int) -> None:
        model, seq = self._known(data)
        ids = [str(uuid4()) for _ in range(count)]
        batch = [{"id": id, "role": "user", "content": id, "token_count": 1} for id in ids]
        if seq is not None:
            batch[0]["parent_id"] = model.nodes[seq]["id"]
        assert self.client.post(f"{model.path}/messages", json={"messages": batch}).status_code == 201
        for id in ids:
            model.add(id, "user", 1, seq)
            seq = model.last_seq

    @rule(data=st.data())
    def move_head(self, data: st.DataObject) -> None:
        model, seq = self._known(data)
        if seq is not None:
            reply = self.client.patch(model.path, json={"head_id": model.nodes[seq]["id"]})
            assert reply.status_code == 200
            model.head = seq

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        model, seq = self._known(data)
        if seq is not None:
            assert self.client.delete(f"{model.path}/messages/{model.nodes[seq]['id']}").status_code == 204
            model.remove(seq)

    @rule(data=st.data())
    def clear(self, data: st.DataObject) -> None:
        model, _ = self._known(data)
        if data.draw(st.integers(0, 9)) == 0:
            assert self.client.delete(f"{model.path}/messages").status_code == 204
            model.nodes, model.head = {}, None

    @rule(data=st.data(), limit=st.integers(1, 4), offset=st.integers(0, 5))
    def page(self, data: st.DataObject, limit: int, offset: int) -> None:
        model, seq = self._known(data)
        head = seq if data.draw(st.booleans()) else model.head
        branch = model.branch(head)
        query = f"limit={limit}" + (
            f"&head_id={model.nodes[head]['id']}" if head != model.head and head else ""
        )
        seen = self._page(model, f"{query}&offset={offset}")
        assert seen == branch[offset : offset + limit]
        bound = seq or 0
        assert self._page(model, f"{query}&after_seq={bound}") == [s for s in branch if s > bound][:limit]
        assert self._page(model, f"{query}&before_seq={bound}") == [s for s in branch if s < bound][-limit:]

    @rule(data=st.data(), max_tokens=st.integers(1, 40))
    def window(self, data: st.DataObject, max_tokens: int) -> None:
        model, _ = self._known(data)
        assert self._page(model, f"max_tokens={max_tokens}") == model.window(max_tokens)

    @rule(data=st.data(), limit=st.integers(0, 4))
    def detail(self, data: st.DataObject, limit: int) -> None:
        model, seq = self._known(data)
        shown = self.client.get(f"{model.path}?messages_limit={limit}").get_json()
        branch = model.branch(model.head)
        newest = branch[max(len(branch) - limit, 0) :]
        assert [message["seq"] for message in shown["messages"]] == newest
        if seq is not None:
            other = self.client.get(f"{model.path}?head_id={model.nodes[seq]['id']}").get_json()
            assert [message["seq"] for message in other["messages"]] == model.branch(seq)

    def _page(self, model: Model, query: str) -> list[int]:
        reply = self.client.get(f"{model.path}/messages?{query}")
        assert reply.status_code == 200
        return [message["seq"] for message in reply.get_json()]

    @invariant()
    def reads_equal_the_model(self) -> None:
        for model in getattr(self, "models", []):
            shown = self.client.get(model.path).get_json()
            branch = model.branch(model.head)
            assert [message["seq"] for message in shown["messages"]] == branch
            head = None if model.head is None else model.nodes[model.head]["id"]
            assert (shown["message_count"], shown["head_id"]) == (len(model.nodes), head)
            assert shown["last_message_preview"] == (shown["messages"][-1]["content"] if branch else None)
            everything = self.client.get(f"{model.path}/messages?branches=all&limit=500").get_json()
            parents = {message["seq"]: message["parent_id"] for message in everything}
            assert parents == {
                seq: None if node["parent"] is None else model.nodes[node["parent"]]["id"]
                for seq, node in sorted(model.nodes.items())
            }


def test_random_trees_equal_a_plain_model(client: FlaskClient, conn: Conn, run_checks: RunChecks) -> None:
    class Machine(Trees):
        pass

    Machine.client, Machine.conn = client, conn
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=25, stateful_step_count=20, deadline=None)
    )
    assert run_checks() == {}


@pytest.fixture
def tree(client: FlaskClient, session: str) -> dict[str, str]:
    """The ids of a question, its answer, and the edited question."""
    ids = {}
    for name, parent in (("question", None), ("answer", "question"), ("edited", None)):
        body = {"role": "user", "content": name, "parent_id": ids.get(parent or "")}
        ids[name] = client.post(f"{session}/messages", json=body).get_json()["id"]
    return ids


def test_edited_question_is_a_sibling_and_becomes_the_head(
    client: FlaskClient, session: str, tree: dict[str, str]
) -> None:
    shown = client.get(session).get_json()
    assert [message["content"] for message in shown["messages"]] == ["edited"]
    assert (shown["message_count"], shown["head_id"], shown["last_message_preview"]) == (
        3,
        tree["edited"],
        "edited",
    )
    back = client.get(f"{session}?head_id={tree['answer']}").get_json()
    assert [message["content"] for message in back["messages"]] == ["question", "answer"]
    assert back["head_id"] == tree["edited"]
    moved = client.patch(session, json={"head_id": tree["answer"]}).get_json()
    assert [message["content"] for message in moved["messages"]] == ["question", "answer"]


def test_moving_the_head_leaves_the_place_in_the_list(
    client: FlaskClient, session: str, tree: dict[str, str]
) -> None:
    before = client.get(session)
    for change in (
        {"head_id": tree["answer"]},
        {"archived": True},
        {"metadata": {"a": 1}},
        {"archived": False},
    ):
        after = client.patch(session, json=change)
        assert after.get_json()["updated_at"] == before.get_json()["updated_at"]
        assert after.headers["ETag"] != before.headers["ETag"]
    assert (
        client.patch(session, json={"archived": True, "title": "x"}).get_json()["updated_at"]
        > before.get_json()["updated_at"]
    )


@pytest.mark.parametrize("whose", ["nobody", "another session", "another user"])
def test_parent_and_head_are_messages_of_the_session(
    client: FlaskClient, session: str, tree: dict[str, str], chat_of_another_user: Any, whose: str
) -> None:
    other = client.post(SESSIONS, json={"messages": [{"role": "user", "content": ""}]}).get_json()
    foreign = {
        "nobody": str(uuid4()),
        "another session": other["head_id"],
        "another user": chat_of_another_user.message.rpartition("/")[2],
    }[whose]
    for refused, loc in (
        (
            client.post(f"{session}/messages", json={"role": "user", "content": "", "parent_id": foreign}),
            "parent_id",
        ),
        (client.patch(session, json={"head_id": foreign}), "head_id"),
    ):
        assert refused.status_code == 422
        assert refused.get_json()["errors"][0]["loc"] == ["body", loc]
    for path in (session, f"{session}/messages"):
        refused = client.get(f"{path}?head_id={foreign}")
        assert refused.status_code == 422
        assert refused.get_json()["errors"][0]["loc"] == ["query", "head_id"]
    assert client.get(session).get_json()["message_count"] == 3
