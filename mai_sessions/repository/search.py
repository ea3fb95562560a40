"""The statement that searches titles and messages.

Ranked are the newest 200 messages and the newest 200 titles that match: titles first, then by ts_rank, then
the newest first. What is written after the first page was read is left out of the pages that follow.

A word in most messages is what makes a search slow: every row that matches would be read to find the newest.
So the statement looks among the last eight to sixteen days first, and everywhere only when they hold fewer
than 200 matches. A key of the week, of eight days, among the words of each message makes the first look
cheap. A prefix reads the index of all words that it begins, of one user.

PostgreSQL's CPU for one search, on a busy machine of two cores, of a user with 10,000 messages alone and of
one with a million among two million:

    no hit                        61 µs     95 µs
    a rare word, 5 hits          175 µs    360 µs
    two Chinese characters       183 µs    249 µs
    a word in most messages       12 ms     82 ms
    one letter                    16 ms    196 ms

Words that have not entered the index yet, 1 MB at the most, are read as well: that adds up to 0.7 ms.

The words cost an append of 400 characters 30 µs of PostgreSQL, 20 µs of Python and 3 kB of WAL; a PATCH of a
growing answer of up to 4,000 characters takes 0.5 ms and 14 kB of WAL. A PATCH of other columns stays HOT.
"""

from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.lexemes import MAX_CHARACTERS, parse_query, scope, snippet
from mai_sessions.postgres.connection import Connection, fetch_all

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


# Bounds that exclude nothing.
ALWAYS = datetime.min.replace(tzinfo=UTC)
NEVER = datetime.max.replace(tzinfo=UTC)
ROLES = ("user", "assistant", "system", "tool")


class Place(NamedTuple):
    """Where a page begins: the keys of the result before it, and when the first page was read."""

    rank: float
    created_at: datetime
    id: UUID
    read_at: datetime


START = Place(float("inf"), NEVER, UUID(int=0), NEVER)

_MATCHES: LiteralString = """ AS MATERIALIZED (
        SELECT m.id, m.session_id, m.seq, m.role, m.created_at, m.content, m.words
          FROM messages AS m
         WHERE m.user_id = %(user_id)s
           AND m.session_id = coalesce(%(session_id)s::uuid, m.session_id)
           AND m.role = ANY (%(roles)s)
           AND m.agent_name IS NOT DISTINCT FROM coalesce(%(agent_name)s, m.agent_name)
           AND m.model_id IS NOT DISTINCT FROM coalesce(%(model_id)s, m.model_id)
           AND m.created_at >= %(since)s AND m.created_at < %(until)s"""
_NEWEST: LiteralString = """
         ORDER BY m.created_at DESC, m.id DESC LIMIT 200)"""

SEARCH: LiteralString = (
    """
    WITH /* search */ newest AS (
        SELECT floor(extract(epoch FROM least(max(updated_at), %(until)s)) / 691200)::int AS week
          FROM sessions
         WHERE user_id = %(user_id)s),
    recent"""
    + _MATCHES
    + """
           AND m.words @@ (
               SELECT (%(query)s || format(' & (%%1$s_w%%2$s | %%1$s_w%%3$s)', %(scope)s::text, week, week - 1))::tsquery
                 FROM newest)"""
    + _NEWEST
    + """,
    ever"""
    + _MATCHES
    + """
           AND m.words @@ %(query)s::tsquery AND (SELECT count(*) FROM recent) < 200"""
    + _NEWEST
    + """,
    titles AS MATERIALIZED (
        SELECT t.session_id, t.created_at, t.words
          FROM session_titles AS t
         WHERE t.user_id = %(user_id)s AND t.words @@ %(query)s::tsquery AND %(with_titles)s
           AND t.session_id = coalesce(%(session_id)s::uuid, t.session_id)
           AND t.created_at >= %(since)s AND t.created_at < %(until)s
           AND (%(agent_name)s::text IS NULL AND %(model_id)s::text IS NULL OR EXISTS (
               SELECT FROM sessions AS s
                WHERE s.user_id = %(user_id)s AND s.id = t.session_id
                  AND s.agent_name = coalesce(%(agent_name)s, s.agent_name)
                  AND s.model_id IS NOT DISTINCT FROM coalesce(%(model_id)s, s.model_id)))
         ORDER BY t.created_at DESC, t.session_id DESC
         LIMIT 200),
    ranked AS (
        SELECT session_id AS id, session_id, NULL::int AS seq, NULL AS role, created_at, NULL AS content,
               1 + ts_rank(words, %(query)s::tsquery)::float8 AS rank
          FROM titles
         UNION ALL
        SELECT id, session_id, seq, role, created_at, content, ts_rank(words, %(query)s::tsquery)::float8
          FROM (SELECT * FROM recent WHERE (SELECT count(*) FROM recent) = 200
                 UNION ALL
                SELECT * FROM ever) AS m),
    page AS (
        SELECT id, session_id, seq, role, created_at, content, rank
          FROM ranked
         WHERE (rank, created_at, id) < (%(after_rank)s, %(after_created_at)s, %(after_id)s)
         ORDER BY rank DESC, created_at DESC, id DESC
         LIMIT %(limit)s + 1)
    SELECT p.rank, p.created_at, p.id, now(), p.session_id,
           (SELECT s.title FROM sessions AS s WHERE s.user_id = %(user_id)s AND s.id = p.session_id),
           p.seq, p.role, left(p.content, %(max_characters)s), to_json(p.created_at)
      FROM page AS p
     ORDER BY p.rank DESC, p.created_at DESC, p.id DESC"""
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
    since: datetime = ALWAYS,
    until: datetime = NEVER,
    after: tuple[float, datetime, UUID, datetime] = START,
) -> bytes:
    """Find titles and messages that hold every word of `q`; a page of them as JSON, the best first.

    `since` is the first moment that counts, `until` the first that does not. `after` are the keys that
    `next_cursor` was made of."""
    query = parse_query(user_id, q, session_id)
    if query is None:
        return b'{"results":[],"next_cursor":null}'
    place = Place(*after)
    params = {
        "user_id": user_id,
        "query": query.tsquery,
        "scope": scope(user_id),
        "limit": limit,
        "roles": [role] if role else list(ROLES),
        "with_titles": role is None,
        "agent_name": agent_name,
        "model_id": model_id,
        "session_id": session_id,
        "since": since,
        "until": min(until, place.read_at),
        "after_rank": place.rank,
        "after_created_at": place.created_at,
        "after_id": place.id,
        "max_characters": MAX_CHARACTERS,
    }
    rows = fetch_all(conn, SEARCH, params)
    results = [
        {
            "session": {"id": session_id, "title": title},
            "message_id": None if seq is None else identifier,
            "seq": seq,
            "role": role,
            "snippet": snippet(title if seq is None else content, query.terms),
            # As PostgreSQL writes it, so that a moment reads the same in every reply.
            "created_at": orjson.Fragment(created_at),
        }
        for _, _, identifier, _, session_id, title, seq, role, content, created_at in rows[:limit]
    ]
    next_cursor = None
    if len(rows) > limit:
        rank, created_at, identifier, now = rows[limit - 1][:4]
        next_cursor = _cursor(Place(rank, created_at, identifier, min(now, place.read_at)))
    return orjson.dumps({"results": results, "next_cursor": next_cursor})


def _cursor(place: Place) -> str:
    keys = f"{place.rank.hex()}~{_microseconds(place.created_at)}~{place.id}~{_microseconds(place.read_at)}"
    return f"{keys}~{md5(keys.encode(), usedforsecurity=False).hexdigest()[:8]}"


def _microseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)
