"""The calls: the same for every target that has them, with the repository function that serves each."""

import json
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

from bench.data import (
    CHINESE,
    COMMON_TITLE,
    COMMON_WORD,
    NEW_MESSAGE,
    RARE_TITLE,
    RARE_WORD,
    Rows,
    archived_user,
    branched_user,
)
from bench.statements import Run
from bench.targets import Server
from mai_sessions.auth.identity import DEFAULT_USER as USER
from mai_sessions.content.message import NewMessage
from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository import appends, creations, messages, search, session_list, sessions

_API = "/api/v1"
MESSAGE = json.dumps({"role": "user", "content": NEW_MESSAGE})
_TITLE = "A session of the benchmark"
_SESSION = json.dumps({"title": _TITLE, "agent_name": "chat"})


class Call(NamedTuple):
    """A call: the requests to each target, and the runs of the repository function that serves it."""

    name: str
    requests: Mapping[str, list[str]]
    runs: list[Run]
    body: str = ""
    # The parameter that must be new in each run.
    fresh: str | None = None
    # The goals: requests per second relative to the seed (at least), CPU time relative to the limit and the
    # expert (at most).
    seed: float | None = None
    limit: float | None = None
    expert: float | None = None


def calls(rows: Rows) -> list[Call]:
    """Return the calls, reads before writes."""
    return [*_lists(rows), *_details(rows), *_writes(rows)]


def _get(path: str) -> list[str]:
    return [f"GET {_API}{path}"]


def _each(method: str, session_ids: list[UUID], path: str = "") -> list[str]:
    return [f"{method} {_API}/sessions/{session_id}{path}" for session_id in session_ids]


def _lists(rows: Rows) -> list[Call]:
    page = "limit=50"
    found = f"{page}&search={RARE_TITLE}"
    many = rows.sessions > 500
    return [
        Call(
            f"list of 50, {rows.sessions:,} sessions",
            {
                "ours": _get(f"/sessions?{page}"),
                "seed": _get(f"/sessions/?{page}"),
                "expert": _get(f"/sessions?{page}"),
            },
            [lambda conn: session_list.list_sessions(conn, USER, search="", limit=50, offset=0)],
            seed=60,
            limit=1.4,
            expert=0.6 if many else 1.4,
        ),
        Call(
            "title search, 5 hits",
            {
                "ours": _get(f"/sessions?{found}"),
                "seed": _get(f"/sessions/?{found}"),
                "expert": _get(f"/sessions?{found}"),
            },
            [lambda conn: session_list.list_sessions(conn, USER, search=RARE_TITLE, limit=50, offset=0)],
            seed=15,
            limit=1.5,
            expert=2,
        ),
        Call(
            "message search, 5 hits",
            {"ours": _get(f"/search?q={RARE_WORD}"), "expert": _get(f"/search?q={RARE_WORD}")},
            [lambda conn: search.search(conn, USER, q=RARE_WORD, limit=20)],
            limit=1.5,
            expert=1.8,
        ),
    ]


