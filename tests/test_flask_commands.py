"""`flask mai-sessions`, the commands in a host application."""

import re
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from flask.cli import ScriptInfo

from mai_sessions import MaiSessions


@pytest.fixture
def run() -> Callable[..., Result]:
    def run(app: Flask, *arguments: str) -> Result:
        return app.test_cli_runner().invoke(args=["mai-sessions", *arguments])

    return run


def make_host(url: str, **config: Any) -> Flask:
    app = Flask("host")
    app.config.update(MAI_SESSIONS_DATABASE_URL=url, **config)
    MaiSessions(app, identify=lambda: "ann")
    return app


def test_commands_use_the_settings_of_the_application(
    run: Callable[..., Result], new_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://of-the-host")
    app = make_host(new_database, MAI_SESSIONS_THREADS=7)
    assert run(app, "check").exit_code == 1
    assert run(app, "migrate").exit_code == 0
    assert run(app, "check").output == "ok\n"
    printed = run(app, "config").output
    assert "MAI_SESSIONS_THREADS=7\n" in printed
    assert printed.startswith("MAI_SESSIONS_DATABASE_URL=")


def test_commands_of_the_server_are_left_out(run: Callable[..., Result], database_url: str) -> None:
    app = make_host(database_url)
    assert "serve" not in run(app, "--help").output
    assert run(app, "serve").exit_code == 2


def test_help_names_no_private_database(run: Callable[..., Result], database_url: str) -> None:
    app = make_host(database_url)
    names = re.findall(r"^  (\w+) ", run(app, "--help").output.partition("Commands:")[2], re.M)
    assert "migrate" in names
    for name in names:
        shown = run(app, name, "--help").output
        assert not re.search(r"private|data-dir|\bDATABASE_URL", shown), shown


def test_commands_are_those_of_the_application_alone(run: Callable[..., Result], database_url: str) -> None:
    app = make_host(database_url)
    assert "Manage the sessions" in app.test_cli_runner().invoke(args=["--help"]).output
    assert "reindex" in run(app, "--help").output
    assert "No such command 'mai-sessions'" in run(Flask("other"), "check").output


def test_plugin_of_flask_names_an_application_without_the_extension() -> None:
    [plugin] = entry_points(group="flask.commands", name="mai-sessions")
    script = ScriptInfo(create_app=lambda: Flask("other"))
    result = Flask("other").test_cli_runner().invoke(plugin.load(), ["check"], obj=script)
    assert (result.exit_code, result.output) == (
        1,
        "Error: this application does not register MaiSessions\n",
    )
