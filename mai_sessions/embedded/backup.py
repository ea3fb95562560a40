"""Backup and restore with PostgreSQL's programs.

pg_dump writes an archive, pg_restore turns it into a script, and psql runs the script.
"""

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from mai_sessions.errors import StartupError

# Called with the number of bytes written so far.
Progress = Callable[[int], None]
_Process = subprocess.Popen[bytes]
# Commands for psql, and programs whose output is commands.
_Script = Sequence[str | AbstractContextManager[_Process]]
_CHUNK = 1024 * 1024

# Owners and rights differ between sites: sql/dba/roles.sql sets them.
_PORTABLE = ["--no-owner", "--no-privileges"]

# On a cluster, read all rows of a node over one connection, so that the rows of a user are consistent.
_ONE_CONNECTION_A_NODE = "-c citus.max_adaptive_executor_pool_size=1"
# Of the extensions in an archive, only the one of the migrations is created. The others belong to the server,
# such as Citus or pg_stat_statements, which a role without superuser rights cannot create. Only the owner of
# an extension may comment on it.
_EXTENSION_OF_THE_SERVER = re.compile(r" EXTENSION - (?!btree_gin )| COMMENT - EXTENSION ")

# psql's \gexec runs each row as a statement.
_DROP_TABLES = """
SELECT format('DROP TABLE IF EXISTS public.%I CASCADE', relname)
  FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
\\gexec
"""
# Whether to distribute the tables, and over how many shards: as before, or the default of distribute.sql.
_FIND_CLUSTER = """
\\set is_cluster false
SELECT to_regclass('pg_catalog.pg_dist_node') IS NOT NULL AS has_citus
\\gset
\\if :has_citus
SELECT EXISTS (SELECT FROM pg_dist_node WHERE groupid <> 0 AND shouldhaveshards) AS is_cluster,
       coalesce(nullif(count(*), 0), 64) AS shards
  FROM pg_dist_shard
 WHERE logicalrelid = to_regclass('public.sessions')
\\gset
SET LOCAL citus.multi_shard_modify_mode = 'sequential';
\\endif
"""
# Distribute the empty tables, so that each row goes directly to its node.
_DISTRIBUTE_TABLES = """
\\if :is_cluster
SELECT CASE relname
       WHEN 'schema_migrations' THEN 'SELECT create_reference_table(''public.schema_migrations'')'
       WHEN 'sessions' THEN format('SELECT create_distributed_table(%L, %L, colocate_with => %L, '
                                   'shard_count => %s)',
                                   'public.sessions', 'user_id', 'none', :'shards')
       ELSE format('SELECT create_distributed_table(%L, %L, colocate_with => %L)',
                   'public.' || relname, 'user_id', 'public.sessions') END
  FROM pg_class
 WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
 ORDER BY relname <> 'sessions', relname
\\gexec
\\endif
"""
_REFUSE_ROWS = """
DO $$
DECLARE
    name     text;
    has_rows boolean;
BEGIN
    FOR name IN SELECT relname FROM pg_class
                 WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                   AND relname <> 'schema_migrations' LOOP
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM public.%I)', name) INTO has_rows;
        IF has_rows THEN
            RAISE EXCEPTION 'the database has rows in %: --force replaces them all', name;
        END IF;
    END LOOP;
END
$$;
"""


def backup(
    database_url: str, file: Path, *, programs: Path | None = None, force: bool = False, progress: Progress
) -> None:
    """Write a database to a file that only its owner can read, and that gets its name when it is complete.

    It is a snapshot of the database; on a cluster, of each node. `programs` is the directory of pg_dump, by
    default the PATH. Raises StartupError, also if the file exists, unless `force`.
    """
    if file.exists() and not force:
        raise StartupError(f"{file} exists: --force replaces it")
    part = file.with_name(f"{file.name}.part")
    try:
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600))
        with _program(
            programs, "pg_dump", "--format=custom", f"--file={part}", database_url=database_url
        ) as pg_dump:
            while True:
                try:
                    pg_dump.wait(0.5)
                    break
                except subprocess.TimeoutExpired:
                    progress(part.stat().st_size)
        with part.open("rb") as written:
            os.fsync(written.fileno())
        part.replace(file)
    except OSError as error:
        raise StartupError(f"cannot write {file}: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def restore(
    database_url: str, file: Path, *, programs: Path | None = None, force: bool = False, progress: Progress
) -> None:
    """Replace the tables of a database by those of a backup, in one transaction.

    On a cluster with worker nodes the tables are distributed. Raises StartupError and changes nothing if it
    fails, or if the database has rows, unless `force`.
    """
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as contents:
        with _program(programs, "pg_restore", "--list", str(file), stdout=subprocess.PIPE) as lister:
            assert lister.stdout
            entries = lister.stdout.read().decode().splitlines(keepends=True)
        contents.writelines(entry for entry in entries if not _EXTENSION_OF_THE_SERVER.search(entry))
        contents.flush()

        def sections(*names: str) -> AbstractContextManager[_Process]:
            arguments = [*_PORTABLE, *(f"--section={name}" for name in names), f"--use-list={contents.name}"]
            return _program(programs, "pg_restore", *arguments, "--file=-", str(file), stdout=subprocess.PIPE)

        prepare = _FIND_CLUSTER + ("" if force else _REFUSE_ROWS) + _DROP_TABLES
        script: _Script = [prepare, sections("pre-data"), _DISTRIBUTE_TABLES, sections("data", "post-data")]
        _run_script(database_url, script, programs, progress)


