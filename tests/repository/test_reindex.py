"""`mai-sessions reindex`: words by the rules of an older release are found, and written again."""

import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner
from flask import Flask
from flask.testing import FlaskClient

from mai_sessions.cli import main
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository import reindex as reindexing
from mai_sessions.repository.reindex import OldWords, count_old_words, reindex

PATH = "/api/v1/sessions"
# The prefix of the previous release: the first five characters of the md5 of default-user.
OLD_PREFIX = "LEFT(md5('default-user'), 5)"


@pytest.fixture
def old(client: FlaskClient, conn: psycopg.Connection[Any]) -> list[str]:
    """Make three messages and a title whose words are those of version 0.1, and return the ids of the
    messages.
    """
    session = client.post(PATH, json={"title": "old title"}).get_json()["id"]
    ids = [
        client.post(f"{PATH}/{session}/messages", json={"role": "user", "content": text}).get_json()["id"]
        for text in ("brown fox", "łódź fox", "C++ fox")
    ]
    make_old(conn)
    return ids


def make_old(conn: psycopg.Connection[Any]) -> None:
    """Write the words as version 0.1 did."""
    key = f"{OLD_PREFIX} || '_s' || right(session_id::text, 12)"
    conn.execute(
        f"""UPDATE messages SET words = (
            SELECT string_agg({OLD_PREFIX} || word || ':' || place,
                              ' ') || ' ' || {key} || ' ' || {OLD_PREFIX} || '_w2578'
              FROM regexp_split_to_table(lower(content), '[^a-zźł0-9]+') WITH ORDINALITY AS w (word, place)
             WHERE word <> '')::tsvector"""  # type: ignore[arg-type]
    )
    conn.execute(
        f"""UPDATE session_titles SET words = (
            SELECT string_agg({OLD_PREFIX} || word || ':' || place,
                              ' ') || ' ' || {key} || ' ' || {OLD_PREFIX} || '_pold'
              FROM regexp_split_to_table(title, ' ') WITH ORDINALITY AS w (word, place))::tsvector"""  # type: ignore[arg-type]
    )


def found(client: FlaskClient, q: str) -> list[str]:
    """The ids of the messages that a search finds, in order."""
    results = client.get("/api/v1/search", query_string={"q": q}).get_json()["results"]
    return sorted(result["message_id"] or "title" for result in results)


def run(url: str, *arguments: str) -> Any:
    """Run the command."""
    return CliRunner().invoke(main, ["reindex", "--rest", "0", *arguments], env={"DATABASE_URL": url})


def test_old_words_are_found_before_and_everything_after(
    client: FlaskClient, conn: psycopg.Connection[Any], old: list[str]
) -> None:
    assert found(client, "fox") == sorted(old)
    assert found(client, '"brown fox"') == [old[0]]
    assert found(client, "old") == ["title"]
    assert found(client, "lodz") == []
    assert client.get(PATH, query_string={"search": "old"}).get_json()["total"] == 1
    health = client.get("/health/detailed").get_json()["services"]["postgres"]["details"]
    assert health["old_words"] == {"messages": 3, "titles": 1}

    result = run(conn.info.dsn)

    assert result.exit_code == 0, result.output
    assert "wrote the words of 3 messages and 1 titles; left: 0" in result.output
    assert found(client, "fox") == sorted(old)
    assert found(client, "lodz") == [old[1]]
    assert found(client, "C++") == [old[2]]
    assert client.get(PATH, query_string={"search": "d ti"}).get_json()["total"] == 1
    health = client.get("/health/detailed").get_json()["services"]["postgres"]["details"]
    assert health["old_words"] == {"messages": 0, "titles": 0}
    assert "wrote the words of 0 messages and 0 titles; left: 0" in run(conn.info.dsn).output


