"""The files of the migrations: their names, headers and statements.

A file is called `NNNN_verb_noun.sql` and is never edited after its release. Two header lines mean something:

`-- migrate: breaking`: code that does not know the file must not run on a database that has it.

`-- migrate: no-transaction`: the file is one `CREATE [UNIQUE] INDEX CONCURRENTLY IF NOT EXISTS name …;` or
`DROP INDEX CONCURRENTLY IF EXISTS name;`, which PostgreSQL refuses inside a transaction. An interrupted one
runs again, after the INVALID index of that name is dropped.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from importlib.resources.abc import Traversable

from mai_sessions.errors import StartupError

MIGRATIONS = files("mai_sessions.sql") / "migrations"

_FILE_NAME = re.compile(r"(\d{4})_[a-z0-9]+(?:_[a-z0-9]+)+\.sql")
_HEADER = re.compile(r"^-- migrate: *(.*?) *$", re.MULTILINE)
_COMMENT = re.compile(r"--.*")
_CONCURRENT_INDEX = re.compile(
    r"(?:CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS|DROP INDEX CONCURRENTLY IF EXISTS) (\w+)\b[^;]*;"
)
_TABLE = re.compile(r"\s*CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
# A comment, a string, a quoted name, a dollar-quoted string, or one other character.
_TOKEN = re.compile(
    r"--[^\n]*|/\*.*?\*/|[eE]'(?:[^'\\]|\\.)*'|'[^']*'|\"[^\"]*\"|\$(\w*)\$.*?\$\1\$|.", re.DOTALL
)


@dataclass(frozen=True)
class Migration:
    """A file. `name` is the file's without `.sql`; `index` is the one that it makes or drops outside a
    transaction.
    """

    version: int
    name: str
    sql: str
    sha256: str
    breaking: bool
    index: str | None

    @property
    def statements(self) -> list[str]:
        """The statements of the file, one by one, each with the comments before it."""
        return list(split_statements(self.sql))


def discover(directory: Traversable = MIGRATIONS) -> list[Migration]:
    """Read the files of a directory, in order. Raises StartupError for one that breaks the rules above."""
    paths = sorted(
        (path for path in directory.iterdir() if path.name.endswith(".sql")), key=lambda path: path.name
    )
    migrations = [_parse(path) for path in paths]
    if not migrations:
        raise StartupError("no migration files: the installation of mai-sessions is broken")
    for expected, migration in enumerate(migrations, start=1):
        if migration.version != expected:
            raise StartupError(f"migration {migration.name} stands where number {expected:04} should")
    return migrations


def split_statements(sql: str) -> Iterator[str]:
    """Split a script where a semicolon ends a statement."""
    start = 0
    for token in _TOKEN.finditer(sql):
        if token[0] == ";":
            yield sql[start : token.end()].strip()
            start = token.end()
    if _COMMENT.sub("", sql[start:]).strip():
        yield sql[start:].strip()


def created_table(statement: str) -> str | None:
    """Return the name of the table that a statement creates, or None."""
    match = _TABLE.match(_COMMENT.sub("", statement))
    return match[1] if match else None


def _parse(path: Traversable) -> Migration:
    match = _FILE_NAME.fullmatch(path.name)
    if not match:
        raise StartupError(f"migration {path.name}: its name is not NNNN_verb_noun.sql in lower case")
    sql = path.read_text(encoding="utf-8")
    headers = set(_HEADER.findall(sql))
    if unknown := headers - {"breaking", "no-transaction"}:
        raise StartupError(f"migration {path.name}: unknown header `-- migrate: {min(unknown)}`")
    index = None
    if "no-transaction" in headers:
        statement = _CONCURRENT_INDEX.fullmatch(" ".join(_COMMENT.sub("", sql).split()))
        if not statement:
            raise StartupError(
                f"migration {path.name}: without a transaction it must be one CREATE INDEX CONCURRENTLY IF "
                f"NOT EXISTS or DROP INDEX CONCURRENTLY IF EXISTS"
            )
        index = statement[1]
    digest = sha256(sql.encode()).hexdigest()
    return Migration(int(match[1]), path.name.removesuffix(".sql"), sql, digest, "breaking" in headers, index)
