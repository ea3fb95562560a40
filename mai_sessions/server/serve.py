"""`mai-sessions serve`: gunicorn, started from Python."""

import socket
from collections.abc import Callable
from typing import Any

import click
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.systemd import listen_fds
from gunicorn.util import is_ipv6, parse_address

from mai_sessions import create_app
from mai_sessions.auth.identity import refuse_public_address
from mai_sessions.config import Settings
from mai_sessions.errors import StartupError


def listen(settings: Settings, host: str | None, port: int | None) -> tuple[str, str]:
    """Bind the port before anything else starts. Return it as gunicorn's `bind`, and the URL of the API.

    gunicorn binds a Unix socket itself, and takes the sockets that systemd passes in place of any other; the
    URL is then empty. Raises StartupError.
    """
    try:
        address = parse_address(settings.bind)
        if listen_fds(unset_environment=False) or not isinstance(address, tuple):
            if host is None and port is None:
                return settings.bind, ""
            address = ("127.0.0.1", 8000)
        host, port = host or address[0], address[1] if port is None else port
        listener = socket.socket(socket.AF_INET6 if is_ipv6(host) else socket.AF_INET)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        raise StartupError(f"cannot listen on {host}:{port}: {error.strerror}") from None
    except (OverflowError, RuntimeError) as error:
        raise StartupError(f"MAI_SESSIONS_BIND: {error}") from None
    refuse_public_address(settings, listener.getsockname()[0])
    port = listener.getsockname()[1]
    return f"fd://{listener.detach()}", f"http://{f'[{host}]' if is_ipv6(host) else host}:{port}/api/v1"


class _Master(Arbiter):
    def __init__(self, app: BaseApplication, supervise: Callable[[], None]) -> None:
        self._supervise = supervise
        super().__init__(app)

    def murder_workers(self) -> None:
        # The main loop has no hook. This is one of its steps.
        self._supervise()
        super().murder_workers()


class Gunicorn(BaseApplication):
    """gunicorn with the settings of the package. Prints the URL, if there is one, when it is ready.

    The master calls `supervise` about once a second.
    """

    def __init__(self, settings: Settings, url: str, supervise: Callable[[], None]) -> None:
        self._settings = settings
        self._url = url
        self._supervise = supervise
        super().__init__()

    def load_config(self) -> None:
        from mai_sessions.server import gunicorn_conf  # noqa: PLC0415 - the import reads the settings

        for name in vars(gunicorn_conf).keys() & self.cfg.settings:
            self.cfg.set(name, getattr(gunicorn_conf, name))
        for name in ("bind", "workers", "threads"):
            self.cfg.set(name, getattr(self._settings, name))

        def when_ready(server: Arbiter) -> None:
            gunicorn_conf.when_ready(server)
            if self._url:
                click.echo(f"The API is at {self._url}")

        self.cfg.set("when_ready", when_ready)

    def run(self) -> None:
        """Serve until a signal stops the master. Raises StartupError."""
        try:
            _Master(self, self._supervise).run()
        except RuntimeError as error:
            raise StartupError(str(error)) from None

    def load(self) -> Callable[..., Any]:
        return create_app(self._settings)
