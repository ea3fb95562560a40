"""`mai-sessions import` and `export`."""

import sys
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

import click

from mai_sessions.errors import StartupError
from mai_sessions.importers.model import Conversation, UnreadableConversation, UnreadableFile
from mai_sessions.importers.parallel import map_connections
from mai_sessions.importers.prepare import Preparation
from mai_sessions.importers.reader import Export, Refused
from mai_sessions.importers.writer import Outcome, store
from mai_sessions.postgres.connection import Connection
from mai_sessions.repository.exports import stream_export
from mai_sessions.schemas.session_changes import DEFAULT_TITLE

# While PostgreSQL stores a conversation, the next one is prepared.
IMPORT_CONNECTIONS = 2
_WORDS = ("new", "grown", "unchanged", "refused")
_BAR = 30
_TITLE = 70


class Line(NamedTuple):
    """The result for a conversation, and the number of messages added."""

    word: str
    title: str
    detail: str
    added: int = 0


class Report:
    """Prints a line for each conversation, and on a terminal a bar below them."""

    def __init__(self, total: int) -> None:
        self.words: Counter[str] = Counter()
        self.added = 0
        self._total = total
        self._started = time.monotonic()
        self._err = sys.stderr
        self._has_bar = self._err.isatty()

    def line(self, line: Line) -> None:
        """Count and print the result for a conversation."""
        self.words[line.word] += 1
        self.added += line.added
        shown = " ".join(line.title.split())
        shown = shown if len(shown) <= _TITLE else shown[: _TITLE - 1] + "…"
        self._clear_bar()
        click.echo(f"{line.word:<9}  {_printable(shown)}  ({line.detail})")
        self._show_bar()

    def error(self, path: Path, reason: str) -> None:
        """Print why a file, or the rest of it, was refused."""
        self.words["files refused"] += 1
        self._clear_bar()
        click.echo(f"{_printable(str(path))}: {_printable(reason)}", err=True)

    def summary(self, *, dry_run: bool) -> None:
        """Print the summary of all conversations."""
        self._clear_bar()
        counts = ", ".join(f"{self.words[word]:,} {word}" for word in _WORDS)
        seconds = time.monotonic() - self._started
        done = "to add; nothing was stored" if dry_run else f"added in {seconds:.1f} s"
        click.echo(f"{counts}; {self.added:,} messages {done}")

    @property
    def has_refused(self) -> bool:
        """Whether a conversation or a file was refused."""
        return bool(self.words["refused"] or self.words["files refused"])

    def _show_bar(self) -> None:
        if self._has_bar:
            done = sum(self.words[word] for word in _WORDS)
            filled = "█" * (_BAR * done // max(self._total, 1))
            self._err.write(f"[{filled:<{_BAR}}] {done:,} of {self._total:,}")
            self._err.flush()

    def _clear_bar(self) -> None:
        if self._has_bar:
            self._err.write("\r\033[K")
            self._err.flush()


@dataclass(frozen=True, slots=True)
class Import:
    """The values that all files of a command share: the user, and how chats are stored."""

    user_id: str
    count_tokens: Callable[[str], int]
    source: str | None = None
    dry_run: bool = False


def import_files(conns: Sequence[Connection], paths: Iterable[Path], options: Import) -> bool:
    """Import files on all connections at once, and return whether nothing was refused. Raises Unavailable."""
    with ExitStack() as opened:
        exports, refused = _open_all(opened, paths, options.source)
        report = Report(sum(export.count for export in exports.values()))
        for path, reason in refused.items():
            report.error(path, reason)
        for path, export in exports.items():
            for name in export.ignored:
                click.echo(f"{path}: {_printable(name)} holds no conversations and is passed over", err=True)
            work = partial(_import, path=path, options=options)
            for line in map_connections(work, conns, _readable(export, path, report)):
                report.line(line)
    report.summary(dry_run=options.dry_run)
    return not report.has_refused


def _readable(export: Export, path: Path, report: Report) -> Iterator[Conversation | Refused]:
    """Yield the conversations of a file, up to where it cannot be read."""
    try:
        yield from export.conversations()
    except UnreadableFile as error:
        report.error(path, str(error))


def _open_all(
    opened: ExitStack, paths: Iterable[Path], source: str | None
) -> tuple[dict[Path, Export], dict[Path, str]]:
    """Open each file, which reads it once to its end; give those that cannot be imported with the reason."""
    exports: dict[Path, Export] = {}
    refused: dict[Path, str] = {}
    for path in paths:
        try:
            exports[path] = opened.enter_context(Export(path, source))
        except UnreadableFile as error:
            refused[path] = str(error)
    return exports, refused


def _import(conn: Connection, found: Conversation | Refused, *, path: Path, options: Import) -> Line:
    title = found.title or DEFAULT_TITLE
    if isinstance(found, Refused):
        return Line("refused", title, found.reason)
    try:
        preparation = Preparation(found, file_name=path.name, count_tokens=options.count_tokens)
        outcome = store(conn, options.user_id, preparation, dry_run=options.dry_run)
    except UnreadableConversation as error:
        return Line("refused", title, str(error))
    return Line(outcome.word, title, _detail(outcome, found, preparation.notes), outcome.added)


def _detail(outcome: Outcome, conversation: Conversation, notes: Mapping[str, int]) -> str:
    count = len(conversation.messages) if outcome.word == "unchanged" else outcome.added
    messages = f"{count:,} {'message' if count == 1 else 'messages'}"
    return "; ".join(
        [messages, *conversation.notes, *(f"{note}: {number}" for note, number in notes.items())]
    )


def _printable(text: str) -> str:
    """Return a text without the control characters that a terminal would obey."""
    return "".join(character if character.isprintable() else " " for character in text)


def export_file(conn: Connection, user_id: str, file: str, *, force: bool) -> None:
    """Write all sessions of a user to a file, or for "-" to the standard output. Raises StartupError."""
    with _created(file, force=force) as stream:
        for piece in stream_export(lambda: nullcontext(conn), user_id, with_files=True):
            stream.write(piece)


@contextmanager
def _created(file: str, *, force: bool) -> Generator[IO[bytes]]:
    """Open a file that takes its name once it is complete; "-" is the standard output."""
    if file == "-":
        yield sys.stdout.buffer
        return
    if Path(file).exists() and not force:
        raise StartupError(f"{file} exists: --force replaces it")
    unfinished = Path(f"{file}.part")
    try:
        with unfinished.open("wb") as stream:
            yield stream
        unfinished.replace(file)
    except OSError as error:
        raise StartupError(f"{file}: {error.strerror}") from None
    finally:
        unfinished.unlink(missing_ok=True)
