"""Streamed answers: the cost of their patches, the growth of the tables, and a list beside fifty streams."""

import multiprocessing
import time
from multiprocessing.sharedctypes import Synchronized
from multiprocessing.synchronize import Event
from statistics import quantiles
from typing import NamedTuple

import psycopg

from bench import driver, features
from bench.driver import Request
from bench.stage import Stage
from bench.statements import WalCounter
from bench.targets import Server

_INTERVAL = 0.05
_LISTS = 400


class Streaming(NamedTuple):
    """Of one patch the bytes of WAL; of one answer the bytes by which the tables grow, beyond its text; and
    the p99 of a list in ms, alone and beside fifty answers, with the patches a second that these got.
    """

    wal: float
    growth: float
    list_alone_ms: float
    list_beside_ms: float
    patches_per_second: float


def measure(stage: Stage, server: Server, size: str) -> Streaming:
    """Stream fifty answers at full speed to measure bytes, and at 20 patches a second each for the list."""
    url = stage.database_url("ours", size)
    patches = features.stream(features.new_answers(server))
    grown = _tables_size(url)
    with WalCounter(url) as wal:
        driver.send_each(server, patches)
        growth = (_tables_size(url) - grown) / features.ANSWERS - features.ANSWER
    alone = _list_p99(server)
    answers = features.new_answers(server)
    sent = multiprocessing.Value("i", 0)
    stop = multiprocessing.Event()
    streams = multiprocessing.Process(target=_stream, args=(server.port, answers, sent, stop))
    streams.start()
    time.sleep(1)
    started, before = time.perf_counter(), sent.value
    beside = _list_p99(server)
    rate = (sent.value - before) / (time.perf_counter() - started)
    stop.set()
    streams.join()
    return Streaming(wal.bytes / len(patches), growth, alone, beside, rate)


def lines(found: Streaming) -> str:
    """Write the figures as a list in Markdown."""
    ratio = found.list_beside_ms / found.list_alone_ms
    return (
        f"- WAL of a patch of an answer that grows to 8 kB: {found.wal:,.0f} bytes\n"
        f"- tables and indexes grow by an answer of 8 kB, beyond its text: {found.growth:,.0f} bytes\n"
        f"- p99 of a list alone: {found.list_alone_ms:.1f} ms; beside fifty streaming answers "
        f"({found.patches_per_second:,.0f} patches a second): {found.list_beside_ms:.1f} ms, {ratio:.1f} ×"
    )


def _list_p99(server: Server) -> float:
    requests = [Request("GET", "/sessions?limit=50")] * _LISTS
    replies = list(driver.send_in_turn(server.port, requests))
    return quantiles((reply.seconds * 1000 for reply in replies), n=100, method="inclusive")[98]


def _stream(port: int, answers: list[str], sent: "Synchronized[int]", stop: Event) -> None:
    """Send the next patch of each answer every twentieth of a second, after the last response."""
    steps = features.ANSWER // features.STEP
    patches = features.stream(answers)
    connections = [driver.connect(port) for _ in answers]
    while not stop.is_set():
        for step in range(steps):
            started = time.perf_counter()
            batch = patches[step * len(answers) : (step + 1) * len(answers)]
            for connection, patch in zip(connections, batch, strict=True):
                driver.begin(connection, patch)
            for connection in connections:
                driver.finish(connection)
            sent.value += len(batch)
            if stop.is_set():
                break
            time.sleep(max(0.0, started + _INTERVAL - time.perf_counter()))
    for connection in connections:
        connection.close()


def _tables_size(url: str) -> int:
    with psycopg.connect(url, autocommit=True) as conn:
        row = conn.execute("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables").fetchone()
    assert row
    return int(row[0])
