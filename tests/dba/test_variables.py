"""A missing, misspelt or malformed variable is refused in one line, before anything is done."""

from subprocess import CalledProcessError
from typing import Any, LiteralString
from uuid import UUID

import psycopg
import pytest
from support.citus import NO_MOVES
from support.scripts import CHANGES, SCRIPTS, USERS, RunScript, header

Conn = psycopg.Connection[Any]
Chats = dict[str, list[UUID]]
ANN, NEIL, _ = USERS

PURGE, MOVE = "maintain/purge_sessions.sql", "maintain/move_user.sql"
ERASE, EXPORT = "subject/erase_user.sql", "subject/export_user.sql"
NUMBERS = "has to be a whole number from 1 to 99999"


VERSIONS: LiteralString = "SELECT s.id, s.ctid, s.xmin::text, s.user_id FROM sessions AS s ORDER BY s.id"


def refusal(run_script: RunScript, script: str, **variables: Any) -> str:
    """Run a script that must fail, and return the line that it prints."""
    with pytest.raises(CalledProcessError) as caught:
        run_script(script, **variables)
    assert caught.value.returncode == 3
    (line,) = caught.value.stdout.splitlines()
    return str(line.partition("ERROR:  ")[2])


@pytest.mark.parametrize(
    ("script", "variables", "expected"),
    [
        (PURGE, {}, "the variable days is missing: -v days=…"),
        (PURGE, {"days": ""}, "the variable days is missing: -v days=…"),
        *[
            (PURGE, {"days": days}, f'the variable days is "{days}", and {NUMBERS}')
            for days in ("0", "-1", "1.5", "x", "1;")
        ],
        (PURGE, {"days": 30, "apply": "yes"}, 'the variable apply is "yes", and has to be 0 or 1'),
        (PURGE, {"days": 30, "batch": 0}, f'the variable batch is "0", and {NUMBERS}'),
        (
            PURGE,
            {"days": 30, "user_id": ""},
            'the variable user_id is "", and has to be a text of 1 to 255 characters',
        ),
        (
            PURGE,
            {"days": 30, "user": ANN},
            "this script takes no variable user; it takes: days apply user_id batch",
        ),
        ("maintain/purge_idempotency_keys.sql", {"hours": 0}, f'the variable hours is "0", and {NUMBERS}'),
        (
            "maintain/repair_counters.sql",
            {"userid": ANN},
            "this script takes no variable userid; it takes: apply user_id",
        ),
        ("report/users.sql", {"top": "many"}, f'the variable top is "many", and {NUMBERS}'),
        (MOVE, {"to": NEIL}, "the variable from is missing: -v from=…"),
        (MOVE, {"from": ANN}, "the variable to is missing: -v to=…"),
        (MOVE, {"from": ANN, "to": ANN}, "the variables from and to name the same user"),
        pytest.param(MOVE, {"from": "nobody", "to": ANN}, 'there is no user "nobody"', marks=NO_MOVES),
        (ERASE, {}, "the variable user_id is missing: -v user_id=…"),
        (ERASE, {"user_id": "nobody"}, 'there is no user "nobody"'),
        (EXPORT, {}, "the variable user_id is missing: -v user_id=…"),
        (EXPORT, {"user_id": "nobody"}, 'there is no user "nobody"'),
    ],
)
def test_wrong_variable_is_refused(  # noqa: PLR0917 - three fixtures and three parameters
    conn: Conn, chats: Chats, run_script: RunScript, script: str, variables: dict[str, Any], expected: str
) -> None:
    conn.execute("UPDATE sessions SET updated_at = '2024-01-01Z'")
    before = conn.execute(VERSIONS).fetchall()
    apply = {"apply": 1} if script in CHANGES else {}
    assert refusal(run_script, script, **{**apply, **variables}) == expected
    assert conn.execute(VERSIONS).fetchall() == before


@pytest.mark.parametrize("script", SCRIPTS)
def test_unknown_variable_is_refused_by_every_script(conn: Conn, run_script: RunScript, script: str) -> None:
    known = {"days": 1, "from": ANN, "to": NEIL, "user_id": ANN}
    required = {name: value for name, value in known.items() if f"-v {name}=" in header(script, "Usage")}
    assert refusal(run_script, script, **required, aply=1).startswith(
        "this script takes no variable aply; it takes: "
    )
