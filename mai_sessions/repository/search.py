"""The statement that searches titles and messages.

Ranked are the newest 200 messages and the newest 200 titles that match: titles first, then by ts_rank, then the newest first. What
is written after the first page was read is left out of the pages that follow.

A word in most messages is what makes a search slow: every row that matches would be read to find the newest. So the statement looks
among two days first, then among two months, then everywhere, and stops at the first of these that holds 200 matches. The keys of
day and month among the words of each message make the narrow looks cheap.
"""

from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.db import Connection
from mai_sessions.words import MAX_CHARACTERS, parse_query, scope, snippet

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Place(NamedTuple):
    """Where a page begins: the keys of the result before it, and when the first page was read."""

    rank: float
    created_at: datetime
    id: UUID
    read_at: datetime


_MATCHING_MESSAGES: LiteralString = """
    SELECT m.id, m.session_id, m.seq, m.role, m.created_at, m.content, m.words
      FROM messages AS m
     WHERE m.user_id = %(user_id)s
       AND (%(session_id)s::uuid IS NULL OR m.session_id = %(session_id)s::uuid)
       AND (%(role)s::text IS NULL OR m.role = %(role)s::text)
       AND (%(agent_name)s::text IS NULL OR m.agent_name = %(agent_name)s::text)
       AND (%(model_id)s::text IS NULL OR m.model_id = %(model_id)s::text)
       AND (%(since)s::timestamptz IS NULL OR m.created_at >= %(since)s::timestamptz)
       AND (%(until)s::timestamptz IS NULL OR m.created_at < %(until)s::timestamptz)
       AND (%(read_at)s::timestamptz IS NULL OR m.created_at <= %(read_at)s::timestamptz)"""
_NEWEST: LiteralString = """
     ORDER BY m.created_at DESC, m.id DESC
     LIMIT 200"""

SEARCH: LiteralString = (
    """
    WITH /* search */ newest AS (
        SELECT floor(extract(epoch FROM least(max(updated_at), %(read_at)s::timestamptz)) / 86400)::int AS day
          FROM sessions
         WHERE user_id = %(user_id)s),
    days AS MATERIALIZED ("""
    + _MATCHING_MESSAGES
    + """
       AND m.words @@ (SELECT (%(query)s || format(' & (%%1$s_d%%2$s | %%1$s_d%%3$s)', %(scope)s::text, day, day - 1))::tsquery
                         FROM newest)"""
    + _NEWEST
    + """),
    months AS MATERIALIZED ("""
    + _MATCHING_MESSAGES
    + """
       AND m.words @@ (SELECT (%(query)s || format(' & (%%1$s_m%%2$s | %%1$s_m%%3$s)', %(scope)s::text,
                                                   day / 32, day / 32 - 1))::tsquery
                         FROM newest)
       AND (SELECT count(*) FROM days) < 200"""
    + _NEWEST
    + """),
    ever AS MATERIALIZED ("""
    + _MATCHING_MESSAGES
    + """
       AND m.words @@ %(query)s::tsquery
       AND (SELECT count(*) FROM days) < 200
       AND (SELECT count(*) FROM months) < 200"""
    + _NEWEST
    + """),
    titles AS MATERIALIZED (
        SELECT t.session_id, t.created_at, t.words
          FROM session_titles AS t
         WHERE t.user_id = %(user_id)s
           AND t.words @@ %(query)s::tsquery
           AND %(role)s::text IS NULL
           AND (%(session_id)s::uuid IS NULL OR t.session_id = %(session_id)s::uuid)
           AND (%(since)s::timestamptz IS NULL OR t.created_at >= %(since)s::timestamptz)
           AND (%(until)s::timestamptz IS NULL OR t.created_at < %(until)s::timestamptz)
           AND (%(read_at)s::timestamptz IS NULL OR t.created_at <= %(read_at)s::timestamptz)
           AND (%(agent_name)s::text IS NULL AND %(model_id)s::text IS NULL OR EXISTS (
                SELECT FROM sessions AS s
                 WHERE s.user_id = %(user_id)s AND s.id = t.session_id
                   AND (%(agent_name)s::text IS NULL OR s.agent_name = %(agent_name)s::text)
                   AND (%(model_id)s::text IS NULL OR s.model_id = %(model_id)s::text)))
         ORDER BY t.created_at DESC, t.session_id DESC
         LIMIT 200),
    ranked AS (
        SELECT session_id AS id, session_id, NULL::int AS seq, NULL AS role, created_at, NULL AS content,
               1 + ts_rank(words, %(query)s::tsquery)::float8 AS rank
          FROM titles
         UNION ALL
        SELECT id, session_id, seq, role, created_at, content, ts_rank(words, %(query)s::tsquery)::float8
          FROM (SELECT * FROM days WHERE (SELECT count(*) FROM days) = 200
                 UNION ALL
                SELECT * FROM months WHERE (SELECT count(*) FROM months) = 200
                 UNION ALL
                SELECT * FROM ever) AS matches),
    page AS (
        SELECT id, session_id, seq, role, created_at, content, rank
          FROM ranked
         WHERE %(after_rank)s::float8 IS NULL
            OR (rank, created_at, id) < (%(after_rank)s::float8, %(after_created_at)s::timestamptz, %(after_id)s::uuid)
         ORDER BY rank DESC, created_at DESC, id DESC
         LIMIT %(limit)s + 1)
    SELECT page.rank, page.created_at, page.id, coalesce(%(read_at)s::timestamptz, now()), page.session_id,
           (SELECT s.title FROM sessions AS s WHERE s.user_id = %(user_id)s AND s.id = page.session_id),
           page.seq, page.role, left(page.content, %(max_characters)s)
      FROM page
     ORDER BY page.rank DESC, page.created_at DESC, page.id DESC"""
)


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
    since: datetime | None = None,
    until: datetime | None = None,
    after: tuple[float, datetime, UUID, datetime] | None = None,
) -> bytes:
    """Find titles and messages that hold every word of `q`; a page of them as JSON, the best first.

    `since` is the first moment that counts, `until` the first that does not. `after` are the keys that `next_cursor` was made of.
    """
    query = parse_query(user_id, q, session_id)
    if query is None:
        return b'{"results":[],"next_cursor":null}'
    place = Place(*after) if after else None
    rows = conn.execute(
        SEARCH,
        {
            "user_id": user_id,
            "query": query.tsquery,
            "scope": scope(user_id),
            "limit": limit,
            "role": role,
            "agent_name": agent_name,
            "model_id": model_id,
            "session_id": session_id,
            "since": since,
            "until": until,
            "read_at": place and place.read_at,
            "after_rank": place and place.rank,
            "after_created_at": place and place.created_at,
            "after_id": place and place.id,
            "max_characters": MAX_CHARACTERS,
        },
    ).fetchall()
    results = [
        {
            "session": {"id": session_id, "title": title},
            "message_id": None if seq is None else identifier,
            "seq": seq,
            "role": role,
            "snippet": snippet(title if seq is None else content, query.terms),
            "created_at": created_at,
        }
        for _, created_at, identifier, _, session_id, title, seq, role, content in rows[:limit]
    ]
    next_cursor = _cursor(Place(*rows[limit - 1][:4])) if len(rows) > limit else None
    return orjson.dumps({"results": results, "next_cursor": next_cursor})


def _cursor(place: Place) -> str:
    keys = f"{place.rank.hex()}~{_microseconds(place.created_at)}~{place.id}~{_microseconds(place.read_at)}"
    return f"{keys}~{md5(keys.encode(), usedforsecurity=False).hexdigest()[:8]}"


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
