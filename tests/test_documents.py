"""The documents: their links, and the commands, targets and settings that they name."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from urllib.parse import unquote

import pytest

from mai_sessions.cli import main
from mai_sessions.config import Settings

TREE = Path(__file__).parents[1]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "bench/*.md", "clients/*/README.md", "sql/**/*.md")
    for page in TREE.glob(pattern)
)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(TREE)))


def prose(page: Path) -> str:
    """Return a page without its blocks of code, in which brackets are no links."""
    return re.sub(r"(?ms)^```.*?^```$", "", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the fragments of the headings of a page, as GitHub and GitLab form them."""
    headings = re.findall(r"(?m)^#+ +(.*)$", prose(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[tuple[Path, str]]:
    for target in re.findall(r"\]\(([^()\s]+)\)", prose(page)):
        if not re.match(r"[a-z]+:", target):
            path, _, fragment = unquote(target).partition("#")
            yield (page.parent / path).resolve() if path else page, fragment


@each_page
def test_links_resolve(page: Path) -> None:
    for path, fragment in links(page):
        assert path.exists(), path
        if fragment and path.suffix == ".md":
            assert fragment in anchors(path), f"{path}#{fragment}"


@each_page
def test_named_commands_and_targets_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (TREE / "Makefile").read_text("utf-8")))
    named = re.findall(r"(?m)(?:`|^    )make ([a-z][a-z0-9-]+)", text)
    assert [target for target in named if target not in targets] == []
    for name, options in re.findall(r"(?:`|^ +|/bin/)mai-sessions ([a-z]+)((?: [^`\n]*)?)", text, re.M):
        command = main.commands.get(name)
        assert command, f"mai-sessions {name}"
        known = {option for each in command.params for option in each.opts} | {"--help", "--version"}
        assert set(re.findall(r"(?<= |\[)--[a-z-]+", options)) <= known, f"mai-sessions {name}{options}"


@each_page
def test_named_settings_exist(page: Path) -> None:
    known = {field.metadata["env"] for field in fields(Settings)}
    # In an application, this key of app.config stands for DATABASE_URL.
    known.add("MAI_SESSIONS_DATABASE_URL")
    named = re.findall(r"`((?:MAI_SESSIONS|DATABASE)_[A-Z_]*[A-Z])(?![A-Z_…])", page.read_text("utf-8"))
    assert {name for name in named if name.removesuffix("_FILE") not in known and name not in known} == set()


@each_page
def test_tables_have_a_row_on_each_line(page: Path) -> None:
    rules = [line.strip() for line in prose(page).splitlines() if "| ---" in line or "---: |" in line]
    assert [line for line in rules if not re.fullmatch(r"\|( :?-+:? \|)+", line)] == []
