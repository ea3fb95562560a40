"""The longest titles and user ids: an entry of an index holds at most 2,704 bytes."""

import random

import pytest

from mai_sessions.ids import new_id
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository.creations import NewSession, create_session
from mai_sessions.repository.session_list import list_sessions

# Notes (U+1D15E) fold to twelve bytes each, Hebrew letters with points (U+FB2C) to six.
ALPHABETS = {
    "notes": [*range(0x1D15E, 0x1D165), *range(0x1D1BB, 0x1D1C1)],
    "letters with points": [*range(0xFB2C, 0xFB37), *range(0xFB46, 0xFB4F)],
    "other planes": [*range(0x20000, 0x2A6D0)],
}


@pytest.mark.parametrize("letters", ALPHABETS.values(), ids=ALPHABETS)
def test_longest_title_of_the_longest_user_id_is_stored_and_found(
    conn: Connection, letters: list[int]
) -> None:
    rng = random.Random(7)
    user_id = "".join(map(chr, rng.choices(range(0x30000, 0x31350), k=255)))
    title = "".join(map(chr, rng.choices(letters, k=255)))
    session_id = new_id()
    create_session(conn, user_id, NewSession(session_id, title, "chat"))
    page = list_sessions(conn, user_id, search=title, limit=1, offset=0)
    assert str(session_id).encode() in page.body
