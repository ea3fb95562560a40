"""The worker and gthread: settings of gunicorn, sockets, connections, and replaced workers."""

import re
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, chdir, closing
from pathlib import Path

import pytest
from gunicorn.config import Config
from support.raw_http import GET, POST, connect, is_live, read_response
from support.service import TREE, Service, free_port, running, wait_until, workers_of


def test_longest_idle_connection_makes_room(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    few = {
        "MAI_SESSIONS_WORKERS": "1",
        "MAI_SESSIONS_THREADS": "1",
        "GUNICORN_CMD_ARGS": "--worker-connections=5",
    }
    with running(make_migrated_database(), tmp_path / "log", **few) as service, ExitStack() as stack:
        connections = [stack.enter_context(closing(connect(service))) for _ in range(10)]
        for connection in connections:
            connection.sendall(GET)
            assert read_response(connection)[0] == 200
        assert connections[0].recv(1) == b""
        connections[-1].sendall(GET)
        assert read_response(connections[-1])[0] == 200


def test_service_stops_while_clients_are_connected(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with running(
            make_migrated_database(), tmp_path / "log", MAI_SESSIONS_CLIENT_TIMEOUT="3600"
        ) as service:
            stack.enter_context(closing(connect(service)))
        assert service.process.returncode == 0
    assert "code" not in (tmp_path / "log").read_text()


def test_service_without_epoll_uses_gthread(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import select\ndel select.epoll\n")
    with running(make_migrated_database(), tmp_path / "log", PYTHONPATH=str(tmp_path)) as service:
        assert is_live(service)
        assert (tmp_path / "log").read_text().count("Using worker: GthreadWorker") == 1


def test_socket_does_not_replace_another_file(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    path, log = tmp_path / "file", tmp_path / "log"
    path.write_text("precious")
    with (
        pytest.raises(AssertionError),
        running(make_migrated_database(), log, MAI_SESSIONS_BIND=f"unix:{path}"),
    ):
        pass
    assert log.read_text().startswith(f"Error: MAI_SESSIONS_BIND: {path} exists and is not a socket: ")
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    ("arguments", "setting"),
    [
        ("--access-logfile=-", "access log"),
        ("--http2-cleartext=both", "setting http2_cleartext"),
        ("--proxy-protocol=auto", "setting proxy_protocol"),
        ("--certfile=/etc/hostname --keyfile=/etc/hostname", "setting certfile"),
    ],
)
def test_setting_of_gthread_stops_the_start(
    make_migrated_database: Callable[[], str], tmp_path: Path, arguments: str, setting: str
) -> None:
    log = tmp_path / "log"
    with (
        pytest.raises(AssertionError),
        running(make_migrated_database(), log, GUNICORN_CMD_ARGS=arguments),
    ):
        pass
    assert f"Error: gunicorn's {setting} needs MAI_SESSIONS_WORKER=gthread" in log.read_text().splitlines()


@pytest.fixture(scope="module")
def gthread(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Service, Path]]:
    """A service with gunicorn's own worker and its access log."""
    directory = tmp_path_factory.mktemp("gthread")
    arguments = f"--access-logfile={directory / 'access'}"
    with running(
        make_migrated_database(),
        directory / "log",
        MAI_SESSIONS_WORKER="gthread",
        GUNICORN_CMD_ARGS=arguments,
    ) as service:
        yield service, directory


def test_gthread_writes_an_access_log(gthread: tuple[Service, Path]) -> None:
    service, directory = gthread
    assert is_live(service)
    assert "Using worker: GthreadWorker" in (directory / "log").read_text()
    # The line is written when the response is out.
    wait_until(lambda: '"GET /health/live HTTP/1.1" 200' in (directory / "access").read_text())


def test_gthread_ends_the_connection_after_a_response(gthread: tuple[Service, Path]) -> None:
    service, _ = gthread
    with closing(connect(service)) as connection:
        connection.sendall(
            POST + b"Content-Type: text/plain\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        )
        status, headers, _ = read_response(connection)
        assert (status, headers["Connection"]) == (415, "close")


def test_gthread_decodes_chunked_alone(gthread: tuple[Service, Path]) -> None:
    service, _ = gthread
    with closing(connect(service)) as connection:
        connection.sendall(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
        assert b" 501 " in connection.recv(65536)


# A path that looks like a trusted address, another one, one that is not UTF-8, and no path.
@pytest.mark.parametrize("bound", [b"10.0.0.1", b"unix", b"\0\xff\xfe", b""])
@pytest.mark.parametrize("worker", ["epoll", "gthread"])
def test_unix_peer_has_no_address(unix_services: dict[str, Path], worker: str, bound: bytes) -> None:
    path = unix_services[worker]
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        if bound and not bound.startswith(b"\0"):
            (path.parent / bound.decode()).unlink(missing_ok=True)
        with chdir(path.parent):
            if bound:
                connection.bind(bound)
        connection.connect(str(path))
        connection.sendall(
            b"GET /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-User: ann\r\n\r\n"
        )
        assert b" 401 " in connection.recv(65536)


@pytest.mark.parametrize("worker", ["epoll", "gthread"])
def test_unix_socket_is_for_its_owner_and_group(unix_services: dict[str, Path], worker: str) -> None:
    assert stat.S_IMODE(unix_services[worker].stat().st_mode) == 0o660


def test_unit_allows_more_files_than_clients() -> None:
    unit = (TREE / "deploy" / "mai-sessions.service").read_text()
    limit = re.search(r"(?m)^LimitNOFILE=(\d+)$", unit)
    assert limit
    assert int(limit[1]) >= 2 * Config().worker_connections


@pytest.fixture(scope="module")
def unix_services(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Path]]:
    """Sockets of services that trust a proxy at an address but not at a Unix socket, by worker."""
    with ExitStack() as stack:
        paths = {}
        for worker in ("epoll", "gthread"):
            directory = tmp_path_factory.mktemp(worker)
            paths[worker] = directory / "http.sock"
            port = free_port()
            stack.enter_context(
                running(
                    make_migrated_database(),
                    directory / "log",
                    MAI_SESSIONS_WORKER=worker,
                    MAI_SESSIONS_AUTH="proxy",
                    MAI_SESSIONS_TRUSTED_PROXIES="10.0.0.0/8",
                    port=port,
                    GUNICORN_CMD_ARGS=f"--bind=unix:{paths[worker]} --bind=127.0.0.1:{port}",
                )
            )
        yield paths


def test_replaced_workers_leave_counts_but_no_files(
    make_migrated_database: Callable[[], str], tmp_path: Path
) -> None:
    def files() -> list[Path]:
        [worker] = workers_of(service.process.pid)
        opened = [Path(file.path) for file in worker.open_files() if "prometheus" in file.path]
        return [path for path in opened[0].parent.iterdir() if path.suffix == ".db"] if opened else []

    few = {"MAI_SESSIONS_WORKERS": "1", "MAI_SESSIONS_MAX_REQUESTS": "10"}
    asked = 60
    with running(make_migrated_database(), tmp_path / "log", **few) as service:
        for _ in range(asked):
            assert is_live(service)
        wait_until(lambda: len(workers_of(service.process.pid)) == 1)
        wait_until(files)
        kinds = {path.name.rpartition("_")[0] for path in files()}
        # Files of the worker, of its master, and of all ended workers together.
        wait_until(lambda: len(files()) <= 3 * len(kinds))
        with closing(service.connect()) as http:
            http.request("GET", "/metrics")
            metrics = http.getresponse().read().decode()
    assert (tmp_path / "log").read_text().count("another worker takes the place of this one") >= 4
    name = "mai_sessions_http_request_duration_seconds_count"
    assert f'{name}{{method="GET",route="/health/live",status="2xx"}} {asked}.0' in metrics
