"""The statement that searches titles and messages.

Results are read in windows. A window is the newest 200 messages and the newest 200 titles that match and are
older than the window before; in a window titles come first, then the best by ts_rank, then the newest.
What is written after the first page was read is left out of the pages that follow.

A word in most messages makes a search slow if every row that matches is read to find the newest. So the
statement takes the first of these ways that finds 200 messages:

1. For a user with many sessions or messages of which a sample of the newest often matches, it reads the
   newest messages, or titles, of the newest sessions. Such a search has one window.
2. It asks the index for messages of the last eight to sixteen days, which have a key of their week.
3. It asks the index for all messages.

The titles are found before they are put into order: by an index of their age all of a user's would be read.

The index knows words. Where a query needs more (see `content.query`), the texts of a window are compared
here, newest first, as many as MAX_COMPARED characters allow; a window ends where they do.
"""

import sys
from datetime import datetime
from itertools import islice
from typing import LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.lexemes import MAX_CHARACTERS
from mai_sessions.content.query import Query, parse_query
from mai_sessions.content.snippets import snippet
from mai_sessions.pagination import ALWAYS, NEVER, SearchPosition, search_cursor
from mai_sessions.postgres.connection import Connection, fetch_all

ROLES = ("user", "assistant", "system", "tool")
NOTHING_TO_SEARCH_FOR = "The query holds no word and no symbol to search for."

# The most windows that a request reads if none of their texts matches.
MAX_WINDOWS = 3
MAX_COMPARED = 1_000_000
MIN_LOOKED_THROUGH = 4_000
_WINDOW: LiteralString = "200"
WINDOW = int(_WINDOW)


START = SearchPosition()
# The position before all results of a window.
_BEST = START[:3]

_MESSAGE_COLUMNS: LiteralString = "m.id, m.session_id, m.seq, m.role, m.created_at, m.content, m.words"
# The columns that _MESSAGE_FILTER reads.
_FILTERED_COLUMNS: LiteralString = "m.id, m.session_id, m.role, m.agent_name, m.model_id, m.created_at"
_MESSAGE_FILTER: LiteralString = """
               m.session_id = coalesce(%(session_id)s::uuid, m.session_id)
           AND m.role = ANY (%(roles)s)
           AND m.agent_name IS NOT DISTINCT FROM coalesce(%(agent_name)s, m.agent_name)
           AND m.model_id IS NOT DISTINCT FROM coalesce(%(model_id)s, m.model_id)
           AND m.created_at >= %(since)s AND m.created_at < %(until)s
           AND (m.created_at, m.id) < (%(messages_before)s, %(message_before)s)"""

_TITLE_FILTER: LiteralString = """
               t.session_id = coalesce(%(session_id)s::uuid, t.session_id)
           AND t.created_at >= %(since)s AND t.created_at < %(until)s
           AND (t.created_at, t.session_id) < (%(titles_before)s, %(title_before)s)
           AND (%(agent_name)s::text IS NULL AND %(model_id)s::text IS NULL OR EXISTS (
               SELECT FROM sessions AS s
                WHERE s.user_id = %(user_id)s AND s.id = t.session_id
                  AND s.agent_name = coalesce(%(agent_name)s, s.agent_name)
                  AND s.model_id IS NOT DISTINCT FROM coalesce(%(model_id)s, s.model_id)))"""

