"""SECURITY.md names existing tests."""

import re

from support.service import TREE

SECURITY = (TREE / "SECURITY.md").read_text(encoding="utf-8")


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(tests/[^`]*)`", SECURITY)
    assert named
    assert [path for path in named if not (TREE / path).is_file()] == []


def test_every_threat_names_a_test() -> None:
    rows = [line.split(" | ") for line in SECURITY.splitlines() if line.startswith("| ")][2:]
    assert rows
    assert [row[0] for row in rows if len(row) != 3 or not re.search("`tests/|`make ", row[2])] == []
