"""The whole service is killed at any moment: each write is complete, or did not happen."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event

import pytest
from mixed import Client
from postgres import Postgres
from support.figures import FULL, Figures
from support.load import CUT
from support.service import get_status, metrics_dir, running, wait_until, workers_of

CRASHES = 50 if FULL else 5


def test_killed_service_leaves_each_write_whole(
    postgres: Postgres, tmp_path: Path, report: Callable[..., None]
) -> None:
    statuses: Counter[str] = Counter()
    for _ in range(CRASHES):
        done = Event()
        with running(postgres.url, tmp_path / "log") as service:
            clients = [Client(service.port, done, adopting=True) for _ in range(8)]
            for client in clients:
                client.start()
            time.sleep(random.uniform(0.1, 1.0))
            os.killpg(service.process.pid, signal.SIGKILL)
            done.set()
            for client in clients:
                client.join()
                statuses += client.statuses
    # A statement of a killed worker may still run.
    while postgres.backends():
        time.sleep(0.01)
    acknowledged = sum(number for status, number in statuses.items() if status.startswith("2"))
    figures = Figures(
        f"kill -9 of master and workers, {CRASHES} times", statuses.total(), acknowledged, statuses=statuses
    )
    report(figures, "200", "204", "404", *CUT, "ConnectionRefusedError")


def test_metrics_of_a_killed_service_are_removed(postgres: Postgres, tmp_path: Path) -> None:
    """They occupy memory: the next start removes those of a killed service, and not those of a running
    one.
    """
    with running(postgres.url, tmp_path / "log") as killed:
        left = metrics_dir(killed)
        os.killpg(killed.process.pid, signal.SIGKILL)
    with running(postgres.url, tmp_path / "log") as service, running(postgres.url, tmp_path / "log"):
        assert not left.exists()
        assert metrics_dir(service).exists()


@pytest.mark.parametrize("is_directory", [False, True])
def test_unreadable_metrics_of_a_killed_worker_end_no_service(
    postgres: Postgres, tmp_path: Path, is_directory: bool
) -> None:
    """A worker that is killed while it makes a file of metrics leaves it empty."""
    with running(postgres.url, tmp_path / "log") as service:
        for worker in workers_of(service.process.pid):
            path = metrics_dir(service) / f"gauge_all_{worker.pid}.db"
            path.mkdir() if is_directory else path.touch()
            if not is_directory:
                assert get_status(service, "/metrics") == 200
            worker.kill()
            wait_until(lambda killed=worker: killed not in workers_of(service.process.pid))
        wait_until(lambda: len(workers_of(service.process.pid)) == 2)
        # The master has merged all metrics once it has started the last worker.
        assert service.is_ready()
    assert service.process.returncode == 0
    assert ("the metrics of worker" in (tmp_path / "log").read_text()) == is_directory