SEARCH: LiteralString = f"""
    WITH /* search */ latest_sessions AS MATERIALIZED (
        SELECT id, message_count, updated_at
          FROM sessions
         WHERE user_id = %(user_id)s AND NOT archived
         ORDER BY updated_at DESC, id DESC
         LIMIT 64),
    newest_week AS MATERIALIZED (
        SELECT floor(extract(epoch FROM least(%(until)s, %(messages_before)s, greatest(
                   (SELECT max(updated_at) FROM latest_sessions),
                   (SELECT max(updated_at) FROM sessions WHERE user_id = %(user_id)s
                    AND archived)))) / 691200)::int AS week),
    size AS MATERIALIZED (
        SELECT %(may_be_common)s
               AND ((SELECT session_count > 500 FROM users WHERE user_id = %(user_id)s)
                    OR (SELECT sum(message_count) > 5000 FROM latest_sessions)) AS has_many),
    sample AS MATERIALIZED (
        SELECT count(*) FILTER (WHERE {_MESSAGE_FILTER}
                                  AND m.words @@ %(query)s::tsquery) * 4 >= greatest(count(*), 4) AS is_common
          FROM (SELECT id FROM latest_sessions LIMIT 8) AS s
         CROSS JOIN LATERAL (
               SELECT {_FILTERED_COLUMNS}, m.words
                 FROM messages AS m
                WHERE m.user_id = %(user_id)s AND m.session_id = s.id
                ORDER BY m.seq DESC
                LIMIT 3) AS m
         WHERE (SELECT has_many FROM size)),
    title_sample AS MATERIALIZED (
        SELECT count(*) FILTER (WHERE t.words @@ %(query)s::tsquery) * 4 >= greatest(count(*), 4) AS is_common
          FROM (SELECT id FROM latest_sessions LIMIT 16) AS s
         CROSS JOIN LATERAL (
               SELECT t.words
                 FROM session_titles AS t
                WHERE t.user_id = %(user_id)s AND t.session_id = s.id
               OFFSET 0) AS t
         WHERE (SELECT has_many FROM size) AND %(with_titles)s),
    common_messages AS MATERIALIZED (
        SELECT {_MESSAGE_COLUMNS}
          FROM (SELECT {_FILTERED_COLUMNS}, m.seq, m.content, m.words
                  FROM (SELECT id
                          FROM sessions
                         WHERE user_id = %(user_id)s AND NOT archived
                         ORDER BY updated_at DESC, id DESC
                         LIMIT 400) AS s
                 CROSS JOIN LATERAL (
                       SELECT {_FILTERED_COLUMNS}, m.seq, m.content, m.words
                         FROM messages AS m
                        WHERE m.user_id = %(user_id)s AND m.session_id = s.id
                        ORDER BY m.seq DESC
                        LIMIT 500) AS m
                 LIMIT 10000) AS m
         WHERE (SELECT is_common FROM sample)
           AND {_MESSAGE_FILTER}
           AND m.words @@ %(query)s::tsquery
         LIMIT {_WINDOW}),
    recent_messages AS MATERIALIZED (
        SELECT {_MESSAGE_COLUMNS}
          FROM messages AS m
         WHERE m.user_id = %(user_id)s AND {_MESSAGE_FILTER}
           AND m.words @@ (
               SELECT format(%(recent_query)s, to_hex(week), to_hex(week - 1), week,
                             week - 1)::tsquery FROM newest_week)
           AND (SELECT count(*) FROM common_messages) < {_WINDOW}
         ORDER BY m.created_at DESC, m.id DESC
         LIMIT {_WINDOW}),
    all_messages AS MATERIALIZED (
        SELECT {_MESSAGE_COLUMNS}
          FROM messages AS m
         WHERE m.user_id = %(user_id)s AND {_MESSAGE_FILTER}
           AND m.words @@ %(query)s::tsquery
           AND (SELECT count(*) FROM common_messages) < {_WINDOW}
           AND (SELECT count(*) FROM recent_messages) < {_WINDOW}
         ORDER BY m.created_at DESC, m.id DESC
         LIMIT {_WINDOW}),
    found_messages AS (
        SELECT {_MESSAGE_COLUMNS}, sum(octet_length(m.content)) OVER newest_first AS compared,
               row_number() OVER newest_first AS place
          FROM (SELECT {_MESSAGE_COLUMNS}
                  FROM common_messages AS m
                 WHERE (SELECT count(*) FROM common_messages) = {_WINDOW}
                 UNION ALL
                SELECT {_MESSAGE_COLUMNS}
                  FROM recent_messages AS m
                 WHERE (SELECT count(*) FROM recent_messages) = {_WINDOW}
                 UNION ALL
                SELECT {_MESSAGE_COLUMNS}
                  FROM all_messages AS m) AS m
        WINDOW newest_first AS (ORDER BY m.created_at DESC, m.id DESC)),
    messages_in_window AS MATERIALIZED (
        SELECT {_MESSAGE_COLUMNS}
          FROM found_messages AS m
         WHERE m.compared <= %(max_compared)s OR m.place = 1),
    common_titles AS MATERIALIZED (
        SELECT t.session_id, t.created_at, t.words
          FROM (SELECT id
                  FROM sessions
                 WHERE user_id = %(user_id)s AND NOT archived
                 ORDER BY updated_at DESC, id DESC
                 LIMIT 2000) AS s
         CROSS JOIN LATERAL (
               SELECT t.session_id, t.created_at, t.words
                 FROM session_titles AS t
                WHERE t.user_id = %(user_id)s AND t.session_id = s.id
               OFFSET 0) AS t
         WHERE (SELECT is_common FROM title_sample)
           AND t.words @@ %(query)s::tsquery AND {_TITLE_FILTER}
         LIMIT {_WINDOW}),
    found_titles AS MATERIALIZED (
        SELECT t.session_id, t.created_at, t.words
          FROM (SELECT t.session_id, t.created_at, t.words
                  FROM session_titles AS t
                 WHERE t.user_id = %(user_id)s AND t.words @@ %(query)s::tsquery
                   AND %(with_titles)s AND (SELECT count(*) FROM common_titles) < {_WINDOW}
                OFFSET 0) AS t
         WHERE {_TITLE_FILTER}
         ORDER BY t.created_at DESC, t.session_id DESC
         LIMIT {_WINDOW}),
    titles AS (
        SELECT session_id, created_at, words
          FROM common_titles
         WHERE (SELECT count(*) FROM common_titles) = {_WINDOW}
         UNION ALL
        SELECT session_id, created_at, words
          FROM found_titles),
    ranked AS (
        SELECT session_id AS id, session_id, NULL::int AS seq, NULL AS role, created_at, NULL AS content,
               1 + ts_rank(words, %(query)s::tsquery)::float8 AS rank
          FROM titles
         UNION ALL
        SELECT id, session_id, seq, role, created_at, content, ts_rank(words, %(query)s::tsquery)::float8
          FROM messages_in_window),
    page AS (
        SELECT id, session_id, seq, role, created_at, content, rank
          FROM ranked
         WHERE (rank, created_at, id) < (%(after_rank)s, %(after_created_at)s, %(after_id)s)
         ORDER BY rank DESC, created_at DESC, id DESC
         LIMIT %(limit)s + 1),
    window_end AS (
        SELECT (SELECT count(*) FROM common_messages) = {_WINDOW}
            OR (SELECT count(*) FROM common_titles) = {_WINDOW} AS is_last,
               m.created_at AS messages_before, m.id AS message_before,
               t.created_at AS titles_before, t.session_id AS title_before
          FROM (SELECT) AS one
          LEFT JOIN (SELECT created_at, id FROM messages_in_window
                      WHERE (SELECT count(*) = {_WINDOW}
                             OR count(*) > (SELECT count(*) FROM messages_in_window) FROM found_messages)
                      ORDER BY created_at, id LIMIT 1) AS m ON true
          LEFT JOIN (SELECT created_at, session_id FROM titles
                      WHERE (SELECT count(*) FROM titles) = {_WINDOW}
                      ORDER BY created_at, session_id LIMIT 1) AS t ON true)
    SELECT e.is_last, e.messages_before, e.message_before, e.titles_before, e.title_before, now(), p.rank,
           p.created_at, p.id, p.session_id,
           (SELECT s.title FROM sessions AS s WHERE s.user_id = %(user_id)s AND s.id = p.session_id),
           p.seq, p.role, left(p.content, %(max_characters)s), to_json(p.created_at)
      FROM window_end AS e
      LEFT JOIN page AS p ON true
     ORDER BY p.rank DESC, p.created_at DESC, p.id DESC"""


