import os
import re
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from mai_sessions.cli import main
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError
from mai_sessions.setting_checks import check_database_url, refuse_unusable_socket

DOCUMENT = Path(__file__).parents[1] / "docs/settings.md"


def test_document_has_the_table_of_settings() -> None:
    table = CliRunner().invoke(main, ["config", "--markdown"]).output
    assert len(table.splitlines()) == len(fields(Settings)) + 2
    text = DOCUMENT.read_text(encoding="utf-8")
    if "WRITE_SETTINGS" in os.environ:
        text = text[: text.index("| variable |")] + table
        DOCUMENT.write_text(text, encoding="utf-8")
    assert text.endswith(table), "run `make settings`"


def test_config_prints_the_settings_in_force(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cret@localhost/db")
    monkeypatch.setenv("MAI_SESSIONS_JWT_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("MAI_SESSIONS_TRUSTED_PROXIES", "unix, 10.0.0.0/8")
    monkeypatch.setenv("MAI_SESSIONS_ALLOW_ANONYMOUS", "yes")
    result = CliRunner().invoke(main, ["config"])
    assert result.exit_code == 0
    lines = [line.partition("  # ") for line in result.output.splitlines()]
    printed = dict(line.split("=", 1) for line, _, _ in lines)
    sources = {line.partition("=")[0]: source for line, _, source in lines if source}
    assert "s3cret" not in result.output
    assert printed["DATABASE_URL"] == "postgresql://me:********@localhost/db"
    assert printed["MAI_SESSIONS_JWT_SECRET"] == "********"
    assert sources == {
        "DATABASE_URL": "environment",
        "MAI_SESSIONS_JWT_SECRET": str(tmp_path / "secret"),
        "MAI_SESSIONS_TRUSTED_PROXIES": "environment",
        "MAI_SESSIONS_ALLOW_ANONYMOUS": "environment",
    }
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


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"DATABASE_URL": "mysql://a/b"}, "DATABASE_URL: the scheme is mysql, and has to be postgresql"),
        (
            {"DATABASE_URL": "postgresql+psycopg://a/b"},
            "the scheme is postgresql+psycopg, and has to be postgresql",
        ),
        (
            {"DATABASE_URL": "postgresql://me:p@ss@host/db"},
            "DATABASE_URL: an @ in the user name or password is written %40",
        ),
        *[
            (
                {"DATABASE_URL": url},
                "a port is a number, and a / or ? in the user name or password is written",
            )
            for url in (
                "postgresql://ann:a/b@host/db",
                "postgresql://ann:a?b@host/db",
                "postgresql://host:port/db",
                "postgresql://one:5432,two:port/db",
            )
        ],
        (
            {"MAI_SESSIONS_READ_URL": "http://a/b"},
            "MAI_SESSIONS_READ_URL: the scheme is http, and has to be postgresql",
        ),
        (
            {"MAI_SESSIONS_BIND": "8290"},
            "8290 is not an address: write host:port, as 127.0.0.1:8290, or unix:path",
        ),
        ({"MAI_SESSIONS_BIND": "localhost"}, "localhost is not an address"),
        (
            {"DATABASE_URL": "postgresql:///a", "DATABASE_URL_FILE": "/b"},
            "DATABASE_URL and DATABASE_URL_FILE are both set",
        ),
        (
            {"MAI_SESSIONS_GRACEFUL_TIMEOUT": "10"},
            "MAI_SESSIONS_GRACEFUL_TIMEOUT: 10 is less than .* together, 15",
        ),
    ],
)
def test_wrong_setting_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variables: dict[str, str], reason: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StartupError, match=re.escape(reason) if ".*" not in reason else reason):
        Settings.from_environ()
    for name in variables:
        monkeypatch.delenv(name)
    file = tmp_path / "environment"
    file.write_text("# of the unit\n" + "".join(f'{name}="{value}"\n' for name, value in variables.items()))
    result = CliRunner(env=dict.fromkeys(variables)).invoke(main, ["config", "--check", str(file)])
    assert result.exit_code == 1
    assert re.search(reason if ".*" in reason else re.escape(reason), result.output)


def test_unusable_socket_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refuse_unusable_socket(f"unix:{tmp_path}/new")
    for bind, reason in (
        (f"unix:{tmp_path}/none/socket", "no directory"),
        (f"unix:{tmp_path}/file", "exists and is not a socket"),
        (f"unix:{tmp_path}/{'x' * 107}", "at most 107 bytes"),
        ("fd://9999", "not an open file descriptor"),
        ("fd://x", "not an open file descriptor"),
    ):
        with pytest.raises(StartupError, match=reason):
            refuse_unusable_socket(bind)


def test_printed_settings_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_unknown_variable_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, suggestion: str) -> None:
    monkeypatch.setenv(name, "s3cret")
    with pytest.raises(StartupError) as caught:
        Settings.from_environ()
    assert name in str(caught.value)
    assert str(caught.value).endswith(suggestion)
    assert "s3cret" not in str(caught.value)
    assert CliRunner().invoke(main, ["config"]).exit_code == 1


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///db",
        "postgresql://ann:pass:word@host:5432/db?options=-c%20a=b@c",
        "postgresql://[::1]:5432/db",
        "postgresql://one:1,two,[::2]:3/db?target_session_attrs=any",
        "postgres://ann@/db?host=/run/postgresql",
        "host=/tmp dbname=a/b password=a@b:c",
    ],
)
def test_url_that_libpq_accepts_is_not_refused(url: str) -> None:
    check_database_url("DATABASE_URL", url)


def test_empty_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a URL the service would start a private PostgreSQL."""
    (tmp_path / "url").write_text("\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(StartupError, match=f"DATABASE_URL_FILE: the file {tmp_path}/url is empty"):
        Settings.from_environ()


def test_missing_secret_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAI_SESSIONS_JWT_SECRET_FILE", "/nonexistent")
    with pytest.raises(StartupError, match="MAI_SESSIONS_JWT_SECRET_FILE"):
        Settings.from_environ()
