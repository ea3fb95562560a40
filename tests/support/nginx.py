"""The shipped nginx site before the real server, on a free port and in a directory of its own."""

import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path

from support.service import GUNICORN, TREE, Service, free_port

from mai_sessions.web.security_headers import HEADERS

SITE = TREE / "deploy" / "nginx.conf"


@dataclass
class Site(Service):
    """A server behind nginx; `port` is nginx's. `process` is gunicorn's master, which another may take the
    place of.
    """

    directory: Path = field(kw_only=True)
    environ: dict[str, str] = field(kw_only=True, repr=False)
    listener: socket.socket = field(kw_only=True, repr=False)

    @property
    def log(self) -> str:
        return (self.directory / "gunicorn.log").read_text()

    def start(self) -> None:
        """Start gunicorn as systemd does: it is handed the socket, unless it has to bind one by itself."""
        command = list(GUNICORN)
        handed = []
        if "MAI_SESSIONS_BIND" not in self.environ:
            handed = [self.listener.fileno()]
            # LISTEN_PID has to name the process itself, and the socket has to be its descriptor 3.
            script = f'exec 3<&{handed[0]} {handed[0]}<&-; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
            serve = [str(Path(GUNICORN[0]).with_name("mai-sessions")), "serve"]
            command = ["bash", "-c", script, "bash", *serve]
        with (self.directory / "gunicorn.log").open("ab") as output:
            self.process = subprocess.Popen(
                command, cwd=TREE, env=self.environ, stdout=output, stderr=output, pass_fds=handed
            )

    def stop(self) -> None:
        """Stop gunicorn as systemd does."""
        self.process.terminate()
        assert self.process.wait(timeout=60) == 0

    def wait_until_ready(self) -> None:
        """Wait until requests are served."""
        deadline = time.monotonic() + 60
        while not self.is_ready():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.05)


# The replacement of the limits for a test that sends more than a single client may.
UNLIMITED = {"rate=50r/s": "rate=100000r/s", "rate=500r/s": "rate=100000r/s"}


def configuration(directory: Path, port: int, **replaced: str) -> str:
    """A complete configuration around the shipped site.

    Only paths differ, and the replacements of the test.
    """
    site = SITE.read_text()
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{port};",
        "/run/mai-sessions/": f"{directory}/",
        "/var/log/nginx/": f"{directory}/",
        **replaced,
    }.items():
        assert old in site, old
        site = site.replace(old, new)
    return f"""
        user root; pid {directory}/nginx.pid; error_log {directory}/error.log; daemon off; worker_processes 1;
        events {{ worker_connections 512; }}
        http {{
            include /etc/nginx/mime.types; default_type application/octet-stream;
            client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
            fastcgi_temp_path {directory}/fastcgi; uwsgi_temp_path {directory}/uwsgi;
            scgi_temp_path {directory}/scgi;
            {site}
        }}"""


@contextmanager
def behind_nginx(
    database_url: str, directory: Path, replaced: dict[str, str] | None = None, **environ: str
) -> Iterator[Site]:
    """Run the shipped site with gunicorn behind it, for the length of a `with`.

    The test holds the socket, as systemd does, unless MAI_SESSIONS_BIND names it.
    """
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(configuration(directory, port, **(replaced or {})))
    with ExitStack() as stack:
        listener = socket.socket(socket.AF_UNIX)
        if "MAI_SESSIONS_BIND" not in environ:
            listener.bind(str(directory / "http.sock"))
            listener.listen(4096)
        nginx = subprocess.Popen(["nginx", "-c", str(config), "-e", str(directory / "error.log")])

        def stop_nginx() -> None:
            nginx.terminate()
            nginx.wait(timeout=60)

        stack.callback(stop_nginx)
        site = Site(
            port,
            database_url,
            nginx,  # type: ignore[arg-type]
            directory=directory,
            environ={**os.environ, "DATABASE_URL": database_url, **environ},
            listener=listener,
        )
        stack.callback(lambda: site.listener.close())  # noqa: PLW0108 - the listener may be another by then
        site.start()
        stack.callback(site.stop)
        site.wait_until_ready()
        yield site


def get(
    site: Site, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """Send a request over a new connection, and return status, headers and body."""
    with closing(HTTPConnection("127.0.0.1", site.port, timeout=60)) as http:
        http.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = http.getresponse()
        return (
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )


def problem(response: tuple[int, dict[str, str], bytes]) -> tuple[int, str]:
    """Check that a response is a problem document, and return its status and title."""
    status, headers, body = response
    assert headers["content-type"] == "application/problem+json"
    assert {name.lower(): value for name, value in HEADERS}.items() <= headers.items()
    document = json.loads(body)
    assert document["status"] == status
    assert document["request_id"] == headers["x-request-id"]
    assert {"type", "title", "status", "detail", "request_id"} <= set(document)
    return status, document["title"]
