"""A PostgreSQL for each module, with the settings of the private one, to be stopped, cut off and filled."""

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from socket import AF_UNIX, SHUT_RDWR, create_server, socket

import psycopg
from support.scripts import CHECKS, DBA

from mai_sessions.embedded.data_directory import DataDirectory
from mai_sessions.embedded.private_postgres import server_of

RunProgram = Callable[..., str]


class Postgres:
    """A cluster whose server can be stopped and started. `url` is a superuser's."""

    def __init__(self, data_dir: Path) -> None:
        self._locked = ExitStack()
        self._server = server_of(self._locked.enter_context(DataDirectory(data_dir).locked()))
        self.socket = data_dir / "socket" / ".s.PGSQL.5432"
        self.start()
        self.url = self._server.uri()

    def start(self) -> None:
        """Start it, and wait until it accepts connections."""
        self._server.start()

    def stop(self) -> None:
        """Stop it, breaking connections."""
        self._server.pg_ctl("stop", "--mode=fast")

    def restart(self) -> None:
        """Crash and start it; it recovers from its WAL."""
        self._server.pg_ctl("restart", "--mode=immediate")

    def close(self) -> None:
        """Stop it for good."""
        self._server.stop()
        self._locked.close()

    def backends(self) -> list[int]:
        """Return the process ids of the backends of the service."""
        with psycopg.connect(self.url) as conn:
            rows = conn.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'mai-sessions' ORDER BY pid"
            )
            return [pid for (pid,) in rows]


def failed_checks(run_program: RunProgram, url: str) -> dict[str, str]:
    """Run every check, and return the rows that they found: none in a healthy database."""
    command = ["psql", "--no-psqlrc", "-At", "-d", url, "-f"]
    return {check: rows for check in CHECKS if (rows := run_program(*command, str(DBA / check)))}


class Proxy:
    """A TCP proxy to a Unix socket, which can stop forwarding while the kernel still acknowledges."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._greets = False
        self._events = [threading.Event()]
        self._events[0].set()
        self._listener = create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def hang(self, *, greets: bool) -> None:
        """Stop forwarding; with `greets`, still forward handshakes and the data of PostgreSQL."""
        self._greets = greets
        self._events[-1].clear()

    def resume(self, *, late: bool) -> None:
        """Forward again; with `late` also the connections from before, which otherwise hang for ever."""
        if late:
            self._events[-1].set()
        else:
            self._events.append(threading.Event())
            self._events[-1].set()

    def close(self) -> None:
        """Stop accepting, and release the connections that hang."""
        self._listener.shutdown(SHUT_RDWR)
        self._listener.close()
        for event in self._events:
            event.set()

    def _accept(self) -> None:
        # Until the listener is shut down.
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=[client, self._events[-1]], daemon=True).start()

    def _connect(self, client: socket, flowing: threading.Event) -> None:
        with client, socket(AF_UNIX) as server, suppress(OSError):
            if not self._greets:
                flowing.wait()
            server.connect(str(self._target))
            # With `trust` authentication the client's part of the handshake is one packet.
            server.sendall(client.recv(65536))
            back = threading.Thread(target=self._pump, args=[server, client, flowing, False], daemon=True)
            back.start()
            self._pump(client, server, flowing, True)
            back.join()

    def _pump(self, source: socket, sink: socket, flowing: threading.Event, forward: bool) -> None:
        # Either end may disconnect.
        with suppress(OSError):
            while data := source.recv(65536):
                if forward or not self._greets:
                    flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(SHUT_RDWR)
