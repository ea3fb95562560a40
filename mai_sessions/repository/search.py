"""Search titles and messages: run the statement, compare texts where needed, and make the page.

The index knows words. Where a query needs more (see `content.query`), the texts of a window are compared
here, newest first, as many as MAX_COMPARED characters allow; a window ends where they do.
"""

import sys
from datetime import datetime
from itertools import islice
from typing import NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.lexemes import MAX_CHARACTERS, WEEK_SECONDS
from mai_sessions.content.message import ROLES
from mai_sessions.content.query import Query, parse_query
from mai_sessions.content.snippets import snippet
from mai_sessions.pagination import EARLIEST, LATEST, SearchPosition, search_cursor
from mai_sessions.postgres.connection import Connection, fetch_all
from mai_sessions.repository.search_statement import SEARCH, WINDOW

NOTHING_TO_SEARCH_FOR = "The query holds no word and no symbol to search for."

# The most windows that a request reads if none of their texts matches.
MAX_WINDOWS = 3
MAX_COMPARED = 1_000_000
MIN_LOOKED_THROUGH = 4_000

START = SearchPosition()
# The position before all results of a window.
_BEST = START[:3]


class WindowEnd(NamedTuple):
    """Where a window ends: at the oldest message and title in it, or null if there are no older ones; whether
    it is the last although there may be more; and when it was read.
    """

    is_last: bool
    messages_before: datetime | None
    message_before: UUID | None
    titles_before: datetime | None
    title_before: UUID | None
    read_at: datetime


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
    since: datetime = EARLIEST,
    until: datetime = LATEST,
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
        "week_seconds": WEEK_SECONDS,
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
        "may_be_common": after.messages_before == LATEST and params["session_id"] is None,
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
    read_at = min(end.read_at, after.read_at)
    if len(rows) > limit:
        last = rows[limit - 1]
        return after._replace(rank=last.rank, created_at=last.created_at, id=last.id, read_at=read_at)
    if end.is_last or (end.messages_before is None and end.titles_before is None):
        return None
    return SearchPosition(
        messages_before=end.messages_before or EARLIEST,
        message_before=end.message_before or UUID(int=0),
        titles_before=end.titles_before or EARLIEST,
        title_before=end.title_before or UUID(int=0),
        read_at=read_at,
    )
