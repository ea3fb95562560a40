"""Sends each request once, over ten connections. wrk can only repeat requests."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from statistics import quantiles
from typing import NamedTuple

import psutil

from bench.load import Sample, cpu_seconds
from bench.targets import Server

CONNECTIONS = 10


class Request(NamedTuple):
    """A request below `/api/v1`."""

    method: str
    path: str
    body: bytes = b""
    headers: Mapping[str, str] = {}


class Reply(NamedTuple):
    """A response, and the seconds that it took."""

    content: bytes
    headers: Mapping[str, str]
    seconds: float


def send_each(server: Server, requests: Sequence[Request]) -> list[Reply]:
    """Send each request once, and return the replies in their order. Raises OSError for one that fails.

    Every tenth request goes over the same connection, in order.
    """
    turns = [requests[start::CONNECTIONS] for start in range(CONNECTIONS)]
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        replies = list(pool.map(lambda turn: list(send_in_turn(server.port, turn)), turns))
    return [replies[place % CONNECTIONS][place // CONNECTIONS] for place in range(len(requests))]


def measure(server: Server, postgres: psutil.Process, requests: Sequence[Request]) -> Sample:
    """Send each request once, and return the cost of one."""
    before, started = (cpu_seconds(server.process), cpu_seconds(postgres)), time.perf_counter()
    replies = send_each(server, requests)
    seconds = time.perf_counter() - started
    after = cpu_seconds(server.process), cpu_seconds(postgres)
    cpu = [(end - start) * 1e6 / len(requests) for start, end in zip(before, after, strict=True)]
    latencies = quantiles((reply.seconds * 1000 for reply in replies), n=100, method="inclusive")
    return Sample(len(requests) / seconds, latencies[49], latencies[98], *cpu)


def send_in_turn(port: int, requests: Sequence[Request]) -> Iterator[Reply]:
    """Send requests over one connection. Raises OSError for one that fails."""
    with closing(connect(port)) as connection:
        for request in requests:
            started = time.perf_counter()
            begin(connection, request)
            response, content = finish(connection)
            if response.status >= 400:
                raise OSError(f"{request.method} {request.path}: {response.status} {content[:200]!r}")
            yield Reply(content, dict(response.headers), time.perf_counter() - started)


def connect(port: int) -> HTTPConnection:
    """Connect to a server on this machine, at the first request."""
    return HTTPConnection("127.0.0.1", port, timeout=60)


def begin(connection: HTTPConnection, request: Request) -> None:
    """Send a request."""
    headers = {"Content-Type": "application/json"} if request.body else {}
    path = f"/api/v1{request.path}"
    connection.request(request.method, path, request.body or None, {**headers, **request.headers})


def finish(connection: HTTPConnection) -> tuple[HTTPResponse, bytes]:
    """Read the response to the request that was sent."""
    response = connection.getresponse()
    return response, response.read()
