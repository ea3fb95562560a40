"""Reloads and restarts behind nginx lose no request."""

import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from support.chats import SESSIONS
from support.nginx import UNLIMITED, Site, behind_nginx, get
from support.service import call, wait_until, workers_of

from mai_sessions.config import Settings

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


@pytest.fixture
def loaded(make_migrated_database: Callable[[], str], tmp_path: Path) -> Iterator[Site]:
    with behind_nginx(make_migrated_database(), tmp_path, UNLIMITED) as site:
        yield site


def under_load(site: Site, event: Callable[[], None]) -> Counter[int | str]:
    """Count the responses to 16 clients that read and write over persistent connections during an event."""
    statuses: Counter[int | str] = Counter()
    stop = threading.Event()

    def client() -> None:
        mine: Counter[int | str] = Counter()
        with closing(site.connect()) as http:
            while not stop.is_set():
                try:
                    status, session = call(http, "POST", SESSIONS, {})
                    mine[status] += 1
                    for method, path, body in [
                        ("POST", f"{SESSIONS}/{session['id']}/messages", {"role": "user", "content": "x"}),
                        ("GET", f"{SESSIONS}/{session['id']}", None),
                        ("DELETE", f"{SESSIONS}/{session['id']}", None),
                    ]:
                        mine[call(http, method, path, body)[0]] += 1
                except (OSError, KeyError, TypeError, ValueError) as error:
                    mine[repr(error)] += 1
                    http.close()
        statuses.update(mine)

    threads = [threading.Thread(target=client) for _ in range(16)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        event()
        time.sleep(0.5)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    return statuses


def check_that_all_succeeded(statuses: Counter[int | str]) -> None:
    assert set(statuses) == {201, 200, 204}, statuses
    assert statuses[201] == 2 * statuses[200] == 2 * statuses[204]


def test_reload_loses_no_request(loaded: Site) -> None:
    master = psutil.Process(loaded.process.pid)

    def reload() -> None:
        for _ in range(2):
            before = workers_of(master.pid)
            master.send_signal(signal.SIGHUP)
            wait_until(
                lambda before=before: (
                    len(workers_of(master.pid) - before) == len(workers_of(master.pid)) == Settings().workers
                )
            )

    check_that_all_succeeded(under_load(loaded, reload))


def test_restart_loses_no_request(loaded: Site) -> None:
    def restart() -> None:
        loaded.stop()
        loaded.start()
        loaded.wait_until_ready()

    check_that_all_succeeded(under_load(loaded, restart))


def test_rolling_restart_loses_no_request(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    """Without systemd, USR2 starts a new master beside the old one, which TERM then ends."""
    bind = {"MAI_SESSIONS_BIND": f"unix:{tmp_path}/http.sock"}
    with behind_nginx(make_migrated_database(), tmp_path, UNLIMITED, **bind) as site:
        old = psutil.Process(site.process.pid)
        wait_until(lambda: len(workers_of(old.pid)) == Settings().workers)
        workers = workers_of(old.pid)
        new: list[psutil.Process] = []

        def upgrade() -> None:
            old.send_signal(signal.SIGUSR2)
            wait_until(lambda: workers_of(old.pid) - workers)
            new.extend(workers_of(old.pid) - workers)
            wait_until(lambda: len(workers_of(new[0].pid)) == Settings().workers)
            site.stop()

        try:
            check_that_all_succeeded(under_load(site, upgrade))
        finally:
            for master in new:
                master.terminate()
                # The new master is a child of the old one, so this process cannot wait for it.
                wait_until(
                    lambda master=master: not master.is_running() or master.status() == psutil.STATUS_ZOMBIE
                )
            # behind_nginx() stops this process.
            site.start()
            site.wait_until_ready()


def test_replaced_workers_lose_no_request(make_migrated_database: Callable[[], str], tmp_path: Path) -> None:
    with behind_nginx(make_migrated_database(), tmp_path, UNLIMITED, MAI_SESSIONS_MAX_REQUESTS="50") as site:

        def replace() -> None:
            wait_until(lambda: "another worker takes the place of this one" in site.log)

        statuses = under_load(site, replace)
        check_that_all_succeeded(statuses)
        labels = f'{{method="POST",route="{SESSIONS}",status="2xx"}}'
        counted = f"mai_sessions_http_request_duration_seconds_count{labels} {statuses[201] // 2}.0"
        # The metrics of workers that have ended are kept. A request is counted after its response.
        wait_until(lambda: counted in get(site, "/metrics")[2].decode())
