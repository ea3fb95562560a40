"""What the log says of an outage of PostgreSQL."""

import json
from contextlib import closing
from pathlib import Path

from postgres import Postgres
from support.service import call, running, wait_until


def test_outage_is_a_few_lines_of_the_log_beside_those_of_the_failed_requests(
    postgres: Postgres, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with (
        running(postgres.url, log, MAI_SESSIONS_POOL_TIMEOUT="0.1") as service,
        closing(service.connect()) as http,
    ):
        before = len(log.read_text().splitlines())
        postgres.stop()
        for _ in range(30):
            assert call(http, "GET", "/api/v1/sessions")[0] == 503
            assert call(http, "GET", "/health/ready")[0] == 503
        postgres.start()
        wait_until(lambda: "is back after" in log.read_text())
    events = [json.loads(line) for line in log.read_text().splitlines()[before:]]
    requests = [event for event in events if "route" in event]
    assert [event["route"] for event in requests] == ["/api/v1/sessions"] * 30
    assert all("PoolTimeout" in event["message"] for event in requests)
    about_it = [event["message"] for event in events if "route" not in event and event["level"] != "INFO"]
    # One when it goes and one when it is back, of each of two workers.
    assert len(about_it) <= 4, about_it


def test_events_and_requests_have_one_order_of_keys(postgres: Postgres, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with running(postgres.url, log) as service, closing(service.connect()) as http:
        assert call(http, "GET", "/api/v1/sessions")[0] == 200
        assert call(http, "GET", "/nowhere")[0] == 404
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {tuple(event)[:4] for event in events} == {("time", "level", "logger", "message")}
    assert len({tuple(event) for event in events if "route" in event}) == 1
