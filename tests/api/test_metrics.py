import errno
import os
import re
import shutil
import subprocess
from base64 import b64encode
from pathlib import Path
from uuid import uuid4

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from support.service import wait_until


def samples(client: FlaskClient) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = client.get("/metrics", buffered=True).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_requests_and_reasons_are_counted(client: FlaskClient) -> None:
    # A worker opens the database when it starts.
    client.application.extensions["mai_sessions"].open()
    before = samples(client)
    key = {"Idempotency-Key": str(uuid4())}
    for _ in range(2):
        client.post("/api/v1/sessions", json={}, headers=key, buffered=True)
    client.post("/api/v1/sessions", json={"title": "x" * 256, "agent_name": 1}, buffered=True)
    client.post("/api/v1/sessions", data=b64encode(b"x"), content_type="text/plain", buffered=True)
    client.open("/api/v1/sessions", method="BREW", buffered=True)
    # While the pool replaces a connection that another test ended, it counts it as in use.
    in_use = "mai_sessions_db_pool_connections_in_use", frozenset({("database", "primary")})
    wait_until(lambda: samples(client)[in_use] == 0)
    after = samples(client)

    def moved(name: str, **labels: str) -> float:
        key = (f"mai_sessions_{name}", frozenset(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    duration = "http_request_duration_seconds_count"
    assert moved(duration, method="POST", route="/api/v1/sessions", status="2xx") == 2
    assert moved(duration, method="POST", route="/api/v1/sessions", status="4xx") == 2
    assert moved(duration, method="other", route="none", status="4xx") == 1
    assert moved("http_replays_total") == 1
    assert moved("http_rejected_inputs_total", reason="too_long") == 1
    assert moved("http_rejected_inputs_total", reason="invalid") == 1
    assert moved("http_rejected_inputs_total", reason="unsupported_media_type") == 1
    assert moved("db_statements_total") >= 2
    assert moved("db_statement_seconds_total") > 0
    assert moved("http_requests_in_flight") == 0
    assert after["mai_sessions_db_pool_requests_waiting", frozenset({("database", "primary")})] == 0


def test_request_succeeds_while_memory_for_metrics_is_short(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*labels: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(client.application.extensions["mai_sessions"].metrics.rejected, "labels", fail)
    assert client.get("/api/v1/sessions?limit=x", buffered=True).status_code == 422
    assert "the metrics of a request are lost: OSError: [Errno 28]" in caplog.text


@pytest.mark.parametrize(
    ("peer", "status"), [("127.0.0.1", 200), ("::1", 200), ("", 200), ("10.0.0.1", 403), ("203.0.113.1", 403)]
)
def test_metrics_are_refused_to_other_hosts(client: FlaskClient, peer: str, status: int) -> None:
    assert client.get("/metrics", environ_base={"REMOTE_ADDR": peer}).status_code == status


def test_metrics_format_follows_accept(client: FlaskClient) -> None:
    assert client.get("/metrics").content_type.startswith("text/plain")
    openmetrics = client.get(
        "/metrics", headers={"Accept": "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}
    )
    assert openmetrics.content_type.startswith("application/openmetrics-text")
    assert openmetrics.text.endswith("# EOF\n")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Debian: prometheus) is not installed")
def test_promtool_accepts_the_metrics(client: FlaskClient) -> None:
    client.get("/api/v1/sessions", buffered=True)
    done = subprocess.run(
        ["promtool", "check", "metrics"], check=False, input=client.get("/metrics").data, capture_output=True
    )
    assert done.returncode == 0, done.stderr


def test_every_metric_is_documented(client: FlaskClient) -> None:
    exposed = set(re.findall(r"^# TYPE (\w+)", client.get("/metrics").text, re.MULTILINE))
    # The client library adds the time of creation to each counter.
    families = {name for name in exposed if not name.endswith("_created")}
    page = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
    assert (
        set(re.findall(r"`(mai_sessions_\w+)`(?=[ ,])", page.partition("| metric |")[2].partition("\n\n")[0]))
        == families
    )
    alerts = (Path(__file__).parents[2] / "deploy" / "alerts.yml").read_text(encoding="utf-8")
    for name in re.findall(r"\bmai_sessions_\w+", alerts):
        assert re.sub("_(bucket|count|sum)$", "", name) in families


def test_every_alert_has_its_place_in_the_runbook() -> None:
    root = Path(__file__).parents[2]
    alerts = (root / "deploy" / "alerts.yml").read_text(encoding="utf-8")
    runbook = (root / "docs" / "runbook.md").read_text(encoding="utf-8")
    names = re.findall(r"alert: (\w+)", alerts)
    assert re.findall(r"^## (MaiSessions\w+)$", runbook, re.MULTILINE) == names
    assert re.findall(r"runbook.md#(\w+)", alerts) == [name.lower() for name in names]
    if promtool := shutil.which("promtool"):
        subprocess.run([promtool, "check", "rules", root / "deploy" / "alerts.yml"], check=True)
