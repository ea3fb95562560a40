"""Each file `files/NAME` is imported, and the API then returns `golden/NAME.json`.

`WRITE_GOLDEN=1 pytest tests/importers/test_golden.py` writes the golden files again.
"""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from support.chats import SESSIONS
from support.samples import png

from mai_sessions.auth.identity import DEFAULT_USER
from mai_sessions.importers.run import Import, import_files
from mai_sessions.postgres.connection import Connection

HERE = Path(__file__).parent
FILES = sorted((HERE / "files").iterdir())
ZIP = "chatgpt.zip"


@pytest.fixture
def zip_file(tmp_path: Path) -> Path:
    """ChatGPT's file as people get it: in a zip file, with an image beside it."""
    path = tmp_path / ZIP
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(HERE / "files/chatgpt.json", "conversations-000.json")
        archive.writestr("user-1/file_0001-cat.dat", png())
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_imported_file_reads_as_its_golden_file_says(
    client: FlaskClient, conn: Connection, capsys: pytest.CaptureFixture[str], path: Path
) -> None:
    _compare(client, conn, capsys, path)


def test_imported_zip_file_reads_as_its_golden_file_says(
    client: FlaskClient, conn: Connection, capsys: pytest.CaptureFixture[str], zip_file: Path
) -> None:
    _compare(client, conn, capsys, zip_file)


def _compare(client: FlaskClient, conn: Connection, capsys: pytest.CaptureFixture[str], path: Path) -> None:
    import_files([conn], [path], Import(DEFAULT_USER, count_tokens=len))
    *lines, _ = capsys.readouterr().out.splitlines()
    summaries = _get(client, f"{SESSIONS}?archived=any&limit=100")["sessions"]
    found = {"lines": lines, "sessions": [_read(client, each["id"]) for each in summaries]}
    golden = HERE / "golden" / f"{path.name}.json"
    if "WRITE_GOLDEN" in os.environ:
        golden.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    assert found == json.loads(golden.read_text())


def _read(client: FlaskClient, session_id: str) -> dict[str, Any]:
    """A session with the messages of all branches, without the version, which is new each time."""
    detail = _get(client, f"{SESSIONS}/{session_id}?branches=all")
    del detail["version"]
    return detail


def _get(client: FlaskClient, path: str) -> dict[str, Any]:
    found = client.get(path).json
    assert isinstance(found, dict)
    return found
