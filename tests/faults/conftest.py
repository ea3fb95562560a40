"""PostgreSQL and the service for the tests of faults, and the table of the results."""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from postgres import Postgres, RunProgram, failed_checks
from support.figures import Figures
from support.service import Service, running

_FIGURES = "figures"
_COLUMNS = (
    "fault",
    "sent",
    "acknowledged",
    "retried",
    "lost",
    "doubled",
    "first success",
    "longest",
    "statuses",
)


@pytest.fixture(scope="session", autouse=True)
def _own_postgresql() -> None:
    if "TEST_DATABASE_URL" in os.environ:
        pytest.skip("these stop and kill PostgreSQL, so they need the embedded one")


@pytest.fixture(scope="module")
def postgres(data_dir: Path) -> Iterator[Postgres]:
    """A PostgreSQL for the module."""
    postgres = Postgres(data_dir)
    yield postgres
    postgres.close()


@pytest.fixture(scope="module")
def service(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service with its default settings."""
    with running(postgres.url, tmp_path_factory.mktemp("service") / "log") as service:
        yield service


@pytest.fixture
def report(
    record_property: Callable[[str, Any], None], run_program: RunProgram, postgres: Postgres
) -> Callable[[Figures], None]:
    """Check the figures of a fault, and record them for the table."""

    def report(figures: Figures, *also: str, url: str = postgres.url, within: float = 2) -> None:
        record_property(_FIGURES, {**asdict(figures), "statuses": dict(figures.statuses)})
        assert not figures.lost
        assert not figures.doubled
        assert set(figures.statuses) <= {"201", "503", *also}
        # A busy machine has 3 seconds more.
        assert figures.first_success is None or figures.first_success < within + 3
        assert failed_checks(run_program, url) == {}

    return report


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table, a row for each fault."""
    reports = [
        report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])
    ]
    rows = [_row(value) for report in reports for name, value in report.user_properties if name == _FIGURES]
    if rows:
        widths = [max(map(len, column)) for column in zip(_COLUMNS, *rows, strict=True)]
        for row in (_COLUMNS, *rows):
            terminalreporter.write_line(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )


def _row(figures: dict[str, Any]) -> tuple[str, ...]:
    statuses = ", ".join(f"{number} {status}" for status, number in sorted(figures["statuses"].items()))
    return (*(_cell(figures[name.replace(" ", "_")]) for name in _COLUMNS[:-1]), statuses)


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f} s" if value else ""
    return "" if value is None else str(value)
