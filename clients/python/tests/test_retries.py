"""What is sent again, with which key, after which pause; a transport stands for the network."""

import asyncio
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from generate_client import generate
from mai_sessions_client import (
    AsyncClient,
    Client,
    Invalid,
    NotFound,
    ProblemError,
    Stale,
    Unauthorized,
    Unavailable,
)

SESSION = {
    "id": "0199b2a8-0000-7000-8000-000000000001",
    "title": "New Chat",
    "agent_name": "chat",
    "created_at": "2026-11-25T10:00:00.000001+00:00",
    "updated_at": "2026-11-25T10:00:00.000001+00:00",
    "message_count": 0,
    "messages": [],
    "of a newer service": True,
}
Outcome = httpx.Response | Exception


class Network:
    """Gives one outcome after the other, and keeps the requests."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.requests: list[httpx.Request] = []
        self._outcomes: Iterator[Outcome] = iter(outcomes)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        # A copy, for the headers of a request change before it is sent again.
        self.requests.append(
            httpx.Request(request.method, request.url, headers=request.headers, content=request.content)
        )
        outcome = next(self._outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def client(self, *, token: str | Callable[[], str] | None = None, retry_for: float = 30) -> Client:
        return Client("http://chats", token=token, retry_for=retry_for, transport=httpx.MockTransport(self))

    def headers(self, name: str) -> list[str | None]:
        return [request.headers.get(name) for request in self.requests]


def problem(status: int, **headers: str) -> httpx.Response:
    body = {"type": "t", "title": "T", "status": status, "detail": "d", "request_id": "r"}
    return httpx.Response(
        status, json=body, headers={name.replace("_", "-"): text for name, text in headers.items()}
    )


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that are made, without making them."""
    made: list[float] = []
    monkeypatch.setattr(time, "sleep", made.append)
    return made


def test_write_is_repeated_under_one_key(pauses: list[float]) -> None:
    network = Network(
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("lost"),
        httpx.Response(502, html="<h1>Bad Gateway</h1>"),
        problem(503),
        problem(409),
        problem(429),
        problem(408),
        httpx.Response(201, json=SESSION),
    )
    created = network.client().create_session(title="x")
    assert created.id == SESSION["id"]
    assert len(network.requests) == 8
    assert len(set(network.headers("Idempotency-Key"))) == 1
    assert None not in network.headers("Idempotency-Key")
    assert len({request.content for request in network.requests}) == 1
    assert len(pauses) == 7


def test_each_write_has_a_key_of_its_own() -> None:
    network = Network(httpx.Response(201, json=SESSION), httpx.Response(201, json=SESSION))
    client = network.client()
    client.create_session()
    client.create_session()
    assert len(set(network.headers("Idempotency-Key"))) == 2


def test_given_key_is_sent() -> None:
    network = Network(httpx.Response(201, json=SESSION))
    network.client().create_session(key="mine")
    assert network.headers("Idempotency-Key") == ["mine"]


def test_retry_after_is_waited_for(pauses: list[float]) -> None:
    network = Network(
        problem(503, Retry_After="7"),
        problem(503, Retry_After="Wed, 25 Nov 2026 10:00:00 GMT"),
        problem(503, Retry_After="soon"),
        httpx.Response(200, json=SESSION),
    )
    network.client().get_session("x")
    assert pauses[0] == 7
    assert all(0 < pause < 1 for pause in pauses[1:])


def test_retry_after_beyond_the_limit_ends_the_retries(pauses: list[float]) -> None:
    network = Network(problem(503, Retry_After="100"))
    with pytest.raises(Unavailable):
        network.client(retry_for=30).get_session("x")
    assert (len(network.requests), pauses) == (1, [])


def test_network_error_is_raised_after_the_limit(pauses: list[float]) -> None:
    network = Network(httpx.ConnectError("refused"))
    with pytest.raises(httpx.ConnectError):
        network.client(retry_for=0).get_session("x")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, ProblemError),
        (404, NotFound),
        (412, Stale),
        (413, ProblemError),
        (422, Invalid),
        (500, ProblemError),
    ],
)
def test_final_refusal_is_raised_at_once(status: int, error: type[ProblemError]) -> None:
    network = Network(problem(status))
    with pytest.raises(error) as raised:
        network.client().create_session()
    assert len(network.requests) == 1
    assert (raised.value.status, raised.value.detail, raised.value.request_id) == (status, "d", "r")


def test_error_page_of_a_proxy_is_a_problem_without_detail() -> None:
    with pytest.raises(ProblemError, match="413 Request Entity Too Large"):
        Network(httpx.Response(413, html="<html>")).client().create_session()


