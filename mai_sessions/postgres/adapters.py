"""Values that go to PostgreSQL, and come from it, as the bytes that they are."""

from collections.abc import Callable
from typing import Any, NamedTuple

import psycopg
from psycopg.abc import Buffer
from psycopg.adapt import Dumper, Loader
from psycopg.pq import Format
from psycopg.rows import TupleRow
from psycopg.types.json import JsonDumper
from psycopg.types.string import StrDumperUnknown

# The largest value, in bytes, of a connection that is used again: libpq never shrinks its buffers.
LARGE_VALUE = 8 * 1024 * 1024


class Json(bytes):
    """Compact JSON, as the value of a parameter of type json or jsonb."""


class JsonOf(NamedTuple):
    """Compact JSON that is written when it is sent, so that it is not in memory afterwards."""

    write: Callable[[], bytes]


class Utf8(NamedTuple):
    """A text as UTF-8, as the value of a parameter of type text."""

    text: bytes


class AdaptedConnection(psycopg.Connection[TupleRow]):
    """A connection that takes these values, and leaves JSON as PostgreSQL wrote it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Whether it has sent or received a LARGE_VALUE, and so keeps much memory.
        self.is_large = False
        self.adapters.register_loader("json", _BytesLoader)
        self.adapters.register_loader("jsonb", _BytesLoader)
        self.adapters.register_loader("bytea", _BinaryLoader)
        self.adapters.register_dumper(Json, _JsonDumper)
        self.adapters.register_dumper(JsonOf, _JsonOfDumper)
        self.adapters.register_dumper(Utf8, _Utf8Dumper)


class _BytesLoader(Loader):
    """Passes JSON that PostgreSQL built to the client unchanged."""

    def load(self, data: Buffer) -> bytes:
        content = bytes(data)
        if len(content) > LARGE_VALUE and isinstance(self.connection, AdaptedConnection):
            self.connection.is_large = True
        return content


class _BinaryLoader(_BytesLoader):
    """The same for bytea in a binary result."""

    format = Format.BINARY


class _Utf8Dumper(Dumper):
    """Passes UTF-8 to PostgreSQL unchanged, of the type that a str has."""

    oid = StrDumperUnknown.oid

    def dump(self, obj: Utf8) -> bytes:
        return obj.text


class _JsonOfDumper(Dumper):
    """Writes JSON."""

    oid = JsonDumper.oid

    def dump(self, obj: JsonOf) -> bytes:
        return obj.write()


class _JsonDumper(Dumper):
    """Passes serialized JSON to PostgreSQL unchanged."""

    oid = JsonDumper.oid

    def dump(self, obj: Json) -> Json:
        return obj