def copy(
    source_url: str, source_programs: Path, target_url: str, *, programs: Path, progress: Progress
) -> None:
    """Replace the tables of a database by those of a server of another version. Raises StartupError."""
    # The old pg_dump can read the old catalogs, and the new psql can read its dump.
    pg_dump = _program(
        source_programs, "pg_dump", *_PORTABLE, database_url=source_url, stdout=subprocess.PIPE
    )
    _run_script(target_url, [_DROP_TABLES, pg_dump], programs, progress)


def _run_script(
    database_url: str,
    script: _Script,
    programs: Path | None,
    progress: Progress,
) -> None:
    """Run commands, and the output of programs, by psql in one transaction."""
    arguments = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--file=-"]
    psql = _program(
        programs,
        "psql",
        *arguments,
        database_url=database_url,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    # The pipe breaks if psql fails, and psql prints the reason.
    with psql as reader, suppress(BrokenPipeError):
        assert reader.stdin
        with closing(reader.stdin):
            reader.stdin.write(b"BEGIN;\n")
            done = 0
            for part in script:
                if isinstance(part, str):
                    reader.stdin.write(part.encode())
                    continue
                with part as writer:
                    assert writer.stdout
                    while chunk := writer.stdout.read(_CHUNK):
                        reader.stdin.write(chunk)
                        done += len(chunk)
                        progress(done)
            reader.stdin.write(b"COMMIT;\nANALYZE;\n")


@contextmanager
def _program(
    programs: Path | None,
    name: str,
    *arguments: str,
    database_url: str = "",
    stdin: int | None = None,
    stdout: int | None = None,
) -> Generator[_Process]:
    """Run a program, and wait for it. Raises StartupError if it fails."""
    with ExitStack() as stack:
        command = [str(programs / name) if programs else name, *arguments]
        if database_url:
            command.append(f"--dbname={stack.enter_context(database_without_password(database_url))}")
        errors = stack.enter_context(tempfile.TemporaryFile())
        try:
            process = stack.enter_context(
                subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=errors)
            )
        except FileNotFoundError:
            raise StartupError(
                f"{name} is missing: install PostgreSQL's client programs, of the server's version"
            ) from None
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        if process.wait():
            errors.seek(0)
            text = errors.read().decode(errors="replace")
            if versions := re.search(r"server version: ([\d.]+).*; (\w+) version: ([\d.]+)", text):
                server, _, client = versions.groups()
                raise StartupError(
                    f"{name} is of PostgreSQL {client}, and the server of {server}: install the client "
                    f"programs of the server's version, before the others on the PATH"
                )
            reasons = (
                re.findall(r"(?:ERROR|FATAL|error): +(.+)", text)
                or text.strip().splitlines()[-1:]
                or ["it was killed"]
            )
            raise StartupError(f"{name}: {reasons[0]}")


@contextmanager
def database_without_password(database_url: str) -> Generator[str]:
    """Yield a connection string without the password, for a command line that every local user can read.

    libpq reads the password from a file. Raises StartupError.
    """
    try:
        parameters: dict[str, Any] = conninfo_to_dict(database_url)
    except psycopg.ProgrammingError:
        raise StartupError("DATABASE_URL is not a libpq URI") from None
    parameters["options"] = f"{parameters.get('options', '')} {_ONE_CONNECTION_A_NODE}".strip()
    password = parameters.pop("password", None)
    if password is None:
        yield make_conninfo(**parameters)
        return
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as passfile:
        escaped = re.sub(r"([\\:])", r"\\\1", str(password))
        passfile.write(f"*:*:*:*:{escaped}\n")
        passfile.flush()
        yield make_conninfo(**parameters, passfile=passfile.name)