@pytest.mark.parametrize(
    "setting",
    [
        "datestyle TO 'German, DMY'",
        "search_path TO pg_catalog",
        "timezone TO 'Asia/Tokyo'",
    ],
)
def test_settings_of_the_database_do_not_change_what_reindex_writes(
    client: FlaskClient, conn: psycopg.Connection[Any], old: list[str], setting: str
) -> None:
    conn.execute(f"ALTER DATABASE {conn.info.dbname} SET {setting}".encode())
    try:
        result = run(conn.info.dsn)
    finally:
        conn.execute(f"ALTER DATABASE {conn.info.dbname} RESET ALL".encode())
    assert result.exit_code == 0, result.output
    assert "wrote the words of 3 messages and 1 titles; left: 0" in result.output
    assert found(client, "fox") == sorted(old)


def test_reindex_has_longer_for_a_statement_than_the_service(
    conn: psycopg.Connection[Any], old: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts = []

    def reindex(conn: Connection, limit: int) -> Iterator[OldWords]:
        timeouts.extend(conn.execute("SHOW statement_timeout").fetchall())
        yield from ()

    monkeypatch.setattr(reindexing, "reindex", reindex)
    run(conn.info.dsn)
    assert timeouts == [("1h",)]


def test_stopped_reindex_continues(conn: psycopg.Connection[Any], old: list[str]) -> None:
    with Connection.connect(conn.info.dsn, autocommit=True) as own:
        batches = reindex(own, 2)
        assert next(batches) == OldWords(2, 0)
        assert count_old_words(own) == OldWords(1, 1)
        assert list(reindex(own, 2)) == [OldWords(1, 0), OldWords(0, 1)]
        assert count_old_words(own) == OldWords(0, 0)


def test_streaming_message_is_neither_counted_nor_rewritten(
    client: FlaskClient, conn: psycopg.Connection[Any]
) -> None:
    message = {"role": "assistant", "content": "half an answer", "status": "streaming"}
    session = client.post(PATH, json={"messages": [message]}).get_json()
    with Connection.connect(conn.info.dsn, autocommit=True) as own:
        assert count_old_words(own) == OldWords(0, 0)
        assert list(reindex(own, 2)) == []
    assert found(client, "half") == []
    path = f"{PATH}/{session['id']}/messages/{session['messages'][0]['id']}"
    client.patch(path, json={"status": "complete"})
    assert found(client, "half") == [session["messages"][0]["id"]]


def test_reindex_skips_rows_that_are_being_written(
    client: FlaskClient, conn: psycopg.Connection[Any], old: list[str]
) -> None:
    with psycopg.connect(conn.info.dsn) as writer:
        writer.execute("UPDATE messages SET content = 'written meanwhile' WHERE id = %s", [UUID(old[0])])
        result = run(conn.info.dsn)
        assert result.exit_code == 1
        assert "left: 1" in result.output
    assert run(conn.info.dsn).exit_code == 0
    assert found(client, "meanwhile") == [old[0]]


def test_reindex_while_messages_are_patched_loses_no_word(
    client: FlaskClient, make_app: Callable[..., Flask], conn: psycopg.Connection[Any], old: list[str]
) -> None:
    [(session,)] = conn.execute("SELECT DISTINCT session_id FROM messages").fetchall()

    def patch() -> None:
        other = make_app().test_client()
        for number in range(30):
            for message in old:
                response = other.patch(
                    f"{PATH}/{session}/messages/{message}", json={"content": f"w{number} end"}
                )
                assert response.status_code == 200

    thread = threading.Thread(target=patch)
    thread.start()
    while thread.is_alive():
        make_old(conn)
        run(conn.info.dsn, "--batch", "2")
    thread.join()
    run(conn.info.dsn)
    assert found(client, "w29") == sorted(old)


def test_start_logs_how_much_is_left(
    make_app: Callable[..., Flask], old: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("WARNING"):
        make_app(migrate="check")
    assert "the search knows 3 messages and 1 titles by the rules of an older release" in caplog.text
