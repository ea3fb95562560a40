"""Write the words of messages and titles again whose words are by older rules.

A row by today's rules has the lexeme `RULES`; the others are in an index of their own. A batch is one
transaction of one user, which locks its rows. It skips rows that others have locked, so it never waits while
it holds a lock.
"""

from collections.abc import Callable, Iterator
from typing import LiteralString, NamedTuple

from mai_sessions.content.lexemes import MAX_CHARACTERS, fold_title, message_vector, title_vector
from mai_sessions.postgres.connection import Connection, fetch_all, fetch_one

# More rows than these are estimated, so that a count takes a few milliseconds.
MAX_COUNTED = 10_000

# Of all users: on a Citus cluster these ask every node, which takes no empty list of columns.
_OLD: LiteralString = "NOT words @@ '''_2'''"
# A streaming message gets its words when it ends.
_OLD_MESSAGE: LiteralString = f"{_OLD} AND status <> 'streaming'"

_COUNT_OLD_WORDS: LiteralString = f"""
    SELECT /* count_old_words */
           (SELECT count(*) FROM (SELECT 1 FROM messages WHERE {_OLD_MESSAGE} LIMIT %(max_counted)s) AS m),
           (SELECT count(*) FROM (SELECT 1 FROM session_titles WHERE {_OLD} LIMIT %(max_counted)s) AS t),
           coalesce((SELECT reltuples::bigint FROM pg_class
                     WHERE oid = to_regclass('messages_old_words_idx')), 0),
           coalesce((SELECT reltuples::bigint FROM pg_class
                     WHERE oid = to_regclass('session_titles_old_words_idx')), 0)"""
_NEXT_USER_OF_OLD_MESSAGES: LiteralString = f"""
    SELECT /* users_of_old_messages */ user_id
      FROM messages
     WHERE {_OLD_MESSAGE} AND user_id > %(user_id)s
     ORDER BY user_id
     LIMIT 1"""
_NEXT_USER_OF_OLD_TITLES: LiteralString = f"""
    SELECT /* users_of_old_titles */ user_id
      FROM session_titles
     WHERE {_OLD} AND user_id > %(user_id)s
     ORDER BY user_id
     LIMIT 1"""
LOCK_OLD_MESSAGES: LiteralString = f"""
    SELECT /* rewrite_message_words */ session_id, seq, created_at, left(content, %(max_characters)s)
      FROM messages
     WHERE user_id = %(user_id)s AND {_OLD_MESSAGE}
     ORDER BY session_id, seq
     LIMIT %(limit)s
       FOR NO KEY UPDATE SKIP LOCKED"""
WRITE_MESSAGE_WORDS: LiteralString = """
    UPDATE /* rewrite_message_words */ messages AS m
       SET words = new_words.words
      FROM unnest(%(session_ids)s::uuid[], %(seqs)s::int[], %(vectors)s::tsvector[]) AS new_words (session_id,
             seq, words)
     WHERE m.user_id = %(user_id)s AND m.session_id = new_words.session_id AND m.seq = new_words.seq"""
LOCK_OLD_TITLES: LiteralString = """
    SELECT /* rewrite_title_words */ t.session_id, s.title
      FROM session_titles AS t
      JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = t.session_id
     WHERE t.user_id = %(user_id)s AND NOT t.words @@ '''_2'''
     ORDER BY t.session_id
     LIMIT %(limit)s
       FOR NO KEY UPDATE OF t SKIP LOCKED"""
# A title that was renamed before its row was locked is left for the next batch.
WRITE_TITLE_WORDS: LiteralString = """
    UPDATE /* rewrite_title_words */ session_titles AS t
       SET title = new_words.folded_title, words = new_words.words
      FROM unnest(%(session_ids)s::uuid[], %(titles)s::text[], %(folded_titles)s::text[],
                  %(vectors)s::tsvector[])
           AS new_words (session_id, title, folded_title, words)
      JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = new_words.session_id
       AND s.title = new_words.title
     WHERE t.user_id = %(user_id)s AND t.session_id = new_words.session_id"""


class OldWords(NamedTuple):
    """How many messages and titles have words by older rules: up to 10,000 counted, more estimated."""

    messages: int
    titles: int


def count_old_words(conn: Connection) -> OldWords:
    """Count the messages and titles, of all users, whose words are by older rules. Raises Unavailable."""
    row = fetch_one(conn, _COUNT_OLD_WORDS, {"max_counted": MAX_COUNTED})
    assert row is not None
    messages, titles, estimated_messages, estimated_titles = row
    return OldWords(
        messages if messages < MAX_COUNTED else max(messages, estimated_messages),
        titles if titles < MAX_COUNTED else max(titles, estimated_titles),
    )


def reindex(conn: Connection, limit: int) -> Iterator[OldWords]:
    """Write all words by older rules again, in batches of at most `limit` rows; yield what each batch wrote.

    Rows that others have locked are left: call it again. Raises Unavailable.
    """
    for user_id in users_of_old_messages(conn):
        for count in _batches(rewrite_message_words, conn, user_id, limit):
            yield OldWords(count, 0)
    for user_id in users_of_old_titles(conn):
        for count in _batches(rewrite_title_words, conn, user_id, limit):
            yield OldWords(0, count)


def _batches(
    rewrite: Callable[[Connection, str, int], int], conn: Connection, user_id: str, limit: int
) -> Iterator[int]:
    while count := rewrite(conn, user_id, limit):
        yield count


def users_of_old_messages(conn: Connection) -> Iterator[str]:
    """Yield the users with messages whose words are by older rules."""
    return _users(conn, _NEXT_USER_OF_OLD_MESSAGES)


def users_of_old_titles(conn: Connection) -> Iterator[str]:
    """Yield the users with titles whose words are by older rules."""
    return _users(conn, _NEXT_USER_OF_OLD_TITLES)


def _users(conn: Connection, next_user: LiteralString) -> Iterator[str]:
    user_id = ""
    while row := fetch_one(conn, next_user, {"user_id": user_id}):
        user_id = row[0]
        yield user_id


def rewrite_message_words(conn: Connection, user_id: str, limit: int) -> int:
    """Write the words of at most `limit` messages of a user again, and return of how many."""
    with conn.transaction():
        params = {"user_id": user_id, "limit": limit, "max_characters": MAX_CHARACTERS}
        rows = fetch_all(conn, LOCK_OLD_MESSAGES, params)
        params = {
            "user_id": user_id,
            "session_ids": [session_id for session_id, *_ in rows],
            "seqs": [seq for _, seq, _, _ in rows],
            "vectors": [
                message_vector(user_id, session_id, created_at, content)
                for session_id, _, created_at, content in rows
            ],
        }
        if rows:
            fetch_all(conn, WRITE_MESSAGE_WORDS, params)
    return len(rows)


def rewrite_title_words(conn: Connection, user_id: str, limit: int) -> int:
    """Write the words of at most `limit` titles of a user again, and return of how many."""
    with conn.transaction():
        rows = fetch_all(conn, LOCK_OLD_TITLES, {"user_id": user_id, "limit": limit})
        params = {
            "user_id": user_id,
            "session_ids": [session_id for session_id, _ in rows],
            "titles": [title for _, title in rows],
            "folded_titles": [fold_title(title) for _, title in rows],
            "vectors": [title_vector(user_id, session_id, title) for session_id, title in rows],
        }
        if rows:
            fetch_all(conn, WRITE_TITLE_WORDS, params)
    return len(rows)
