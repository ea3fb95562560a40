"""GET /search, and the title search of GET /sessions: contract §5 and §2."""

import html
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.search_corpus import CODE, TEXTS, expectations, queries_of

from mai_sessions.content.folding import fold

Say = Callable[..., dict[str, Any]]
hypothesis = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def session(client: FlaskClient) -> dict[str, Any]:
    """A new session."""
    return make_session(client)


@pytest.fixture
def say(client: FlaskClient, session: dict[str, Any]) -> Say:
    """A function that appends a message to the session."""

    def append(content: str, **fields: Any) -> dict[str, Any]:
        reply = client.post(
            f"/api/v1/sessions/{session['id']}/messages", json={"role": "user", "content": content, **fields}
        )
        assert reply.status_code == 201
        return reply.get_json()

    return append


def make_session(client: FlaskClient, title: str = "nothing", **fields: Any) -> dict[str, Any]:
    """Make a session."""
    return client.post("/api/v1/sessions", json={"title": title, **fields}).get_json()


def search(client: FlaskClient, q: str, **filters: Any) -> list[dict[str, Any]]:
    """Return the first page of a search."""
    reply = client.get("/api/v1/search", query_string={"q": q, **filters})
    assert reply.status_code == 200
    for result in reply.get_json()["results"]:
        assert len(result["snippet"]) <= 300
        assert not re.search(r"[<>\"']", re.sub("</?mark>", "", result["snippet"]))
    return reply.get_json()["results"]


def titles(client: FlaskClient, text: str) -> set[str]:
    """Return the titles that the list with `search` finds."""
    page = client.get("/api/v1/sessions", query_string={"search": text}).get_json()
    assert page["total"] == len(page["sessions"])
    return {found["title"] for found in page["sessions"]}


def test_corpus_has_full_precision_and_recall(client: FlaskClient, say: Say) -> None:
    """`make search-quality` shows its output."""
    assert len(TEXTS) >= 20
    assert len(queries_of(TEXTS)) >= 250
    assert len(queries_of(CODE)) >= 60
    ids = {say(sample.text)["id"]: name for name, sample in (TEXTS | CODE).items()}
    true = false = missed = 0
    wrong = []
    for query, missing, names in expectations():
        results = search(client, query)
        found = {ids[result["message_id"]] for result in results}
        assert all("<mark>" in result["snippet"] for result in results), query
        unexpected = found & {missing} if missing else found - names
        true, false, missed = (
            true + len(found & names),
            false + len(unexpected),
            missed + len(names - found),
        )
        if unexpected or names - found:
            wrong.append((query, found, names))
    print(
        f"{len(expectations())} queries, {len(queries_of(CODE))} of them of code: "
        f"precision {true / (true + false):.3f}, recall {true / (true + missed):.3f}"
    )
    assert not wrong


def test_found_message_has_a_snippet(client: FlaskClient, session: dict[str, Any], say: Say) -> None:
    message = say("a needle in a haystack", role="assistant")
    (result,) = search(client, "needle")
    assert datetime.fromisoformat(result.pop("created_at")) == datetime.fromisoformat(message["created_at"])
    assert result == {
        "session": {"id": session["id"], "title": session["title"]},
        "message_id": message["id"],
        "seq": message["seq"],
        "role": "assistant",
        "snippet": "a <mark>needle</mark> in a haystack",
    }


def test_found_title_has_no_message(client: FlaskClient) -> None:
    session = make_session(client, "Some <b>Needle</b>")
    (result,) = search(client, "needle")
    assert datetime.fromisoformat(result.pop("created_at")) == datetime.fromisoformat(session["created_at"])
    assert result == {
        "session": {"id": session["id"], "title": session["title"]},
        "message_id": None,
        "seq": None,
        "role": None,
        "snippet": "Some &lt;b&gt;<mark>Needle</mark>&lt;/b&gt;",
    }


