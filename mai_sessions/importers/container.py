"""The file of an import: a zip file with documents and images, or a single document."""

import zipfile
import zlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Self

from mai_sessions.importers.json_stream import elements
from mai_sessions.importers.model import Image, UnreadableFile

_ZIP_BEGINNINGS = (b"PK\3\4", b"PK\5\6")
_DOCUMENT_SUFFIXES = (".json", ".jsonl", ".ndjson")
_ENCRYPTED = 0x1
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
# Text shrinks about ten times, images hardly.
_MAX_RATIO = 200
_HARMLESS_BYTES = 1024**3
_MAX_UNPACKED_BYTES = 64 * 1024**3
_MAX_IMAGE_BYTES = 64 * 1024**2


@dataclass(slots=True)
class Files:
    """The files beside the documents of a zip file, found by the beginning of their names."""

    archive: zipfile.ZipFile | None = None
    names: list[tuple[str, str]] = field(default_factory=list)

    def image(self, file_id: str) -> Image | None:
        """Return the file whose name begins with an id, without reading it, or None if there is none."""
        archive, index = self.archive, bisect_left(self.names, (file_id, ""))
        if archive is None or not file_id or index == len(self.names):
            return None
        name, path = self.names[index]
        if not name.startswith(file_id) or archive.getinfo(path).file_size > _MAX_IMAGE_BYTES:
            return None
        return Image(name, lambda: archive.read(path))


@dataclass(slots=True)
class Document:
    """A JSON document, which can be read as often as it is needed."""

    name: str
    size: int
    _path: Path
    _archive: zipfile.ZipFile | None = None

    def elements(self) -> Iterator[bytes]:
        """Yield its conversations as JSON. Raises UnreadableFile for a damaged document."""
        with _Stream(self._archive.open(self.name) if self._archive else self._path.open("rb")) as stream:
            yield from elements(stream)


class _Stream:
    """A stream that reports damage as UnreadableFile."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def read(self, size: int) -> bytes:
        try:
            return self._stream.read(size)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise UnreadableFile(f"it is damaged ({error})") from error


@dataclass(slots=True)
class Container:
    """The content of a file: its documents, in the order of their names, and its images."""

    documents: list[Document]
    files: Files

    def close(self) -> None:
        """Close the zip file."""
        if self.files.archive:
            self.files.archive.close()


def open_container(path: Path) -> Container:
    """Open a zip file or a document. Raises UnreadableFile."""
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise UnreadableFile("it is a directory")
        if not path.is_file():
            # A file is read twice, which a pipe cannot be.
            raise UnreadableFile("it is a pipe or device: save it as a file first")
        if not size:
            raise UnreadableFile("it is empty")
        with path.open("rb") as file:
            is_zip = file.read(4) in _ZIP_BEGINNINGS
        if not is_zip:
            return Container([Document(path.name, size, path)], Files())
        return _open_zip(zipfile.ZipFile(path), path, size)
    except zipfile.BadZipFile as error:
        raise UnreadableFile("it is a damaged or incomplete zip file") from error
    except OSError as error:
        raise UnreadableFile(error.strerror or str(error)) from error


def _open_zip(archive: zipfile.ZipFile, path: Path, size: int) -> Container:
    members = [
        info for info in archive.infolist() if not info.is_dir() and not _is_resource_fork(info.filename)
    ]
    for member in members:
        parts = PureWindowsPath(member.filename)
        if parts.is_absolute() or parts.drive or parts.root or ".." in parts.parts:
            raise UnreadableFile(f"it names a path outside of itself: {member.filename!r}")
        if member.flag_bits & _ENCRYPTED:
            raise UnreadableFile("it is protected by a password: unpack it first")
        if member.compress_type not in _COMPRESSIONS:
            raise UnreadableFile("it is packed by a method that is not supported: unpack it first")
    unpacked = sum(member.file_size for member in members)
    if unpacked > min(_MAX_UNPACKED_BYTES, max(_HARMLESS_BYTES, size * _MAX_RATIO)):
        raise UnreadableFile(f"it would unpack from {size:,} to {unpacked:,} bytes: that is a zip bomb")
    documents = sorted(
        (member for member in members if member.filename.lower().endswith(_DOCUMENT_SUFFIXES)),
        key=lambda member: member.filename,
    )
    if not documents and any(member.filename.lower().endswith(".zip") for member in members):
        raise UnreadableFile("it holds another zip file: unpack it first")
    return Container(
        [Document(member.filename, member.file_size, path, archive) for member in documents],
        Files(archive, sorted((PurePosixPath(member.filename).name, member.filename) for member in members)),
    )


def _is_resource_fork(name: str) -> bool:
    """macOS adds one to each file that it packs."""
    path = PurePosixPath(name)
    return path.parts[0] == "__MACOSX" or path.name.startswith("._")
