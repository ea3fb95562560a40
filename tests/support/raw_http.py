"""HTTP byte by byte, over sockets to a running server."""

import socket
from contextlib import closing
from http.client import HTTPResponse

from support.service import Service, call

POST = b"POST /api/v1/sessions HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def connect(service: Service) -> socket.socket:
    """Return a connection to the service, with a timeout of a minute."""
    return socket.create_connection(("127.0.0.1", service.port), timeout=60)


def read_response(connection: socket.socket) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of the next response."""
    with closing(HTTPResponse(connection)) as response:
        response.begin()
        return response.status, dict(response.getheaders()), response.read()


def is_live(service: Service) -> bool:
    """Return whether a thread of the service responds to a new connection."""
    with closing(service.connect()) as http:
        return call(http, "GET", "/health/live")[0] == 200