def test_best_match_comes_first(client: FlaskClient, say: Say) -> None:
    often = say("needle needle needle and hay")
    once = say("needle " + "hay " * 50)
    again = say("needle " + "hay " * 50)
    make_session(client, "a needle")
    assert [result["message_id"] for result in search(client, "needle")] == [
        None,
        often["id"],
        again["id"],
        once["id"],
    ]


def test_search_follows_writes(client: FlaskClient, session: dict[str, Any], say: Say) -> None:
    path = f"/api/v1/sessions/{session['id']}"
    message = say("before")
    client.patch(f"{path}/messages/{message['id']}", json={"content": "after"})
    assert not search(client, "before")
    client.patch(f"{path}/messages/{message['id']}", json={"token_count": 7})
    assert search(client, "after")
    client.patch(path, json={"title": "Renamed"})
    client.patch(path, json={"agent_name": "other"})
    assert search(client, "renamed")
    assert not search(client, "nothing")
    assert titles(client, "NAME") == {"Renamed"}
    client.delete(f"{path}/messages/{message['id']}")
    assert not search(client, "after")
    client.delete(path)
    assert not search(client, "renamed")
    assert titles(client, "name") == set()


def test_filters_narrow_a_search(client: FlaskClient, session: dict[str, Any], say: Say) -> None:
    first = say("needle", role="user", agent_name="coder", model_id="m1")
    second = say("needle", role="assistant", model_id="m2")
    other = make_session(client, "needle", agent_name="coder", model_id="m2")

    def found(**filters: Any) -> set[str]:
        return {
            result["message_id"] or result["session"]["id"] for result in search(client, "needle", **filters)
        }

    assert found() == {first["id"], second["id"], other["id"]}
    assert found(role="user") == {first["id"]}
    assert found(agent_name="coder") == {first["id"], other["id"]}
    assert found(model_id="m2") == {second["id"], other["id"]}
    assert found(model_id="m2", role="assistant") == {second["id"]}
    assert found(session_id=session["id"]) == {first["id"], second["id"]}
    assert found(session_id=other["id"]) == {other["id"]}
    assert found(session_id=str(uuid4())) == set()
    assert found(until=first["created_at"]) == set()
    assert found(until=second["created_at"]) == {first["id"]}
    assert found(since=second["created_at"]) == {second["id"], other["id"]}
    assert found(since=second["created_at"].replace("+00:00", "Z"), until="2999-01-01") == {
        second["id"],
        other["id"],
    }


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"q": ""},
        {"q": "a\0b"},
        {"q": "a", "limit": 0},
        {"q": "a", "limit": 51},
        {"q": "a", "role": "nobody"},
        {"q": "a", "session_id": "x"},
        {"q": "a", "since": "yesterday"},
        {"q": "a", "until": "2025-13-01"},
        {"q": "a", "cursor": "x"},
        {"q": "a", "cursor": "~d41d8cd9"},
    ],
)
def test_invalid_search_is_refused(client: FlaskClient, query: dict[str, Any]) -> None:
    assert client.get("/api/v1/search", query_string=query).status_code == 422


@pytest.mark.parametrize(
    "q", [" ", "' \\", "& | ! ( )", '"', '""', '"" ""', "%", "_", "?", "\u00ad", "\u0301"]
)
def test_query_without_word_or_symbol_says_so(client: FlaskClient, say: Say, q: str) -> None:
    say("& | ! ( ) :* <-> % _ ? ' \\ \" word")
    assert client.get("/api/v1/search", query_string={"q": q}).get_json() == {
        "results": [],
        "next_cursor": None,
        "truncated": False,
        "detail": "The query holds no word and no symbol to search for.",
    }


def test_query_without_results_has_no_detail(client: FlaskClient, say: Say) -> None:
    say("word")
    assert client.get("/api/v1/search?q=zebra").get_json() == {
        "results": [],
        "next_cursor": None,
        "truncated": False,
    }


