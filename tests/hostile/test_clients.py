"""Clients that break off, are slow, send too much or invalid HTTP: others do not notice, and no worker is
lost.
"""

import time
from contextlib import ExitStack, closing
from itertools import chain, repeat

import psycopg
import pytest
from attackers import CLOSED, HEAD, Fault, ask, outcome
from support.figures import FULL
from support.nginx import Site
from support.raw_http import connect
from support.service import Service

GIGABYTE = 1024**3
PIECE = b" " * 65536


def sessions(service: Service) -> int:
    with psycopg.connect(service.database_url) as conn:
        [(count,)] = conn.execute("SELECT count(*) FROM sessions")
        return int(count)


@pytest.mark.parametrize("begun", [b"", b'{"title":', b'{"title":"x"}'])
def test_client_that_breaks_off_within_the_body_creates_nothing(
    service: Service, fault: Fault, begun: bytes
) -> None:
    """The part that arrived may be valid JSON, such as an empty body, but it is not the client's body."""
    with fault(f"client breaks off after {len(begun)} bytes of body") as figures:
        before = sessions(service)
        for number in range(200 if FULL else 20):
            framing = (
                b"Content-Length: 100\r\n\r\n" + begun,
                b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s" % (len(begun) + 1, begun),
            )
            with closing(connect(service)) as connection:
                connection.sendall(HEAD + framing[number % 2])
                # Half of them do not read the response either.
                if number % 4 < 2:
                    connection.shutdown(1)
                    figures.statuses[outcome(connection)] += 1
    assert set(figures.statuses) <= {"400", CLOSED}
    assert sessions(service) == before


BEGUN = {
    "connection": b"",
    "head": b"GET / HTTP/1.1\r\nHost: localhost\r\nX:",
    "body": HEAD + b"Content-Length: 100\r\n\r\n{",
}


@pytest.mark.parametrize("part", BEGUN)
def test_slow_clients_do_not_block_others(service: Service, fault: Fault, part: str) -> None:
    """More slow clients than threads send a byte a second, or nothing."""
    number, begun = 200 if isinstance(service, Site) else 32, BEGUN[part]
    with ExitStack() as stack, fault(f"{number} slow clients within the {part}") as figures:
        connections = [stack.enter_context(closing(connect(service))) for _ in range(number)]
        for connection in connections:
            connection.sendall(begun)
        for _ in range(3):
            time.sleep(1)
            for connection in list(connections) if begun else []:
                try:
                    connection.sendall(b"x")
                except ConnectionError:
                    figures.statuses[CLOSED] += 1
                    connections.remove(connection)
        if begun and not isinstance(service, Site):
            figures.statuses.update(outcome(connection) for connection in connections)
    # nginx keeps slow senders, at the cost of a socket each.
    assert set(figures.statuses) <= {"408", CLOSED}
    assert figures.retried == 0


def test_clients_that_do_not_read_block_no_other(service: Service, fault: Fault) -> None:
    """More clients than threads request more than the kernel buffers, and do not read."""
    with ExitStack() as stack, fault("32 clients that do not read the response"):
        for _ in range(32):
            connection = stack.enter_context(closing(connect(service)))
            connection.sendall(b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        time.sleep(3)


def test_too_many_headers_are_refused(service: Service, fault: Fault) -> None:
    headers = b"".join(b"X-%d: x\r\n" % number for number in range(10_000))
    with fault("10,000 headers") as figures:
        figures.statuses.update(
            ask(service, b"GET / HTTP/1.1\r\nHost: localhost\r\n", headers, b"\r\n") for _ in range(20)
        )
    assert set(figures.statuses) <= {"431", CLOSED}


def test_body_of_a_gigabyte_is_not_read_to_its_end(service: Service, fault: Fault) -> None:
    """With a Content-Length, and in chunks."""
    pieces = GIGABYTE // len(PIECE)
    with fault("1 GB of body") as figures:
        announced = [HEAD + b"Content-Length: %d\r\n\r\n" % GIGABYTE]
        figures.statuses[ask(service, *chain(announced, repeat(PIECE, pieces)))] += 1
        chunks = repeat(b"%x\r\n%s\r\n" % (len(PIECE), PIECE), pieces)
        figures.statuses[ask(service, *chain([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], chunks))] += 1
        endless_chunk = [HEAD + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % GIGABYTE]
        figures.statuses[ask(service, *chain(endless_chunk, repeat(PIECE, pieces)))] += 1
    assert set(figures.statuses) <= {"413", CLOSED}


# Two servers in a row could read each of them differently.
FRAMINGS = [
    b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    b"Content-Length: 4\r\nContent-Length: 40\r\n",
    b"Content-Length: 4, 40\r\n",
    b"Content-Length: +4\r\n",
    b"Content-Length: 0x4\r\n",
    b"Content-Length: \xb2\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: " + b"9" * 5000 + b"\r\n",
    b"Content-Length : 4\r\n",
    b"Content-Length:\r\n 4\r\n",
    b"Transfer-Encoding : chunked\r\n",
    b"Transfer-Encoding: xchunked\r\n",
    b"Transfer-Encoding: chunked, identity\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n",
    b"Transfer-Encoding:\r\n chunked\r\n",
    b"X: x\rTransfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: chunked\r\nHost: b\r\n",
]
# nginx reads two lines, and forwards two; gunicorn refuses them.
BARE_LF = b"X: x\nTransfer-Encoding: chunked\r\n"
# Behind the chunked body, or behind its first 4 bytes, a second request follows.
SMUGGLED = b"0\r\n\r\nDELETE /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"


def test_ambiguous_framing_hides_no_second_request(service: Service, fault: Fault) -> None:
    framings = FRAMINGS if isinstance(service, Site) else [*FRAMINGS, BARE_LF]
    with fault(f"{len(framings)} odd framings") as figures:
        before = sessions(service)
        for framing in framings:
            with closing(connect(service)) as connection:
                connection.sendall(HEAD + framing + b"\r\n" + SMUGGLED)
                responses = b""
                while piece := connection.recv(65536):
                    responses += piece
            assert responses.count(b"HTTP/1.1 ") <= 1, framing
            status = responses[9:12].decode() or CLOSED
            assert status in ("400", "414", "431", CLOSED), (framing, responses)
            figures.statuses[status] += 1
        assert sessions(service) == before