class WindowEnd(NamedTuple):
    """Where a window ends: at the oldest message and title in it, or null if there are no older ones; whether
    it is the last although there may be more; and when it was read.
    """

    is_last: bool
    messages_before: datetime | None
    message_before: UUID | None
    titles_before: datetime | None
    title_before: UUID | None
    now: datetime


class Row(NamedTuple):
    """A message, or a title, which has no `seq`."""

    rank: float
    created_at: datetime
    id: UUID
    session_id: UUID
    title: str
    seq: int | None
    role: str | None
    content: str
    created_at_json: str

    @property
    def text(self) -> str:
        """The text that was searched."""
        return self.title if self.seq is None else self.content


def search(
    conn: Connection,
    user_id: str,
    *,
    q: str,
    limit: int,
    role: str | None = None,
    agent_name: str | None = None,
    model_id: str | None = None,
    session_id: UUID | None = None,
    since: datetime = ALWAYS,
    until: datetime = NEVER,
    after: SearchPosition = START,
) -> bytes:
    """Find titles and messages with every word of `q`. Returns a page as JSON, the best of a window first.

    `since` is the first time that counts, `until` the first that does not. `after` is the position of
    `next_cursor`, at which the page begins.
    """
    query = parse_query(user_id, q, session_id)
    if query is None:
        return orjson.dumps(
            {"results": [], "next_cursor": None, "truncated": False, "detail": NOTHING_TO_SEARCH_FOR}
        )
    params = {
        "user_id": user_id,
        "max_characters": MAX_CHARACTERS,
        "query": query.tsquery,
        "recent_query": query.recent_tsquery,
        "roles": [role] if role else list(ROLES),
        "with_titles": role is None,
        "agent_name": agent_name,
        "model_id": model_id,
        "session_id": session_id,
        "since": since,
        "max_compared": MAX_COMPARED // query.compared_terms if query.compared_terms else sys.maxsize,
    }
    for _ in range(MAX_WINDOWS):
        params["until"] = min(until, after.read_at)
        end, rows = _read_window(conn, query, params, after, limit)
        following = _next_position(end, rows, after, limit)
        if rows or following is None:
            break
        after = following
    return orjson.dumps(
        {
            "results": _results(rows[:limit], query),
            "next_cursor": search_cursor(following) if following else None,
            "truncated": following is None and end.is_last,
        }
    )


