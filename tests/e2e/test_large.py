"""Large requests and responses through gunicorn, and their memory."""

import json
import random
import re
from http.client import HTTPConnection
from pathlib import Path

import psutil
import pytest
from support.samples import data_url, png
from support.service import Service

pytestmark = pytest.mark.parametrize("service", ["direct", "pgbouncer"], indirect=True, scope="module")

MB = 1_000_000


def ask(service: Service, method: str, path: str, body: object = None) -> tuple[int, bytes]:
    http = HTTPConnection("127.0.0.1", service.port, timeout=60)
    http.request(
        method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"}
    )
    response = http.getresponse()
    status, content = response.status, response.read()
    http.close()
    return status, content


def peak_memory(pid: int) -> int:
    """Return the peak memory of a process, in bytes."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert match
    return int(match[1]) * 1024


def test_ten_images_of_five_megabytes_take_bounded_memory(service: Service) -> None:
    noise = random.Random(1)
    images = [png(noise=noise.randbytes(5 * MB - 100)) for _ in range(10)]
    _, body = ask(service, "POST", "/api/v1/sessions", {})
    session = f"/api/v1/sessions/{json.loads(body)['id']}"
    message = {"role": "user", "content": "look", "images": [data_url(image) for image in images]}
    status, body = ask(service, "POST", f"{session}/messages", message)
    assert status == 201
    urls = json.loads(body)["images"]
    assert [ask(service, "GET", url)[1] == image for url, image in zip(urls, images, strict=True)] == [
        True
    ] * 10
    # A list and a detail contain only links.
    assert len(ask(service, "GET", session)[1]) < 2000
    assert len(ask(service, "GET", "/api/v1/sessions")[1]) < 2000
    workers = psutil.Process(service.process.pid).children()
    assert max(peak_memory(worker.pid) for worker in workers) < 400 * MB


def test_body_over_the_limit_is_refused(service: Service) -> None:
    status, body = ask(service, "POST", "/api/v1/sessions", {"title": "x" * (64 * 1024 * 1024)})
    assert status == 413
    assert json.loads(body)["title"] == "Content Too Large"