def test_conflict_without_a_key_is_not_repeated() -> None:
    with pytest.raises(ProblemError):
        Network(problem(409)).client().update_session("x", title="y")


@pytest.mark.parametrize("outcome", [httpx.ReadTimeout("lost"), problem(502), problem(503), problem(504)])
def test_conditional_change_is_not_repeated_if_its_effect_is_unknown(outcome: Outcome) -> None:
    network = Network(outcome)
    with pytest.raises((ProblemError, httpx.TransportError)):
        network.client().update_session("x", title="y", if_match='"v"')
    with pytest.raises((ProblemError, httpx.TransportError)):
        Network(outcome).client().clear_messages("x", if_match='"v"')
    assert len(network.requests) == 1


def test_conditional_request_that_had_no_effect_is_repeated(pauses: list[float]) -> None:
    network = Network(problem(429), problem(408), httpx.Response(200, json=SESSION))
    network.client().update_session("x", title="y", if_match='"v"')
    assert network.headers("If-Match") == ['"v"'] * 3


def test_conditional_append_and_deletion_are_repeated(pauses: list[float]) -> None:
    lost = httpx.ReadTimeout("lost")
    Network(lost, httpx.Response(201, json={"messages": [], "session": SESSION})).client().append_messages(
        "x", [], if_match='"v"'
    )
    Network(lost, problem(404)).client().delete_session("x", if_match='"v"')
    assert len(pauses) == 2


def test_export_begins_again_until_it_streams(pauses: list[float]) -> None:
    network = Network(problem(503), httpx.Response(200, text='{"id":"x"}\n'))
    assert list(network.client().export()) == [{"id": "x"}]
    with pytest.raises(NotFound):
        list(Network(problem(404)).client().export(session_id="x"))


def test_service_that_is_not_ready_is_reported_at_once(pauses: list[float]) -> None:
    with pytest.raises(Unavailable):
        Network(problem(503)).client().ready()
    assert pauses == []


def test_delete_whose_response_was_lost_succeeds(pauses: list[float]) -> None:
    Network(httpx.ReadTimeout("lost"), problem(404)).client().delete_session("x")
    with pytest.raises(NotFound):
        Network(problem(404)).client().delete_session("x")


def test_expired_token_is_asked_for_once_more() -> None:
    tokens = iter(["old", "new", "newer"])
    network = Network(problem(401), httpx.Response(200, json=SESSION))
    network.client(token=lambda: next(tokens)).get_session("x")
    assert network.headers("Authorization") == ["Bearer old", "Bearer new"]


def test_token_that_stays_wrong_is_refused() -> None:
    network = Network(problem(401), problem(401))
    with pytest.raises(Unauthorized):
        network.client(token=lambda: "wrong").get_session("x")
    assert len(network.requests) == 2


def test_fixed_token_is_tried_once() -> None:
    network = Network(problem(401))
    with pytest.raises(Unauthorized):
        # A token of the test, not a secret.
        network.client(token="fixed").get_session("x")  # noqa: S106
    assert network.headers("Authorization") == ["Bearer fixed"]


def test_attachment_of_another_host_gets_no_token() -> None:
    network = Network()
    with pytest.raises(ValueError, match="not an attachment of this service"):
        # A token of the test, not a secret.
        network.client(token="secret").get_attachment("http://evil/api/v1/attachments/x")  # noqa: S106
    assert network.requests == []


@pytest.mark.parametrize("prefix", ["", "/chat"])
def test_attachment_is_read_below_the_base_url_whether_or_not_its_link_has_the_prefix(prefix: str) -> None:
    network = Network(httpx.Response(200, content=b"image"))
    with Client("http://chats/chat", transport=httpx.MockTransport(network)) as client:
        attachment = client.get_attachment(f"{prefix}/api/v1/attachments/{'0' * 64}?expires=1")
    assert attachment.content == b"image"
    [request] = network.requests
    assert str(request.url) == f"http://chats/chat/api/v1/attachments/{'0' * 64}?expires=1"


def test_asynchronous_client_repeats_and_awaits_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_sleep(pause: float) -> None:
        assert pause > 0

    async def token() -> str:
        return "t"

    monkeypatch.setattr(asyncio, "sleep", no_sleep)
    network = Network(problem(503), httpx.Response(201, json=SESSION))

    async def run() -> None:
        async with AsyncClient("http://chats", token=token, transport=httpx.MockTransport(network)) as client:
            await client.create_session()

    asyncio.run(run())
    assert network.headers("Authorization") == ["Bearer t", "Bearer t"]
    assert len(set(network.headers("Idempotency-Key"))) == 1


def test_synchronous_client_is_generated_from_the_asynchronous_one() -> None:
    for path, text in generate().items():
        assert path.read_text() == text
