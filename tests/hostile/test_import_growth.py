"""The CPU time of an import grows with the text, wherever it stands in the file of any source."""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain, groupby
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
from measured import BASE, check_growth
from support.adversarial import TEXTS
from support.costs import Cost, cpu_seconds
from support.figures import FULL
from support.service import TREE

from mai_sessions.config import Settings
from mai_sessions.content.tokens import load_tokenizer
from mai_sessions.importers.run import Import, import_files
from mai_sessions.postgres.connection import Connection

FILES = TREE / "tests" / "importers" / "files"
KINDS = TEXTS if FULL else ("descending marks", "CJK, each another")


class Place(NamedTuple):
    """A text, or a key, in the first conversation of a file."""

    file: str
    path: tuple[str | int, ...]
    is_key: bool

    def __str__(self) -> str:
        return f"{self.file} {'.'.join(map(str, self.path))}{' as a key' * self.is_key}"


def read(file: str) -> Any:
    """Return the first conversation of a file."""
    text = (FILES / file).read_text()
    if file.endswith("ndjson"):
        return json.loads(text.splitlines()[0])
    document = json.loads(text)
    return document[0] if isinstance(document, list) else document


def places(files: list[str]) -> Iterator[Place]:
    """Yield one place of each name in the files of a source."""
    seen = set()
    for place in chain.from_iterable(_walk(file, read(file), ()) for file in files):
        # The ids of nodes and the indexes of lists tell no places apart.
        name = (place.is_key, *[key for key in place.path if isinstance(key, str)][-1:])
        if name not in seen:
            seen.add(name)
            yield place


def _walk(file: str, value: Any, path: tuple[str | int, ...]) -> Iterator[Place]:
    if isinstance(value, dict):
        yield Place(file, path, True)
        for key, member in value.items():
            yield from _walk(file, member, (*path, key))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            yield from _walk(file, member, (*path, index))
    elif isinstance(value, str):
        yield Place(file, path, False)


SOURCES = groupby(sorted(path.name for path in FILES.iterdir()), key=lambda name: re.split("[._]", name)[0])
PLACES = [place for _, files in SOURCES for place in places(list(files))]


def replaced(value: Any, place: Place, text: str) -> Any:
    """Put a text in a place of a conversation."""
    if not place.path:
        return {**value, text: "x"} if place.is_key else text
    key, rest = place.path[0], place._replace(path=place.path[1:])
    copy: Any = value.copy()
    copy[key] = replaced(value[key], rest, text)
    return copy


@pytest.fixture(scope="module")
def conns(make_migrated_database: Callable[[], str]) -> Iterator[list[Connection]]:
    """Two connections to a database of their own."""
    url = make_migrated_database()
    with ExitStack() as stack:
        yield [stack.enter_context(Connection.connect(url, autocommit=True)) for _ in range(2)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_cpu_time_of_an_import_grows_with_the_text(
    conns: list[Connection], tmp_path: Path, place: Place, kind: str
) -> None:
    conversation = read(place.file)
    pids = [os.getpid(), *(conn.info.backend_pid for conn in conns)]
    path = tmp_path / place.file

    def measure(times: int) -> Cost:
        document = replaced(conversation, place, TEXTS[kind](BASE * times))
        is_list = not place.file.endswith("ndjson")
        path.write_text(json.dumps([document] if is_list else document, ensure_ascii=False))
        options = Import(f"user-{uuid4()}", load_tokenizer(Settings().tokenizer))
        before = cpu_seconds(pids)
        import_files(conns, [path], options)
        return Cost(200, cpu_seconds(pids) - before, 0, 0)

    check_growth(measure, f"{place}: {kind}")