def _details(rows: Rows) -> list[Call]:
    # Not the sessions that appends go to, which grow with each measurement of a kept set.
    read = [rows.session_id(rows.sessions * number // 51 + 1) for number in range(1, 51)]
    long = rows.session_id(0)
    return [
        Call(
            "detail, 20 messages",
            dict.fromkeys(("ours", "seed", "expert"), _each("GET", read)),
            [partial(sessions.get_session, user_id=USER, session_id=id) for id in read],
            seed=4,
            limit=1.4,
            expert=1.5,
        ),
        Call(
            "detail, 50 of 5,000 messages",
            {"ours": _get(f"/sessions/{long}?messages_limit=50")},
            [lambda conn: sessions.get_session(conn, USER, long, messages_limit=50)],
        ),
        Call(
            "message page of 100",
            dict.fromkeys(("ours", "seed"), _get(f"/sessions/{long}/messages?limit=100")),
            [lambda conn: messages.list_messages(conn, USER, long, limit=100)],
            seed=3,
            limit=1.5,
        ),
    ]


def _writes(rows: Rows) -> list[Call]:
    appended_to = [rows.session_id(rows.sessions * number // 51) for number in range(1, 51)]
    return [
        Call(
            "append",
            dict.fromkeys(("ours", "seed", "expert"), _each("POST", appended_to, "/messages")),
            [appending(id) for id in appended_to],
            body=MESSAGE,
            fresh="message_id",
            seed=4,
            limit=1.6,
            expert=2,
        ),
        Call(
            "create",
            {"ours": [f"POST {_API}/sessions"], "seed": [f"POST {_API}/sessions/"]},
            [create],
            body=_SESSION,
            fresh="session_id",
            seed=4,
            limit=1.7,
        ),
    ]


def appending(session_id: UUID) -> Run:
    """Append the same message as the requests."""
    tokens = NEW_MESSAGE.count(" ") + 1
    message = NewMessage("user", NEW_MESSAGE, tokens)
    return lambda conn: appends.append_messages(conn, USER, session_id, [message])


def create(conn: Connection) -> sessions.SessionReply:
    """Create the same session as the requests."""
    return creations.create_session(conn, USER, creations.NewSession(new_id(), _TITLE, "chat"))


class Flat(NamedTuple):
    """Requests of a user whose cost must not grow with the rows."""

    user: str
    requests: list[str]


def flat_calls(server: Server, user: str) -> dict[str, Flat]:
    """Return the calls that must not slow down with more rows, and last two whose work does grow."""

    def sessions(user: str, query: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(server.body_of(f"GET {_API}/sessions?{query}", user=user))
        return found

    listed = sessions(user, "limit=50")
    # The last but one page: for the user with 50,000 sessions, page 2,499.
    before = sessions(user, f"limit=20&offset={listed['total'] - 40}")
    ids, branched_ids = (
        [session["id"] for session in page["sessions"][:25]]
        for page in (listed, sessions(branched_user(user), "limit=25"))
    )
    paths = {
        "list of 50": ["/sessions?limit=50"],
        "last page of 20, by cursor": [f"/sessions?limit=20&cursor={before['next_cursor']}"],
        "detail, newest 20": [f"/sessions/{id}?messages_limit=20" for id in ids],
        "title search, 5 hits": [f"/sessions?limit=50&search={RARE_TITLE}"],
        "message search, 5 hits": [f"/search?q={RARE_WORD}"],
        "message search, no hit": ["/search?q=nowhere"],
        "message search, 量子": [f"/search?q={quote(CHINESE)}"],
    }
    growing = {
        "title search, every title": [f"/sessions?limit=50&search={COMMON_TITLE}"],
        "message search, nearly every message": [f"/search?q={COMMON_WORD}"],
    }
    archived, branched = archived_user(user), branched_user(user)
    branched_pages = [f"GET {_API}/sessions/{id}/messages?limit=10" for id in branched_ids]
    branched_appends = [f"POST {_API}/sessions/{id}/messages" for id in branched_ids]
    return {
        **{name: Flat(user, [f"GET {_API}{path}" for path in these]) for name, these in paths.items()},
        "append": Flat(user, [f"POST {_API}/sessions/{id}/messages" for id in ids]),
        "list of 50 archived": Flat(archived, [f"GET {_API}/sessions?limit=50&archived=true"]),
        "list of 50, all archived": Flat(archived, [f"GET {_API}/sessions?limit=50&archived=any"]),
        "page of 10 of a session with branches": Flat(branched, branched_pages),
        "append to a session with branches": Flat(branched, branched_appends),
        **{name: Flat(user, [f"GET {_API}{path}" for path in these]) for name, these in growing.items()},
    }


def mixture(rows: Rows) -> list[str]:
    """Return requests of all kinds."""
    read, written = (
        [rows.session_id(number) for number in range(start, start + 100)] for start in (100, 200)
    )
    paths = [
        "/sessions?limit=50",
        f"/sessions?search={RARE_TITLE}",
        f"/search?q={RARE_WORD}",
        f"/sessions/{rows.session_id(0)}/messages",
    ]
    paths += [f"/sessions/{id}" for id in read]
    return [f"GET {_API}{path}" for path in paths] + [f"POST {_API}/sessions/{id}/messages" for id in written]
