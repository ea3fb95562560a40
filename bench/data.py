"""The rows: invented conversations, the same for every target, and the tables of each target."""

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from itertools import chain, islice
from typing import Any, NamedTuple
from uuid import UUID

import click
import psycopg

from mai_sessions.auth.identity import DEFAULT_USER
from mai_sessions.content.lexemes import message_vector, title_vector

# Each is in five titles or five messages of the measured user.
RARE_TITLE, RARE_WORD, CHINESE = "okapi", "quetzal", "量子"
# In every title, or in nearly every message.
COMMON_TITLE, COMMON_WORD = "about", "perhaps"
MESSAGES, LONG, CHARACTERS = 20, 5000, 400

# The numbers of the users with archived sessions and with branches follow these.
_ARCHIVED, _BRANCHED = 10_000, 20_000
_PLANTED = {1: RARE_TITLE, 2: RARE_WORD, 3: CHINESE}
_rng = random.Random(7)


def _word() -> str:
    return "".join(
        _rng.choice(("bcdfghklmnprstvw", "aeiou")[place % 2]) for place in range(_rng.randint(2, 9))
    )


def _text() -> str:
    return " ".join([COMMON_WORD, *_rng.choices(_WORDS, k=100)])[:CHARACTERS].rstrip()


_WORDS = sorted({_word() for _ in range(4000)})
_TEXTS = [_text() for _ in range(10_000)]
NEW_MESSAGE = _text()
NEW_ANSWER = " ".join(_text() for _ in range(21))


class Message(NamedTuple):
    """A message with the fields that every target has."""

    id: UUID
    seq: int
    role: str
    content: str
    created_at: datetime

    @property
    def words(self) -> int:
        """The number of words."""
        return self.content.count(" ") + 1


class Conversation(NamedTuple):
    """A session with its messages, oldest first."""

    user_id: str
    id: UUID
    title: str
    created_at: datetime
    messages: list[Message]
    is_archived: bool = False
    is_branched: bool = False

    def parent_seq(self, seq: int) -> int | None:
        """Return the parent of a message where it is not the message before it. In a session with branches,
        every fifth message replaces the one before it.
        """
        return seq - 2 if self.is_branched and seq % 5 == 0 else None


