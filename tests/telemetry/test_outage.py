import time

import pytest

from mai_sessions.telemetry import outage
from mai_sessions.telemetry.outage import Outage


def test_outage_is_one_line_a_minute_and_one_at_its_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(outage.time, "monotonic", lambda: now)
    database = Outage("primary database")
    database.responds()
    for _ in range(1300):
        database.fails("connection refused")
        now += 0.1
    database.responds()
    database.responds()
    assert caplog.messages == [
        "the primary database is away: connection refused",
        "the primary database has been away for 60 s: connection refused",
        "the primary database has been away for 120 s: connection refused",
        "the primary database is back after 130 s",
    ]


def test_server_that_comes_and_goes_is_one_line_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.monotonic()
    monkeypatch.setattr(outage.time, "monotonic", lambda: now)
    replica = Outage("replica database")
    for _ in range(70):
        replica.fails("no response")
        replica.responds()
        now += 1
    assert (
        caplog.messages
        == [
            "the replica database is away: no response",
            "the replica database is back after 0 s",
        ]
        * 2
    )