@pytest.mark.parametrize(
    "q",
    [
        "' or 1=1",
        "a & b | !c",
        "it's\\",
        "x:*",
        "a <-> b",
        '"open',
        "a" * 3000,
        "b " * 1500,
        "".join(map(chr, range(0x4E00, 0x4E00 + 3000))),
        '"' * 3001 + "a",
    ],
)
def test_any_text_is_found_by_itself(client: FlaskClient, say: Say, q: str) -> None:
    message = say(q)
    assert [result["message_id"] for result in search(client, q)] == [message["id"]]


def test_large_content_is_stored_and_found(client: FlaskClient, say: Say) -> None:
    for content in (
        "start " + "x" * 10_000_000,
        "start " + "é" * 5000 + " end",
        "start " + "word " * 200_000,
        "start " + "ﷺ " * 100_000,
    ):
        say(content)
    say("start " + "".join(map(chr, range(0x4E00, 0x9FFF))) * 5)
    assert len(search(client, "start")) == 5
    assert len(search(client, "é" * 5000)) == 1


def test_snippet_marks_a_hit_deep_in_a_text(client: FlaskClient, say: Say) -> None:
    say("lorem & ipsum " * 5000 + 'a "needle" 中文搜索 here ' + "dolor " * 1000)
    (result,) = search(client, "needle 文搜")
    assert "&quot;<mark>needle</mark>&quot; 中<mark>文搜</mark>索" in result["snippet"]
    assert "lorem" in result["snippet"]


@hypothesis
@given(q=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
@example("中" * 3000)
@example('"' * 3000)
def test_no_query_fails(client: FlaskClient, q: str) -> None:
    search(client, q)
    titles(client, q)


@hypothesis
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1))
def test_every_text_can_be_stored_and_found(client: FlaskClient, say: Say, text: str) -> None:
    message = say(text)
    if any(character.isalnum() for character in fold(text)):
        assert message["id"] in {
            result["message_id"] for result in search(client, text.replace('"', " "), limit=50)
        }
    for result in search(client, text):
        plain = html.unescape(re.sub("</?mark>", "", result["snippet"])).removeprefix("…")
        assert plain in text or result["message_id"] != message["id"]


