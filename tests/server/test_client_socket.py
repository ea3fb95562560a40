"""The buffer of a client's connection: when a request is complete, however it arrives."""

import socket
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from mai_sessions.server.client_socket import MAX_CHUNKS, ClientSocket

POST = b"POST / HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
MAX_BODY = 100_000


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, ClientSocket]]:
    """A client, and the service's end of its connection."""
    client, accepted = socket.socketpair()
    with closing(client), closing(ClientSocket(accepted, MAX_BODY, timeout=10)) as sock:
        yield client, sock


# Complete with the last byte, and not before.
REQUESTS = [
    b"GET / HTTP/1.1\r\n\r\n",
    b"\r\nGET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    POST + b"Content-Length: 0\r\n\r\n",
    POST + b"content-length:   5\r\n\r\nab\r\nc",
    CHUNKED + b"0\r\n\r\n",
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    # A chunk may contain the end marker.
    CHUNKED + b"9\r\n\r\n0\r\n\r\nab\r\n0\r\n\r\n",
    CHUNKED + b'5;name="a;b"\r\nabcde\r\n0;x=y\r\n\r\n',
    CHUNKED + b"0\r\nTrailer: a\r\nOther: b\r\n\r\n",
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_request_is_complete_with_its_last_byte(
    pair: tuple[socket.socket, ClientSocket], request_: bytes
) -> None:
    client, sock = pair
    for number in range(len(request_)):
        assert not sock.is_request_buffered(), request_[:number]
        client.sendall(request_[number : number + 1])
        sock.fill_buffer()
    assert sock.is_request_buffered()
    head = sock.take_head()
    assert head.endswith(b"\r\n\r\n")
    assert head + b"".join(sock.take_pieces()) == request_


# For gunicorn to refuse, without waiting for more.
BROKEN = [
    b"GET / HTTP/1.1\n",
    b"GET / HTTP/1.1\r\nHost: a\n",
    POST + b"Content-Length: five\r\n\r\n",
    POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    CHUNKED + b"five\r\n",
    CHUNKED + b"-5\r\n",
    CHUNKED + b"5 5\r\n",
    CHUNKED + b"5" * 9000,
]


@pytest.mark.parametrize("request_", BROKEN)
def test_broken_request_waits_for_nothing(pair: tuple[socket.socket, ClientSocket], request_: bytes) -> None:
    client, sock = pair
    client.sendall(request_)
    sock.fill_buffer()
    assert sock.is_request_buffered()


@pytest.mark.parametrize(
    "request_",
    [
        POST + b"Content-Length: 100001\r\n\r\n",
        POST + b"Content-Length: " + b"9" * 4000 + b"\r\n\r\n",
        CHUNKED + b"186A1\r\n",
        CHUNKED + b"C350\r\n" + b" " * 50_000 + b"\r\nC351\r\n",
    ],
)
def test_body_beyond_the_limit_is_not_received(
    pair: tuple[socket.socket, ClientSocket], request_: bytes
) -> None:
    client, sock = pair
    client.sendall(request_)
    sock.fill_buffer()
    assert sock.is_request_buffered()
    assert sock.is_too_large


def test_too_many_chunks_are_too_large() -> None:
    client, accepted = socket.socketpair()
    with closing(client), closing(ClientSocket(accepted, 64 * 1024**2, timeout=10)) as sock:
        client.sendall(CHUNKED)
        sock.fill_buffer()
        chunks = b"1\r\na\r\n" * 1000
        for _ in range(MAX_CHUNKS // 1000):
            client.sendall(chunks)
            sock.fill_buffer()
            assert not sock.is_request_buffered()
        client.sendall(chunks)
        sock.fill_buffer()
        assert sock.is_request_buffered()
        assert sock.is_too_large


def test_next_request_stays_in_the_buffer(pair: tuple[socket.socket, ClientSocket]) -> None:
    client, sock = pair
    client.sendall(POST + b"Content-Length: 2\r\n\r\n{}" + b"GET / HTTP/1.1\r\n\r\nGET")
    sock.fill_buffer()
    assert sock.is_request_buffered()
    assert sock.take_head().startswith(b"POST")
    assert sock.take_body(2) == b"{}"
    sock.finish_request()
    assert sock.is_request_buffered()
    assert sock.take_head() == b"GET / HTTP/1.1\r\n\r\n"
    sock.finish_request(b"PUT ")
    assert not sock.is_request_buffered()
    assert sock.take_head() == b"PUT GET"


def test_disconnected_client_has_ended(pair: tuple[socket.socket, ClientSocket]) -> None:
    client, sock = pair
    client.sendall(POST)
    client.close()
    sock.fill_buffer()
    assert not sock.is_request_buffered()
    sock.fill_buffer()
    assert sock.has_ended
    assert sock.is_request_buffered()


def trickle(prefix: bytes, length: int) -> float:
    """Send a request in pieces of 16 bytes, and return the CPU seconds of the buffer."""
    client, accepted = socket.socketpair()
    with closing(client), closing(ClientSocket(accepted, 64 * 1024**2, timeout=10)) as sock:
        client.sendall(prefix)
        sock.fill_buffer()
        spent = 0.0
        for _ in range(length // 16):
            client.sendall(b"a" * 16)
            before = time.thread_time()
            sock.fill_buffer()
            assert not sock.is_request_buffered()
            spent += time.thread_time() - before
    return spent


@pytest.mark.parametrize(
    "prefix",
    [
        b"GET / HTTP/1.1\r\nX: ",
        CHUNKED + b"1000000\r\n",
        CHUNKED + b"0\r\nX: ",
        POST + b"Content-Length: 10000000\r\n\r\n",
    ],
    ids=["head", "chunk", "trailer", "body"],
)
def test_trickling_client_costs_no_more_than_its_bytes(prefix: bytes) -> None:
    """Eight times the bytes take eight times the CPU time, not 64 times."""
    ratios = [trickle(prefix, 120_000) / trickle(prefix, 15_000) for _ in range(3)]
    assert min(ratios) < 20