class Rows(NamedTuple):
    """How many sessions the measured user has, a minute apart until `end`, and how many each of the
    others.
    """

    end: datetime
    sessions: int
    others: int = 0
    their_sessions: int = 0
    their_messages: int = 0

    @property
    def total(self) -> int:
        """The number of all sessions."""
        return self.sessions + self.others * self.their_sessions

    def session_id(self, number: int) -> UUID:
        """Return the id of a session of the measured user. Number 0 is the oldest, and the long one."""
        return _id(self._moment(number), 0, number, 0)

    def conversations(self) -> Iterator[Conversation]:
        """Yield all conversations, those of the measured user first."""
        for number in range(self.sessions):
            yield self._conversation(
                0, number, MESSAGES if number else LONG, _PLANTED.get(number % (self.sessions // 5))
            )
        for user in range(1, self.others + 1):
            for number in range(self.their_sessions):
                yield self._conversation(user, number, self.their_messages, _PLANTED.get(number))

    def added_conversations(self) -> Iterator[Conversation]:
        """Yield what no reference has: beside the measured user and the first of the others, a user with as
        many archived sessions, and a user with a tenth as many sessions with branches.
        """
        for user, sessions in ((0, self.sessions), (1, self.their_sessions)):
            for number in range(sessions):
                archived = self._conversation(_ARCHIVED + user, number, 2, None)
                yield archived._replace(user_id=archived_user(_user_id(user)), is_archived=True)
            for number in range(sessions // 10):
                branched = self._conversation(_BRANCHED + user, number, MESSAGES, None)
                yield branched._replace(user_id=branched_user(_user_id(user)), is_branched=True)

    def _moment(self, number: int) -> datetime:
        return self.end - timedelta(minutes=self.sessions - number)

    def _conversation(self, user: int, number: int, messages: int, planted: str | None) -> Conversation:
        rng = random.Random(user << 32 | number)
        moment = self._moment(number)
        title = " ".join([*rng.choices(_WORDS, k=4), COMMON_TITLE])
        texts = rng.choices(_TEXTS, k=messages)
        if planted == RARE_TITLE:
            title = f"{title} {planted}"
        elif planted:
            texts[7] = f"{texts[7][:300]} {planted} {texts[7][300:]}"[:CHARACTERS]
        return Conversation(
            _user_id(user),
            _id(moment, user, number, 0),
            title,
            moment,
            [
                Message(
                    _id(moment, user, number, seq),
                    seq,
                    ("assistant", "user")[seq % 2],
                    text,
                    moment + timedelta(seconds=2 * seq),
                )
                for seq, text in enumerate(texts, 1)
            ],
        )


def archived_user(user_id: str) -> str:
    """Return the user with as many archived sessions as this user has sessions."""
    return f"{user_id}-archived"


def branched_user(user_id: str) -> str:
    """Return the user beside this one whose sessions have branches."""
    return f"{user_id}-branched"


def rows(size: str, end: datetime) -> Rows:
    """Return the rows of a size. `large` has 100,000 sessions and 5 million messages of 1,000 users."""
    if size == "large":
        return Rows(end, 50_000, others=999, their_sessions=50, their_messages=80)
    return Rows(end, int(size.replace(",", "")))


def _user_id(user: int) -> str:
    return f"user-{user}" if user else DEFAULT_USER


def _id(moment: datetime, user: int, number: int, seq: int) -> UUID:
    """Return a UUID of version 7."""
    return UUID(
        int=int(moment.timestamp() * 1000) << 80 | 7 << 76 | 2 << 62 | user << 44 | number << 24 | seq
    )


def _naive(moment: datetime) -> datetime:
    """Return a time without a zone, as the seed stores it."""
    return moment.replace(tzinfo=None)


def _vector(c: Conversation, m: Message) -> str:
    return message_vector(c.user_id, c.id, m.created_at, m.content)


LAYOUTS: dict[str, dict[str, Callable[[Conversation], list[tuple[Any, ...]]]]] = {
    "ours": {
        """sessions (user_id, id, title, agent_name, created_at, updated_at, version, message_count, last_seq,
                     newest_seq, head_seq, head_id, last_message_preview, archived,
                     is_branched)""": lambda c: [
            (
                c.user_id,
                c.id,
                c.title,
                "chat",
                c.created_at,
                m.created_at,
                c.id,
                m.seq,
                m.seq,
                m.seq,
                m.seq,
                m.id,
                m.content[:100],
                c.is_archived,
                c.is_branched,
            )
            for m in c.messages[-1:]
        ],
        "session_titles (user_id, session_id, created_at, title, words)": lambda c: [
            (c.user_id, c.id, c.created_at, c.title.casefold(), title_vector(c.user_id, c.id, c.title))
        ],
        """messages (user_id, session_id, id, seq, parent_seq, role, content, token_count, is_error, images,
                     documents, created_at, words)""": lambda c: [
            (
                c.user_id,
                c.id,
                m.id,
                m.seq,
                c.parent_seq(m.seq),
                m.role,
                m.content,
                m.words,
                False,
                [],
                [],
                m.created_at,
                _vector(c, m),
            )
            for m in c.messages
        ],
    },
    "seed": {
        "sessions (id, user_id, title, agent_name, created_at, updated_at)": lambda c: [
            (str(c.id), c.user_id, c.title, "chat", _naive(c.created_at), _naive(c.messages[-1].created_at))
        ],
        "messages (id, session_id, role, content, token_count, is_error, created_at)": lambda c: [
            (str(m.id), str(c.id), m.role, m.content, m.words, False, _naive(m.created_at))
            for m in c.messages
        ],
    },
    "expert": {
        """sessions (user_id, id, title, created_at, updated_at, message_count,
                     last_message_preview)""": lambda c: [
            (c.user_id, c.id, c.title, c.created_at, m.created_at, m.seq, m.content[:100])
            for m in c.messages[-1:]
        ],
        "messages (user_id, session_id, seq, id, role, content, token_count, created_at)": lambda c: [
            (c.user_id, c.id, m.seq, m.id, m.role, m.content, m.words, m.created_at) for m in c.messages
        ],
    },
}
_INDEXES = """
    SELECT indexname, indexdef FROM pg_indexes
     WHERE schemaname = 'public' AND indexname NOT IN (SELECT conname FROM pg_constraint)"""


def load(database_url: str, target: str, rows: Rows) -> None:
    """Fill the tables of a target."""
    # Without foreign keys and indexes, millions of rows load much faster.
    with psycopg.connect(
        database_url, autocommit=True, options="-c session_replication_role=replica"
    ) as conn:
        conn.execute("SET maintenance_work_mem = '1GB'")
        indexes = conn.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            conn.execute(f"DROP INDEX {name}")
        conversations = rows.conversations()
        if target == "ours":
            conversations = chain(conversations, rows.added_conversations())
        with click.progressbar(length=rows.total, label=f"{target:6} {rows.total:7,} sessions") as bar:
            while batch := list(islice(conversations, 200)):
                for table, rows_of in LAYOUTS[target].items():
                    with conn.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                        for row in (row for conversation in batch for row in rows_of(conversation)):
                            copy.write_row(row)
                bar.update(len(batch))
        if target == "ours":
            conn.execute(
                "INSERT INTO users (user_id, session_count, archived_count) "
                "SELECT user_id, count(*), count(*) FILTER (WHERE archived) FROM sessions GROUP BY user_id"
            )
        for _, definition in indexes:
            conn.execute(definition)


def settle(database_url: str) -> None:
    """Run VACUUM and CHECKPOINT. Dead rows, pending words and dirty pages would slow down the measurement."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute("VACUUM (FREEZE, ANALYZE)")
        conn.execute("CHECKPOINT")
