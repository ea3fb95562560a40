"""The whole service is killed at any moment: each write is complete, or did not happen."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event

from mixed import Client
from postgres import Postgres
from support.figures import FULL, Figures
from support.load import CUT
from support.service import metrics_dir, running

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
