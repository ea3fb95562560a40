"""The statements that read all data of a user, in pages."""

import base64
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import LiteralString, NamedTuple
from uuid import UUID

import orjson

from mai_sessions.content.attachments import LINK
from mai_sessions.errors import NotFound
from mai_sessions.postgres.connection import Connection, fetch_all, fetch_one
from mai_sessions.repository.columns import MESSAGE_COLUMNS, MESSAGE_ROW, SUMMARY_COLUMNS

Connect = Callable[[], AbstractContextManager[Connection]]

_PAGE = 50
# A page of messages ends with the one that takes its texts above this size, in bytes.
_PAGE_BYTES = 1024 * 1024
_PIECE_BYTES = 64 * 1024
# The position before all sessions in the order of an export. It is not a datetime, because a session may have
# the first one.
START = ("-infinity", UUID(int=0))


class ExportedSession(NamedTuple):
    """A session: its place in the order of the export, and its JSON without messages."""

    created_at: datetime
    id: UUID
    body: bytes


class ExportedMessage(NamedTuple):
    """A message: its JSON, and the SHA-256 of its images and of the files in its parts."""

    seq: int
    body: bytes
    images: Sequence[str]
    part_attachments: Sequence[str]


LIST_SESSIONS: LiteralString = f"""
    SELECT /* list_exported_sessions */ t.created_at, t.session_id, row_to_json(r)
      FROM session_titles AS t
      JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = t.session_id
     CROSS JOIN LATERAL (SELECT {SUMMARY_COLUMNS}) AS r
     WHERE t.user_id = %(user_id)s AND (t.created_at, t.session_id) > (%(after_created_at)s, %(after_id)s)
     ORDER BY t.created_at, t.session_id
     LIMIT %(limit)s"""


def list_exported_sessions(
    conn: Connection, user_id: str, *, after: tuple[datetime | str, UUID] = START, limit: int
) -> list[ExportedSession]:
    """Read a page of sessions, oldest first; `after` is the time and id of the session before the page."""
    params = {"user_id": user_id, "after_created_at": after[0], "after_id": after[1], "limit": limit}
    return [ExportedSession(*row) for row in fetch_all(conn, LIST_SESSIONS, params)]


GET_SESSION: LiteralString = f"""
    SELECT /* get_exported_session */ t.created_at, t.session_id, row_to_json(r)
      FROM session_titles AS t
      JOIN sessions AS s ON s.user_id = %(user_id)s AND s.id = t.session_id
     CROSS JOIN LATERAL (SELECT {SUMMARY_COLUMNS}) AS r
     WHERE t.user_id = %(user_id)s AND t.session_id = %(session_id)s"""


def get_exported_session(conn: Connection, user_id: str, session_id: UUID) -> ExportedSession:
    """Read one session. Raises NotFound."""
    row = fetch_one(conn, GET_SESSION, {"user_id": user_id, "session_id": session_id})
    if row is None:
        raise NotFound("Session not found")
    return ExportedSession(*row)


LIST_MESSAGES: LiteralString = f"""
    SELECT /* list_exported_messages */ m.seq, row_to_json(r), m.images, m.part_attachments
      FROM (SELECT {MESSAGE_ROW}, sum(octet_length(m.content))
                   OVER (ORDER BY m.seq ROWS UNBOUNDED PRECEDING) - octet_length(m.content) AS bytes_before
              FROM (SELECT {MESSAGE_ROW}
                      FROM messages AS m
                     WHERE m.user_id = %(user_id)s AND m.session_id = %(session_id)s
                       AND m.seq > %(after_seq)s
                     ORDER BY m.seq
                     LIMIT %(limit)s) AS m) AS m
     CROSS JOIN LATERAL (SELECT {MESSAGE_COLUMNS}) AS r
     WHERE m.bytes_before < %(max_bytes)s
     ORDER BY m.seq"""


def list_exported_messages(
    conn: Connection, user_id: str, session_id: UUID, *, after_seq: int = 0, limit: int, max_bytes: int
) -> list[ExportedMessage]:
    """Read a page of the messages of all branches of a session, oldest first. It ends at `limit` messages, or
    with the one that takes their texts to `max_bytes`.
    """
    params = {
        "user_id": user_id,
        "session_id": session_id,
        "after_seq": after_seq,
        "limit": limit,
        "max_bytes": max_bytes,
    }
    return [ExportedMessage(*row) for row in fetch_all(conn, LIST_MESSAGES, params)]


