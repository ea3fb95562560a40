"""Workers are replaced while memory, files or the metrics are out of order: the service goes on."""

import fcntl
import resource
import shutil
from itertools import count
from pathlib import Path

import psutil
import pytest
from postgres import Postgres
from support.service import Service, get_status, metrics_dir, running, wait_until, workers_of


def all_workers(service: Service) -> set[psutil.Process]:
    """Wait until both workers run: the service is ready when the first one is."""
    wait_until(lambda: len(workers_of(service.process.pid)) == 2)
    return workers_of(service.process.pid)


def replace_workers(service: Service) -> None:
    """Kill every worker, and wait for others."""
    killed = all_workers(service)
    for worker in killed:
        worker.kill()
    wait_until(lambda: len(workers_of(service.process.pid) - killed) == 2)
    wait_until(service.is_ready)


@pytest.mark.parametrize("is_directory", [False, True])
def test_unreadable_metrics_of_a_killed_worker_end_no_service(
    postgres: Postgres, tmp_path: Path, is_directory: bool
) -> None:
    """A worker that is killed while it makes a file of metrics leaves it empty."""
    with running(postgres.url, tmp_path / "log") as service:
        for worker in all_workers(service):
            path = metrics_dir(service) / f"gauge_all_{worker.pid}.db"
            path.mkdir() if is_directory else path.touch()
            if not is_directory:
                assert get_status(service, "/metrics") == 200
            worker.kill()
            wait_until(lambda killed=worker: killed not in workers_of(service.process.pid))
        all_workers(service)
        # The master has merged all metrics once it has started the last worker.
        assert service.is_ready()
    assert service.process.returncode == 0
    assert ("the metrics of worker" in (tmp_path / "log").read_text()) == is_directory


def test_removed_metrics_are_made_again(postgres: Postgres, tmp_path: Path) -> None:
    """systemd removes the files of a user in /dev/shm when the user logs out."""
    with running(postgres.url, tmp_path / "log") as service:
        directory = metrics_dir(service)
        shutil.rmtree(directory)
        for path in ("/metrics", "/health/detailed"):
            assert get_status(service, path) == 200
        shutil.rmtree(directory)
        replace_workers(service)
        assert get_status(service, "/metrics") == 200
    assert service.process.returncode == 0
    assert not directory.exists()


def test_hanging_reader_of_metrics_does_not_block_the_master(postgres: Postgres, tmp_path: Path) -> None:
    """A worker that is stopped while it reads the metrics keeps their lock."""
    with running(postgres.url, tmp_path / "log") as service:
        killed = all_workers(service)
        with (metrics_dir(service) / "lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            replace_workers(service)
        assert "are not merged" in (tmp_path / "log").read_text()
        # The next worker that ends has the metrics of all merged.
        replace_workers(service)
        wait_until(lambda: not [w for w in killed if list(metrics_dir(service).glob(f"*_{w.pid}.db"))])


@pytest.mark.parametrize("failure", ["no worker can be started", "Exception in worker process"])
def test_service_waits_for_files_to_replace_a_worker(
    postgres: Postgres, tmp_path: Path, failure: str
) -> None:
    """The master can open no file at all, or only those of the worker that has ended."""
    log = tmp_path / "log"
    with running(postgres.url, log) as service:
        master = service.process.pid
        killed, *_ = all_workers(service)
        wait_until(lambda: occurrences(log, "Booting worker") == 2)
        limits = resource.prlimit(master, resource.RLIMIT_NOFILE)
        used = {int(path.name) for path in Path(f"/proc/{master}/fd").iterdir()}
        most = 3 if failure.startswith("no worker") else next(n for n in count() if n not in used)
        resource.prlimit(master, resource.RLIMIT_NOFILE, (most, limits[1]))
        killed.kill()
        wait_until(lambda: occurrences(log, failure))
        assert service.is_ready()
        resource.prlimit(master, resource.RLIMIT_NOFILE, limits)
        # A worker more than the first two and those that failed.
        wait_until(lambda: occurrences(log, "Booting worker") == 3 + occurrences(log, "Exception in worker"))
        wait_until(service.is_ready)
    assert service.process.returncode == 0


def occurrences(log: Path, text: str) -> int:
    """Count a text in a log."""
    return log.read_text().count(text)
