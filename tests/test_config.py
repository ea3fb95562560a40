import os
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from mai_sessions.cli import main
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError

DOCUMENT = Path(__file__).parents[1] / "docs/settings.md"


def test_document_has_the_table_of_settings() -> None:
    table = CliRunner().invoke(main, ["config", "--markdown"]).output
    assert len(table.splitlines()) == len(fields(Settings)) + 2
    text = DOCUMENT.read_text(encoding="utf-8")
    if "WRITE_SETTINGS" in os.environ:
        text = text[: text.index("| variable |")] + table
        DOCUMENT.write_text(text, encoding="utf-8")
    assert text.endswith(table), "run `make settings`"


def test_config_prints_what_is_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cret@localhost/db")
    monkeypatch.setenv("MAI_SESSIONS_JWT_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("MAI_SESSIONS_TRUSTED_PROXIES", "unix, 10.0.0.0/8")
    monkeypatch.setenv("MAI_SESSIONS_ALLOW_ANONYMOUS", "yes")
    result = CliRunner().invoke(main, ["config"])
    assert result.exit_code == 0
    printed = dict(line.split("=", 1) for line in result.output.splitlines())
    assert "s3cret" not in result.output
    assert printed["DATABASE_URL"] == printed["MAI_SESSIONS_JWT_SECRET"] == "********"
    assert printed["MAI_SESSIONS_URL_SECRET"] == ""
    assert printed["MAI_SESSIONS_TRUSTED_PROXIES"] == "unix,10.0.0.0/8"
    assert printed["MAI_SESSIONS_ALLOW_ANONYMOUS"] == "1"
    assert Settings.from_environ().jwt_secret == "s3cret"
    assert "s3cret" not in repr(Settings.from_environ())


@pytest.mark.parametrize(
    ("url", "printed"),
    [
        ("https://me:s3cret@idp.example/jwks", "https://me:********@idp.example/jwks"),
        ("https://me:s3@cret@idp.example/jwks", "https://me:********@idp.example/jwks"),
        ("https://:s3cret@idp.example", "https://:********@idp.example"),
        ("https://idp.example:8443/a:b@c", "https://idp.example:8443/a:b@c"),
    ],
)
def test_config_masks_the_password_in_a_url(url: str, printed: str) -> None:
    assert dict(Settings(jwt_jwks_url=url).in_force())["MAI_SESSIONS_JWT_JWKS_URL"] == printed


def test_what_is_printed_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in Settings().in_force():
        monkeypatch.setenv(name, value)
    assert Settings.from_environ() == Settings()


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("MAI_SESSIONS_WORKRS", "MAI_SESSIONS_WORKERS?"),
        ("MAI_SESSIONS_JWT_SECRETFILE", "MAI_SESSIONS_JWT_SECRET_FILE?"),
        ("MAI_SESSIONS_ZZZ", "MAI_SESSIONS_ZZZ"),
    ],
)
def test_unknown_variable(monkeypatch: pytest.MonkeyPatch, name: str, suggestion: str) -> None:
    monkeypatch.setenv(name, "s3cret")
    with pytest.raises(StartupError) as caught:
        Settings.from_environ()
    assert name in str(caught.value)
    assert str(caught.value).endswith(suggestion)
    assert "s3cret" not in str(caught.value)
    assert CliRunner().invoke(main, ["config"]).exit_code == 1


def test_secret_file_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAI_SESSIONS_JWT_SECRET_FILE", "/nonexistent")
    with pytest.raises(StartupError, match="MAI_SESSIONS_JWT_SECRET_FILE"):
        Settings.from_environ()
