"""The files of the metrics: memory that is short raises an error, and does not end the process."""

from contextlib import closing
from pathlib import Path

from mai_sessions.telemetry.metrics import _AllocatedDict


def test_every_page_of_a_file_is_allocated(tmp_path: Path) -> None:
    """A page of a sparse file in a full file system would end the process by SIGBUS."""
    path = tmp_path / "counter_1.db"
    sizes = []
    with closing(_AllocatedDict(str(path))) as values:
        for number in range(1000):
            values.read_value(f"{number:x}" * (number % 100))
            status = path.stat()
            assert status.st_blocks * 512 >= status.st_size
            sizes.append(status.st_size)
    assert sizes[-1] > sizes[0] > 0
