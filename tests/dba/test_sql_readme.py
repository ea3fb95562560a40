"""The headers of the scripts, and sql/README.md, which is generated from them."""

import os
import re

import pytest
from support.scripts import CHANGES, CHECKS, DBA, REPORTS, SCRIPTS, head, header

README = DBA.parent / "README.md"
FOLDERS = {
    "": "Roles, and all checks at once",
    "check": "Checks: each prints the rows that are wrong",
    "report": "Reports",
    "maintain": "Maintenance: a dry run, unless `-v apply=1`",
    "subject": "Requests of a user: export and erasure",
    "citus": "Several machines",
}


def markdown() -> str:
    """Return the README."""
    lines = [
        "# SQL",
        "",
        "<!-- `make sql-readme` writes this from the headers of the scripts. -->",
        "",
        "[schema.sql](schema.sql) shows the schema on one page, [migrations](migrations) are the steps that",
        "make it, and [dba](dba) has scripts for `psql`. The header of a script gives its usage and",
        "variables. The roles are those of `roles.sql`. [tuning.md](dba/tuning.md) lists the settings that",
        "matter, [citus/rebalance.md](dba/citus/rebalance.md) describes a cluster of several machines.",
        "",
        "On the host of [deploy.md](../docs/deploy.md), `mai-sessions psql health.sql` runs a script on the",
        "database of the service, and `-v NAME=VALUE` sets a variable. From elsewhere, run psql in the",
        "directory of the script, with the URL of the role that the table names:",
        "",
        '    cd "$(mai-sessions scripts --path)/report"',
        '    psql -X "$READONLY_URL" -f health.sql',
        "",
        "Without roles, the owner of the database may run all of them. The reports that read statistics show",
        "the sessions of other roles only to readonly, members of `pg_monitor` and superusers, and say so.",
        "Each script stops at the first error, with exit code 3.",
    ]
    for folder, title in FOLDERS.items():
        lines += [
            "",
            f"## {title}",
            "",
            "| script | what it does | role | safety |",
            "| --- | --- | --- | --- |",
        ]
        for script in SCRIPTS:
            if script.rpartition("/")[0] == folder:
                what = head(script).partition("\n")[0].removeprefix("-- ")
                lines.append(
                    f"| [{script}](dba/{script}) | {what} | {header(script, 'Role')} | "
                    f"{header(script, 'Safety')} |"
                )
    return "\n".join(lines) + "\n"


def test_readme_matches_the_headers() -> None:
    if "WRITE_SQL_README" in os.environ:
        README.write_text(markdown(), encoding="utf-8")
    assert README.read_text(encoding="utf-8") == markdown(), "run `make sql-readme`"


@pytest.mark.parametrize("script", SCRIPTS)
def test_header_matches_the_script(script: str) -> None:
    text = (DBA / script).read_text(encoding="utf-8")
    _, _, code = text.partition("\n\n")
    assert re.match(r"-- [A-Z].*\.\n--\n-- Usage:     psql -X \"\$DATABASE_URL\" ", text)
    assert f"-f {script.rpartition('/')[2]}" in header(script, "Usage")
    start = re.match(
        r"\\set ON_ERROR_STOP on\n\\set variables '([a-z_! ]*)'\n(?:\\if .+\n)*\\ir (?:\.\./)?prepare.psql\n",
        code,
    )
    assert start, "each script takes its settings and the checks of its variables from prepare.psql"

    block = re.search(r"^-- Variables: ((?:.+\n)(?:--   .+\n)*)", text, re.MULTILINE)
    assert block
    documented = dict(re.findall(r"^(?:--)? {0,12}([a-z_]+) +(.*)", block[1], re.MULTILINE))
    documented.pop("none", None)
    assert [
        name + ("!" if "(no default)" in meaning else "") for name, meaning in documented.items()
    ] == start[1].split()
    # Names that a script defines, and the result of a check for check_all.sql.
    used = set(re.findall(r"(?<!:):(?:\{\?|['\"])?([a-z_]+)", re.sub("--.*", "", code)))
    made = set(re.findall(r"AS (\w+)\b", code)) | set(re.findall(r"\\set (\w+)", code)) | {"found"}
    assert used - documented.keys() <= made

    safety = header(script, "Safety")
    assert safety.startswith(("read only", "writes"))
    assert re.search("(Safe|Not safe) while serving", safety)
    if script in CHECKS + REPORTS + ["subject/export_user.sql"]:
        assert header(script, "Role") == "readonly"
        assert "READ ONLY;" in code
    if script in CHANGES:
        assert header(script, "Role") == (
            "owner" if script == "maintain/rebuild_indexes.sql" else "maintenance"
        )
        assert "apply" in documented


def test_every_script_is_in_a_known_folder() -> None:
    assert {script.rpartition("/")[0] for script in SCRIPTS} == set(FOLDERS)