@pytest.mark.parametrize("limit", [1, 3, 7, 50])
def test_pages_repeat_and_skip_nothing(
    client: FlaskClient, conn: psycopg.Connection[Any], say: Say, limit: int
) -> None:
    ids = {say("needle " * (number % 3 + 1))["id"] for number in range(20)}
    # All have the same time, so that only the id orders them.
    conn.execute("UPDATE messages SET created_at = (SELECT min(created_at) FROM messages)")
    make_session(client, "needle")
    seen, cursor = [], None
    while True:
        query = {"q": "needle", "limit": limit, **({"cursor": cursor} if cursor else {})}
        page = client.get("/api/v1/search", query_string=query).get_json()
        seen += [result["message_id"] for result in page["results"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
        say("needle needle needle, written between two pages")
    assert len(seen) == 21
    assert set(seen) == ids | {None}


def read_pages(client: FlaskClient, **query: Any) -> list[dict[str, Any]]:
    """Follow `next_cursor` to its end."""
    pages = [client.get("/api/v1/search", query_string=query).get_json()]
    while pages[-1]["next_cursor"]:
        query["cursor"] = pages[-1]["next_cursor"]
        pages.append(client.get("/api/v1/search", query_string=query).get_json())
    return pages


@pytest.mark.parametrize("q", ["needle", '"needle and"'])
def test_pages_go_on_after_the_newest_200(
    client: FlaskClient, conn: psycopg.Connection[Any], say: Say, q: str
) -> None:
    old = say("needle and needle and needle and needle")
    assert search(client, q)[0]["message_id"] == old["id"]
    conn.execute("UPDATE messages SET created_at = now() - interval '1 hour'")
    newer = [say("needle and hay")["id"] for _ in range(210)]
    pages = read_pages(client, q=q, limit=50)
    found = [result["message_id"] for page in pages for result in page["results"]]
    # The oldest is the best match, and not among the newest 200.
    assert set(found[:200]) == set(newer[10:])
    assert found[200] == old["id"]
    assert sorted(found) == sorted([*newer, old["id"]])
    assert not pages[-1]["truncated"]


@pytest.mark.parametrize("filters", [{}, {"role": "user"}])
def test_common_word_of_a_large_user_is_truncated(
    client: FlaskClient, conn: psycopg.Connection[Any], say: Say, filters: dict[str, str]
) -> None:
    newer = [say("needle and hay")["id"] for _ in range(210)]
    conn.execute("UPDATE users SET session_count = 501")  # So many matches that the index is not asked.
    pages = read_pages(client, q="needle", limit=50, **filters)
    found = [result["message_id"] for page in pages for result in page["results"]]
    assert sorted(found) == sorted(newer[10:])
    assert [page["truncated"] for page in pages] == [False, False, False, True]
    rare = say("a quetzal")["id"]
    assert [result["message_id"] for result in search(client, "quetzal", **filters)] == [rare]


@pytest.mark.parametrize(("updated_at", "truncated"), [("updated_at", False), ("now()", True)])
def test_common_titles_of_a_large_user_go_on_if_they_are_in_order(
    client: FlaskClient, conn: psycopg.Connection[Any], updated_at: str, truncated: bool
) -> None:
    made = [make_session(client, f"needle {number}")["id"] for number in range(255)]
    conn.execute("UPDATE users SET session_count = 10001")
    conn.execute(f"UPDATE sessions SET updated_at = {updated_at}".encode())
    pages = read_pages(client, q="needle", limit=50)
    found = [result["session"]["id"] for page in pages for result in page["results"]]
    assert len(found) == len(set(found) & set(made)) == (200 if truncated else 255)
    assert pages[-1]["truncated"] == truncated


def test_titles_go_on_after_the_newest_200(client: FlaskClient) -> None:
    made = {make_session(client, f"needle {number}")["id"] for number in range(205)}
    pages = read_pages(client, q="needle", limit=50)
    found = [result["session"]["id"] for page in pages for result in page["results"]]
    assert len(found) == 205
    assert set(found) == made


def test_title_search_is_literal(client: FlaskClient) -> None:
    names = [
        "100%_done",
        "100 done",
        "a\\b",
        "Über uns",
        "İSTANBUL IŞIK",
        'it\'s "quoted"',
        "中文搜索",
        "日本",
        "x",
        "🎉 party",
    ]
    for name in names:
        make_session(client, name)
    assert titles(client, "%") == titles(client, "_") == {"100%_done"}
    assert titles(client, "0%_D") == {"100%_done"}
    assert titles(client, "\\") == titles(client, "A\\B") == {"a\\b"}
    assert titles(client, "über") == {"Über uns"}
    assert titles(client, "ÜBER U") == {"Über uns"}
    assert titles(client, "istanbul ışı") == titles(client, "İstanbul I") == {"İSTANBUL IŞIK"}
    assert titles(client, "'s \"q") == {'it\'s "quoted"'}
    assert titles(client, "中") == {"中文搜索"}
    assert titles(client, "文搜") == {"中文搜索"}
    assert titles(client, "X") == {"x"}
    assert titles(client, "🎉") == {"🎉 party"}
    assert titles(client, " ") == set(names)


def test_time_of_a_result_is_written_as_elsewhere(client: FlaskClient, conn: psycopg.Connection[Any]) -> None:
    session = client.post("/api/v1/sessions", json={}).headers["Location"]
    message = client.post(f"{session}/messages", json={"role": "user", "content": "zero"})
    conn.execute("UPDATE messages SET created_at = '2026-11-22T09:15:02.1200+00:00'")
    [found] = client.get("/api/v1/search?q=zero").get_json()["results"]
    assert found["created_at"] == client.get(message.headers["Location"]).get_json()["created_at"]