GET_FILE: LiteralString = """
    SELECT /* get_exported_file */ a.content_type, a.content, a.file_name
      FROM attachments AS a
     WHERE a.user_id = %(user_id)s AND a.sha256 = %(sha256)s"""


def get_exported_file(conn: Connection, user_id: str, sha256: str) -> dict[str, str | None]:
    """Read an attachment as a data URL, and the name of the file. Both are None if it is gone."""
    row = fetch_one(conn, GET_FILE, {"user_id": user_id, "sha256": sha256}, binary=True)
    if row is None:
        return {"url": None, "name": None}
    content_type, content, name = row
    return {"url": f"data:{content_type};base64,{base64.b64encode(content).decode()}", "name": name}


def stream_export(
    connect: Connect, user_id: str, *, session_id: UUID | None = None, with_files: bool = False
) -> Iterator[bytes]:
    """Yield the sessions of a user, or one, with all their messages: a line of JSON each, in pieces.

    A connection is checked out for each page, so that a slow reader holds none. `with_files` puts data URLs
    in the place of links to images, and adds `attachments`, the files that parts link to. Raises NotFound,
    before anything is yielded, for a session that does not exist.
    """
    buffer, size = [], 0
    for session in _sessions(connect, user_id, session_id):
        for piece in _line(connect, user_id, session, with_files):
            buffer.append(piece)
            size += len(piece)
            if size >= _PIECE_BYTES:
                yield b"".join(buffer)
                buffer, size = [], 0
    yield b"".join(buffer)


def _sessions(connect: Connect, user_id: str, session_id: UUID | None) -> Iterator[ExportedSession]:
    if session_id is not None:
        with connect() as conn:
            session = get_exported_session(conn, user_id, session_id)
        yield session
        return
    after: tuple[datetime | str, UUID] = START
    while True:
        with connect() as conn:
            page = list_exported_sessions(conn, user_id, after=after, limit=_PAGE)
        yield from page
        if len(page) < _PAGE:
            return
        after = (page[-1].created_at, page[-1].id)


def _messages(connect: Connect, user_id: str, session_id: UUID) -> Iterator[ExportedMessage]:
    after_seq = 0
    while True:
        with connect() as conn:
            page = list_exported_messages(
                conn, user_id, session_id, after_seq=after_seq, limit=_PAGE, max_bytes=_PAGE_BYTES
            )
        yield from page
        if len(page) < _PAGE and sum(len(message.body) for message in page) < _PAGE_BYTES:
            return
        after_seq = page[-1].seq


def _line(connect: Connect, user_id: str, session: ExportedSession, with_files: bool) -> Iterator[bytes]:
    """Yield a session in pieces, as PostgreSQL wrote it. No piece ends within a link; a file is one piece."""
    yield session.body[:-1] + b',"messages":['
    linked: dict[str, None] = {}
    separator = b""
    for message in _messages(connect, user_id, session.id):
        linked |= dict.fromkeys(message.part_attachments)
        yield separator
        yield from _with_images(connect, user_id, message) if with_files else [message.body]
        separator = b","
    if with_files:
        yield b'],"attachments":['
        for number, sha256 in enumerate(linked):
            yield (b"," if number else b"") + orjson.dumps(_file(connect, user_id, sha256))
    yield b"]}\n"


def _with_images(connect: Connect, user_id: str, message: ExportedMessage) -> Iterator[bytes]:
    """Yield a message with its images as data URLs, and its parts with plain links."""
    # Parts may contain the same member, but only before this one.
    images = b'"images":' + orjson.dumps(["\0" + sha256 for sha256 in message.images])
    before, _, after = message.body.rpartition(images)
    yield before.replace(b'"\\u0000', b'"' + LINK.encode()) + b'"images":['
    for number, sha256 in enumerate(message.images):
        yield (b"," if number else b"") + orjson.dumps(_file(connect, user_id, sha256)["url"])
    yield b"]" + after


def _file(connect: Connect, user_id: str, sha256: str) -> dict[str, str | None]:
    with connect() as conn:
        return get_exported_file(conn, user_id, sha256)
