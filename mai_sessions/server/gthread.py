"""gunicorn's own threaded worker, for TLS, HTTP/2, an access log, hooks, and where there is no epoll.

What is overridden of gunicorn.workers.gthread.ThreadWorker:

| method | why | what differs |
| --- | --- | --- |
| enqueue_req | a Unix peer chooses its own address | the address is empty |
| handle_request | gunicorn passes on gzip, chunked undecoded | refuses it |
"""

import socket
from typing import Any

from gunicorn.http.errors import UnsupportedTransferCoding
from gunicorn.workers.gthread import TConn, ThreadWorker


class GthreadWorker(ThreadWorker):
    """Ignores the address of a Unix peer, and refuses transfer codings other than chunked."""

    def enqueue_req(self, conn: TConn) -> None:
        """Pass a connection to a thread, without the address of a Unix peer."""
        if conn.sock.family == socket.AF_UNIX:
            conn.client = ""
        super().enqueue_req(conn)

    def handle_request(self, req: Any, conn: TConn) -> bool:
        """Run the application, unless the body has another transfer coding."""
        check_transfer_coding(req)
        return super().handle_request(req, conn)


def check_transfer_coding(request: Any) -> None:
    """Raise UnsupportedTransferCoding for a body that is coded otherwise than chunked, which nobody
    decodes.
    """
    if any(name == "TRANSFER-ENCODING" and value.lower() != "chunked" for name, value in request.headers):
        raise UnsupportedTransferCoding("chunked alone is decoded")
