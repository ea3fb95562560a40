"""The size of a message: bytes of its row, of its index entries, and of WAL, for English and code."""

import random
import re
import string
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import NamedTuple

import psycopg

from bench import data
from bench.stage import Stage
from bench.statements import WalCounter
from mai_sessions.content.message import NewMessage
from mai_sessions.ids import new_id
from mai_sessions.postgres import migrations
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository import appends, creations

_MESSAGES, _IN_SESSION = 2000, 40
_USER = "bench"
# The most frequent words of English by frequency (Zipf); the others are invented, as names are.
_COMMON = re.findall(
    r"\w+",
    """the of and to a in is that it for was on are as with they be at one have this from or had by but
    not what all were we when your can said there use an each which she do how their if will up other about
    out many then them these so some her would make like him into time has look two more write go see number
    no way could people my than first water been call who its now find long down day did get come made may""",
)
_CODE = """def {0}({1}, *, {2}=None):
    if {1} is None or {2} == '{3}':
        raise ValueError(f"{0}: {{{1}!r}}")
    for index, {3} in enumerate({1}.items()):
        self.{2}[{3}] += index * {4}
    return {1}[{4}:]

"""


class Stored(NamedTuple):
    """Bytes of a message: its table, with TOAST, the indexes of that, all other tables, and WAL."""

    row: float
    indexes: float
    other: float
    wal: float

    @property
    def total(self) -> float:
        """The bytes on disk."""
        return self.row + self.indexes + self.other


def measure(stage: Stage) -> dict[str, dict[str, Stored]]:
    """Store messages of each kind by the repository, and by the statement of the expert."""
    found: dict[str, dict[str, Stored]] = {}
    for kind, texts in (("English", _english), ("code", _code)):
        for length in (200, 1000):
            found[f"{kind}, {length:,} characters"] = {
                name: _store(stage, name, texts(length)) for name in ("ours", *stage.expert)
            }
    return found


def _english(length: int) -> Iterator[str]:
    rng = random.Random(length)
    rare = ["".join(rng.choices(string.ascii_lowercase, k=rng.randint(5, 11))) for _ in range(8000)]
    words = _COMMON + rare
    weights = [1 / place for place in range(1, len(words) + 1)]
    while True:
        yield " ".join(rng.choices(words, weights, k=length // 4))[:length]


def _code(length: int) -> Iterator[str]:
    rng = random.Random(length)
    names = ["_".join(rng.choices(_COMMON, k=rng.randint(1, 3))) for _ in range(600)]
    while True:
        pieces = (_CODE.format(*rng.choices(names, k=4), rng.randint(0, 99)) for _ in count())
        text = ""
        while len(text) < length:
            text += next(pieces)
        yield text[:length]


def _store(stage: Stage, name: str, texts: Iterator[str]) -> Stored:
    url = stage.new_database(f"{name}_storage")
    if name == "ours":
        migrations.migrate(url, "on")
    else:
        stage.make_expert_tables(url)
    # A first session, so that the first pages of tables and indexes are not counted.
    _append(url, name, texts, _IN_SESSION)
    before = _sizes(url)
    with WalCounter(url) as wal:
        _append(url, name, texts, _MESSAGES)
        after = _sizes(url)
    row, indexes, other = ((now - then) / _MESSAGES for now, then in zip(after, before, strict=True))
    return Stored(row, indexes, other, wal.bytes / _MESSAGES)


def _append(url: str, name: str, texts: Iterator[str], messages: int) -> None:
    if name == "ours":
        _append_ours(url, texts, messages)
    else:
        _append_expert(url, texts, messages)


def _append_ours(url: str, texts: Iterator[str], messages: int) -> None:
    with Connection.connect(url, autocommit=True) as conn:
        for _ in range(messages // _IN_SESSION):
            session_id = new_id()
            creations.create_session(conn, _USER, creations.NewSession(session_id, "A session", "chat"))
            for _ in range(_IN_SESSION):
                text = next(texts)
                message = NewMessage("user", text, text.count(" ") + 1)
                appends.append_messages(conn, _USER, session_id, [message])


def _append_expert(url: str, texts: Iterator[str], messages: int) -> None:
    with psycopg.connect(url, autocommit=True) as conn:
        for number in range(messages // _IN_SESSION):
            now = datetime.now(UTC)
            session_id = new_id()
            added = [
                data.Message(new_id(), seq, "user", next(texts), now) for seq in range(1, _IN_SESSION + 1)
            ]
            conversation = data.Conversation(_USER, session_id, f"A session {number}", now, added)
            for table, rows_of in data.LAYOUTS["expert"].items():
                for row in rows_of(conversation):
                    _insert(conn, table, row)


def _insert(conn: psycopg.Connection[tuple[object, ...]], table: str, row: tuple[object, ...]) -> None:
    conn.execute(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(row))})", row)


def _sizes(url: str) -> tuple[int, int, int]:
    """Return the bytes of the messages, of their indexes, and of all other tables, with their indexes."""
    with psycopg.connect(url, autocommit=True) as conn:
        # VACUUM moves the pending words into their index.
        conn.execute("VACUUM")
        row = conn.execute("""
            SELECT pg_table_size('messages'), pg_indexes_size('messages'), (
                   SELECT sum(pg_total_relation_size(relid))
                     FROM pg_stat_user_tables
                    WHERE relname <> 'messages')""").fetchone()
    assert row
    return tuple(map(int, row))  # type: ignore[return-value]  # three columns


def table(found: dict[str, dict[str, Stored]]) -> str:
    """Write the table in Markdown."""
    lines = [
        "| bytes a message | target | row | its indexes | other tables | all | WAL |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind, stored in found.items():
        for name, each in stored.items():
            lines.append(
                f"| {kind if name == 'ours' else ''} | {name} | {each.row:,.0f} | {each.indexes:,.0f} "
                f"| {each.other:,.0f} | {each.total:,.0f} | {each.wal:,.0f} |"
            )
    return "\n".join(lines)
