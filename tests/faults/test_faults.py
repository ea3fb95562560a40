"""Faults while clients append with keys and retry: nothing acknowledged is lost, nothing is stored twice."""

import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from postgres import Postgres, Proxy
from support.figures import FULL
from support.load import CUT, Clients, appending
from support.nginx import UNLIMITED, behind_nginx
from support.service import Service, running, workers_of

Report = Callable[..., None]

CLIENTS = 32 if FULL else 8
KILLS = f"kill -9 of a worker, {10 if FULL else 3} times"
# `make faults` tests with the default limits; the suite has less time.
LIMITS = {} if FULL else {"MAI_SESSIONS_POOL_TIMEOUT": "0.5", "MAI_SESSIONS_STATEMENT_TIMEOUT": "0.5"}
# Seconds, far above these limits: a client that waits longer will never get a response.
PATIENCE = 30 if FULL else 6
# How long a connection hangs, in seconds.
HANGS = PATIENCE + 1


def kill_workers(clients: Clients, master: int) -> None:
    """Kill one worker after the other, and wait each time until all clients have responses again."""
    for _ in range(10 if FULL else 3):
        random.choice(list(workers_of(master))).kill()
        clients.fault_is_over()
        clients.wait_for(CLIENTS * 4)


def test_killed_workers_lose_no_append(service: Service, postgres: Postgres, report: Report) -> None:
    with appending(service, postgres.url, KILLS, CLIENTS) as clients:
        kill_workers(clients, service.process.pid)
    # No request is refused: the other workers serve.
    report(clients.figures, *CUT)


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")
def test_killed_workers_behind_nginx_lose_no_append(
    postgres: Postgres, tmp_path: Path, report: Report
) -> None:
    with (
        behind_nginx(postgres.url, tmp_path, UNLIMITED) as site,
        appending(site, postgres.url, f"{KILLS}, behind nginx", CLIENTS) as clients,
    ):
        kill_workers(clients, site.process.pid)
    # A worker that dies between the head of its response and the body leaves nginx with half of it.
    report(clients.figures, "502", "IncompleteRead")


@pytest.mark.parametrize("seconds", [5, 20] if FULL else [2])
def test_stopped_postgresql_loses_no_append(
    service: Service, postgres: Postgres, report: Report, seconds: int
) -> None:
    with appending(service, postgres.url, f"PostgreSQL stopped for {seconds} s", CLIENTS) as clients:
        postgres.stop()
        time.sleep(seconds)
        postgres.start()
        clients.fault_is_over()
        clients.wait_for(CLIENTS * 4)
    report(clients.figures)


def test_restart_of_postgresql_loses_no_append(service: Service, postgres: Postgres, report: Report) -> None:
    with appending(service, postgres.url, "PostgreSQL restarted, -m immediate", CLIENTS) as clients:
        for _ in range(3 if FULL else 1):
            postgres.restart()
            clients.fault_is_over()
            clients.wait_for(CLIENTS * 4)
    report(clients.figures)


def test_terminated_backends_lose_no_append(service: Service, postgres: Postgres, report: Report) -> None:
    with appending(service, postgres.url, "backends terminated one by one", CLIENTS) as clients:
        for _ in range(5 if FULL else 1):
            with psycopg.connect(postgres.url, autocommit=True) as superuser:
                for pid in postgres.backends():
                    superuser.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
                    time.sleep(0.05)
            clients.fault_is_over()
            clients.wait_for(CLIENTS * 4)
    report(clients.figures)


@pytest.mark.parametrize(
    ("greets", "late"), [*([(False, True)] if FULL else []), (False, False), (True, False)]
)
def test_hanging_connection_blocks_no_other_request(
    postgres: Postgres, tmp_path: Path, report: Report, greets: bool, late: bool
) -> None:
    """Data of PostgreSQL arrive late, or never.

    A new connection hangs in its handshake, or after it.
    """
    proxy = Proxy(postgres.socket)
    url = f"postgresql://mai_sessions@127.0.0.1:{proxy.port}/mai_sessions?sslmode=disable&gssencmode=disable"
    greeting, arrival = ", but greets" if greets else "", "late" if late else "never"
    fault = f"PostgreSQL does not respond{greeting}; what was sent arrives {arrival}"
    with (
        running(url, tmp_path / "log", **LIMITS) as service,
        appending(service, postgres.url, fault, CLIENTS, patience=PATIENCE) as clients,
    ):
        proxy.hang(greets=greets)
        time.sleep(HANGS)
        proxy.resume(late=late)
        clients.fault_is_over()
        clients.wait_for(CLIENTS * 4)
    proxy.close()
    # An attempt to connect may have begun a moment ago, and hang until its timeout.
    report(clients.figures, within=5)


def test_exhausted_pool_loses_no_append(postgres: Postgres, tmp_path: Path, report: Report) -> None:
    number = 200 if FULL else 160
    with running(postgres.url, tmp_path / "log", **LIMITS) as service:
        fault = f"every connection waits for a lock, {number} clients"
        with appending(service, postgres.url, fault, number, together=number, patience=PATIENCE) as clients:
            with psycopg.connect(postgres.url) as conn:
                conn.execute("SELECT FROM sessions FOR UPDATE")
                time.sleep(HANGS)
            clients.fault_is_over()
            clients.wait_for(number)
    report(clients.figures)


@pytest.fixture
def small(data_dir: Path) -> Iterator[Path]:
    """A small disk."""
    path = data_dir.with_name("small")
    path.mkdir(exist_ok=True)
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=512m,mode=755", "tmpfs", path],
            check=True,
            capture_output=True,
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("only root may mount a small disk")
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("wal", [False, True] if FULL else [True])
def test_full_disk_loses_no_acknowledged_append(
    small: Path, tmp_path: Path, report: Report, wal: bool
) -> None:
    """The tables cannot grow; with `wal` neither can the WAL, and PostgreSQL shuts down until it is started
    again.
    """
    postgres = Postgres(small / "data")
    try:
        with (
            running(postgres.url, tmp_path / "log") as service,
            appending(
                service, postgres.url, f"disk full{', PostgreSQL shuts down' if wal else ''}", CLIENTS
            ) as clients,
        ):
            filler = small / "filler"
            fill(filler)
            clients.wait_for(CLIENTS, "503")
            if wal:
                with (
                    suppress(psycopg.OperationalError),
                    psycopg.connect(postgres.url, autocommit=True) as conn,
                ):
                    while True:
                        conn.execute("SELECT pg_logical_emit_message(false, '', repeat('x', 1000000))")
                clients.wait_for(CLIENTS, "503")
            filler.unlink()
            if wal:
                postgres.start()
            clients.fault_is_over()
            clients.wait_for(CLIENTS * 4)
        report(clients.figures, url=postgres.url)
    finally:
        postgres.close()


def fill(file: Path) -> None:
    """Fill the disk."""
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
