"""SECURITY.md names existing tests."""

import re

import pytest
from support.service import TREE

SECURITY = (TREE / "SECURITY.md").read_text(encoding="utf-8")


NAMED = re.findall(r"`(tests/[^`:]*)(?:::(\w+))?`", SECURITY)


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_named_test_exists(path: str, name: str) -> None:
    assert (TREE / path).is_file()
    assert not name or re.search(rf"(?m)^def {name}\(", (TREE / path).read_text(encoding="utf-8"))


def test_every_threat_names_a_test() -> None:
    lines = [line for line in SECURITY.splitlines() if line.startswith("| ")]
    rows = [line.split(" | ") for line in lines if not re.match(r"\| (---|threat |attack )", line)]
    assert rows
    assert [row[0] for row in rows if len(row) != 3 or not re.search("`tests/|`make ", row[2])] == []