def _results(rows: list[Row], query: Query) -> list[dict[str, object]]:
    return [
        {
            "session": {"id": row.session_id, "title": row.title},
            "message_id": None if row.seq is None else row.id,
            "seq": row.seq,
            "role": row.role,
            "snippet": snippet(text, query.terms),
            # As PostgreSQL writes it, so that a time has one form in all responses.
            "created_at": orjson.Fragment(row.created_at_json),
        }
        for row, text in zip(rows, _cut_texts(rows), strict=True)
    ]


def _cut_texts(rows: list[Row]) -> list[str]:
    """Return the texts that snippets are made of: ASCII texts whole, of the others MAX_COMPARED characters in
    all, and of each text after these the first characters.
    """
    left = MAX_COMPARED
    texts = []
    for row in rows:
        text = row.text if row.text.isascii() else row.text[: max(left, MIN_LOOKED_THROUGH)]
        left -= 0 if text.isascii() else len(text)
        texts.append(text)
    return texts


def _read_window(
    conn: Connection, query: Query, params: dict[str, object], after: SearchPosition, limit: int
) -> tuple[WindowEnd, list[Row]]:
    """Read the end of a window, and its best results after a position: at most one more than `limit`."""
    keys = after[: len(_BEST)]
    # All of the window is read if some of it turns out not to match.
    first_key, key_limit = (_BEST, 2 * WINDOW) if query.compared_terms else (keys, limit)
    position = {
        "after_rank": first_key[0],
        "after_created_at": first_key[1],
        "after_id": first_key[2],
        "messages_before": after.messages_before,
        "message_before": after.message_before,
        "titles_before": after.titles_before,
        "title_before": after.title_before,
        "may_be_common": after.messages_before == NEVER and params["session_id"] is None,
        "limit": key_limit,
    }
    records = fetch_all(conn, SEARCH, params | position)
    end = WindowEnd(*records[0][: len(WindowEnd._fields)])
    rows = (Row(*record[len(WindowEnd._fields) :]) for record in records)
    found = (row for row in rows if row.id)
    if query.compared_terms:
        found = (row for row in found if row[: len(_BEST)] < keys and query.matches(row.text))
    return end, list(islice(found, limit + 1))


def _next_position(
    end: WindowEnd, rows: list[Row], after: SearchPosition, limit: int
) -> SearchPosition | None:
    """Return where the page after these rows begins: in the same window, in the next one, or nowhere."""
    read_at = min(end.now, after.read_at)
    if len(rows) > limit:
        last = rows[limit - 1]
        return after._replace(rank=last.rank, created_at=last.created_at, id=last.id, read_at=read_at)
    if end.is_last or (end.messages_before is None and end.titles_before is None):
        return None
    return SearchPosition(
        messages_before=end.messages_before or ALWAYS,
        message_before=end.message_before or UUID(int=0),
        titles_before=end.titles_before or ALWAYS,
        title_before=end.title_before or UUID(int=0),
        read_at=read_at,
    )
