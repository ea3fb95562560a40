"""Each statement fits the schema, names its function, and is short."""

import importlib
import inspect
import pkgutil
import re
import sys
from types import ModuleType
from typing import Any

import psycopg
import pytest

from mai_sessions import repository
from mai_sessions.postgres.connection import to_positional

MODULES = [
    importlib.import_module(f"{repository.__name__}.{info.name}")
    for info in pkgutil.iter_modules(repository.__path__)
]
# Names of statements that no function of the same module has.
_SHARED = {
    "add_messages",
    "append_messages",
    "archive_sessions",
    "change_session",
    "claim_sessions",
    "delete_sessions",
    "drop_unknown_links",
    "find_unknown",
    "lock_attachments",
    "lock_session",
    "lock_sessions",
    "lock_uploads",
    "lock_user",
    "read_reply",
    "sweep_attachments",
}
STATEMENTS = {
    id(value): pytest.param(module, value, id=f"{module.__name__.rpartition('.')[2]}.{name}")
    for module in MODULES
    for name, value in vars(module).items()
    if name.isupper() and not name.startswith("_") and isinstance(value, str) and "/* " in value
}.values()
# Where the statement alone does not say it.
_TYPES = {
    "after_seq": "integer",
    "archived": "boolean",
    "before_seq": "integer",
    "limit": "integer",
    "messages": "json",
    "messages_limit": "integer",
    "offset": "bigint",
}


@pytest.mark.parametrize(("module", "statement"), STATEMENTS)
def test_statement_fits_the_schema(conn: psycopg.Connection[Any], module: ModuleType, statement: str) -> None:
    _, text, names, _ = to_positional(statement)
    types = ", ".join(_TYPES.get(name, "unknown") for name in names)
    conn.execute(f"PREPARE statement ({types}) AS {text.decode()}")


@pytest.mark.parametrize(("module", "statement"), STATEMENTS)
def test_statement_names_its_function(module: ModuleType, statement: str) -> None:
    [name] = re.findall(r"/\* (\w+) \*/", statement)
    # The longest statement has a module of its own, for the one of its function.
    user = sys.modules[module.__name__.removesuffix("_statement")]
    assert name in _SHARED or inspect.isfunction(getattr(user, name))


@pytest.mark.parametrize(("module", "statement"), STATEMENTS)
def test_statement_of_a_write_has_under_40_lines(module: ModuleType, statement: str) -> None:
    if statement.lstrip().startswith(("INSERT", "UPDATE", "DELETE")):
        assert statement.strip().count("\n") < 39


@pytest.mark.parametrize(("module", "statement"), STATEMENTS)
def test_statement_enumerates_its_columns(module: ModuleType, statement: str) -> None:
    assert not re.search(r"SELECT \*|\b\w+\.\*", statement)
