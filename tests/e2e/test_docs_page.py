"""The page /docs in Chromium, driven by its DevTools protocol."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.service import Service
from websockets.sync.client import ClientConnection, connect

CHROMIUM = shutil.which("chromium")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]
ARGUMENTS += ["--disable-component-update", "--disable-sync", "--remote-debugging-port=0"]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt-get install chromium")


class Page:
    """A page of the browser, and its events."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._calls = 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {
            "sessionId": self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        }
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to the browser, and wait for the result."""
        self._calls += 1
        self._socket.send(
            json.dumps({"id": self._calls, "method": method, "params": params, **self._session})
        )
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self.events.append(message)

    def wait_for(self, expression: str) -> Any:
        """Wait until a JavaScript expression is neither null nor an error nor false, and return its value."""
        code = f"""new Promise(done => {{
            const look = () => {{
                let value
                try {{ value = {expression} }} catch {{}}
                value ? done(value) : setTimeout(look, 20)
            }}
            look()
        }})"""
        return self.call("Runtime.evaluate", expression=code, awaitPromise=True, returnByValue=True)[
            "result"
        ].get("value")

    def click(self, selector: str) -> None:
        """Click the element of a selector when it exists."""
        self.wait_for(f"(document.querySelector({json.dumps(selector)}).click(), true)")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    """A page of a browser with a fresh profile."""
    assert CHROMIUM is not None
    command = [CHROMIUM, *ARGUMENTS, f"--user-data-dir={tmp_path}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        assert browser.stderr is not None
        try:
            address = next(
                line.split()[-1] for line in browser.stderr if line.startswith("DevTools listening on ")
            )
            with connect(address, max_size=None) as socket:
                page = Page(socket)
                yield page
                page.call("Browser.close")
        finally:
            browser.terminate()


def test_page_shows_the_operations_and_tries_one(service: Service, page: Page) -> None:
    page.call("Page.navigate", url=f"{service.url}/docs")
    summaries = page.wait_for(
        "document.querySelector('.opblock') && document.querySelector('#swagger-ui').innerText"
    )
    assert "List sessions, most recently written first" in summaries

    operation = "#operations-sessions-create_session"
    page.click(f"{operation} .opblock-summary-control")
    page.click(f"{operation} .try-out__btn")
    page.click(f"{operation} .execute")
    assert (
        page.wait_for(
            f"document.querySelector('{operation} .live-responses-table tbody "
            ".response-col_status').textContent"
        )
        == "201"
    )

    asked = [
        event["params"]["request"]["url"]
        for event in page.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert f"{service.url}/api/v1/sessions" in asked
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} == {
        urlsplit(service.url).netloc
    }
    assert [event for event in page.events if is_complaint(event)] == []


def is_complaint(event: dict[str, Any]) -> bool:
    """Whether the event is a warning or an error, violations of the security policy included."""
    kind, params = event["method"], event.get("params", {})
    return (
        kind == "Runtime.exceptionThrown"
        or (kind == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"))
        or (kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"))
    )
