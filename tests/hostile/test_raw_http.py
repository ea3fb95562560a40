"""Bytes that are almost HTTP, sent directly to gunicorn: no 5xx, no hang, no worker lost. `make fuzz` sends
many.
"""

import os
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.chats import SESSIONS
from support.raw_http import connect
from support.service import Service, call, running, wait_until, workers_of

EXAMPLES = 10 * int(os.environ.get("FUZZ_EXAMPLES", "10"))
SESSION = f"{SESSIONS}/01a2044b-8f5b-75ef-b6c9-5def5b9b2ec1"
WORKERS = 2


def mostly(good: st.SearchStrategy[bytes], odd: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Draw an odd value once in twenty times: with more, no request would be parsed far."""
    return st.integers(0, 19).flatmap(lambda number: odd if number == 0 else good)


def words(text: str) -> st.SearchStrategy[bytes]:
    """One of the words of a text."""
    return st.sampled_from(text.encode().split())


binary = st.binary(max_size=20)
methods = mostly(
    words("GET GET POST POST PATCH DELETE HEAD OPTIONS PUT"), words("CONNECT TRACE get PRI X") | binary
)
paths = mostly(
    words(
        f"""
        / /docs /health/detailed /metrics /openapi.json {SESSIONS} {SESSIONS}/ {SESSION} {SESSION}/messages {SESSION}/messages
        {SESSION}/messages/{uuid4()} /api/v1/search /api/v1/analytics/usage /api/v1/analytics/agents /api/v1/attachments/{"0" * 64}
        """
    ),
    words(
        f"""
        {SESSIONS}/%00 {SESSIONS}/%ff%fe {SESSIONS}/../../metrics /%2e%2e/%2e%2e/etc/passwd /{SESSIONS} /;x=y#z //a\\b /{"x" * 9000}
        http://a{SESSIONS} http://[::1/ http://a:x/health https://user:password@a/ a:80 * \\ {"/" * 4000}
        """
    )
    | binary,
)
values = mostly(
    words(
        "0 1 5 100 x user assistant chat true 2025-11-08T00:00:00.000Z 2025-11-08 a%20b %22a%20b%22 %e6%97%a5"
    ),
    words(
        f"""
        {"9" * 5000} -1 1e400 1e4 0x1 +1 %ff %00 % %ed%a0%80 é {"x" * 4000} NaN * '; -- 9999-12-31 0001-01-01 {"%22" * 500}
        {"a+" * 2000} \u0000
        """
    )
    | binary,
)
names = mostly(
    words(
        "limit offset cursor search q after_seq before_seq messages_limit start_date end_date since until "
        "role model_id session_id"
    ),
    binary,
)
queries = st.lists(st.builds(lambda name, value: name + b"=" + value, names, values), max_size=3).map(
    b"&".join
)
targets = st.builds(lambda path, query: path + (b"?" + query if query else b""), paths, queries)
versions = mostly(st.just(b"HTTP/1.1"), words("HTTP/1.0 HTTP/0.9 HTTP/2.0 HTTP/1.10 http/1.1 HTTP") | binary)
headers = mostly(
    st.builds(
        lambda name, value: name + b": " + value,
        words(
            """ Accept Accept-Encoding Access-Control-Request-Method Authorization Content-Encoding
            Content-Type Cookie If-Match If-None-Match If-Range Idempotency-Key Origin Range Script-Name
            X-Forwarded-For X-Forwarded-Proto X-Forwarded-User X-HTTP-Method-Override X-Request-ID
            X-Server-Timing """
        ),
        words(
            """
            */* */*;q=x application/json application/merge-patch+json application/json;charset=utf-16 text/plain a/b/c
            multipart/form-data;boundary= gzip bytes=0- bytes=1-0,2- bytes=-9999999999999999999999 W/"x", "' *
            a,b x http://localhost:3000 1,1 https """
        )
        | values,
    ),
    st.builds(
        lambda name, value: name + b":" + value,
        words(
            "Connection Content-Length Expect Host Proxy SCRIPT_NAME TE Trailer Transfer-Encoding Upgrade X"
        )
        | binary,
        words(f"keep-alive close upgrade h2c websocket 100-continue chunked 5 {'x' * 9000}") | binary,
    ),
)
fields = words(
    "title id role content images documents token_count is_error agent_name model_id response_time_ms x"
)
json_values = mostly(
    words(
        """ "user" "assistant" "x" null true 0 1.0 [] {} ["x"] "9c858901-8a57-4791-81fe-4c455b099bc9"
        ["data:image/png;base64,AAAA"] """
    ),
    words(
        f"""
        1e999999 -0.0 {"9" * 5000} 1{"0" * 400}.0 {"[" * 5000} {"[" * 40 + "]" * 40} {'{"a":' * 1000}1{"}" * 1000} "\\ud800"
        "\\u0000" "\\x" NaN -Infinity "{"x" * 300}" [[]] ["{"A" * 1000}"] 9223372036854775808 "\ufeff\U0010ffff"
        """
    )
    | st.sampled_from([b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\0"'])
    | binary,
)
members = st.builds(lambda name, value: b'"' + name + b'":' + value, fields, json_values)
objects = st.lists(members, max_size=4).map(lambda members: b"{" + b",".join(members) + b"}")
messages = members.map(lambda member: b'{"role":"user","content":"x",' + member + b"}")
bodies = mostly(
    objects | messages,
    json_values | st.sampled_from([b"", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b"{}{}", b'{"title":']),
)
sizes = words('0 -1 +1 0x1 1; 1;a=" 1;a=b zz ffffffffffffffff') | st.sampled_from(
    [b"", b"f" * 30, b"1 ", b"1\r", b"f" * 9000]
)


def chunked(body: bytes) -> bytes:
    """The headers' end, and the body in two chunks."""
    parts = [part for part in (body[: len(body) // 2], body[len(body) // 2 :]) if part]
    return (
        b"Transfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        + b"0\r\n\r\n"
    )


framed = mostly(
    bodies.map(chunked) | bodies.map(lambda body: b"Content-Length: %d\r\n\r\n%s" % (len(body), body)),
    st.builds(
        lambda head, value, body: head % value + body,
        st.sampled_from(
            [b"%.0s\r\n", b"Content-Length: %s\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n%s\r\n"]
        ),
        values | sizes,
        bodies,
    ),
)
whole = st.builds(
    lambda method, target, version, headers, rest: (
        b"%s %s %s\r\nHost: localhost\r\n%s%s"
        % (method, target, version, b"".join(header + b"\r\n" for header in headers), rest)
    ),
    methods,
    targets,
    versions,
    st.lists(headers, max_size=3),
    framed,
)
# A piece in the place of another.
broken = st.builds(
    lambda request, at, piece, length: (
        request[: int(at * len(request))] + piece + request[int(at * len(request)) + length :]
    ),
    whole,
    st.floats(0, 1),
    binary | st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n", b"\0", b" "]),
    st.integers(0, 100),
)
pipelines = st.lists(mostly(whole, broken), min_size=1, max_size=3).map(b"".join)


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw") / "log"


@pytest.fixture(scope="module")
def service(make_migrated_database: Callable[[], str], log: Path) -> Iterator[Service]:
    """A service with a short timeout for incomplete requests."""
    settings = {
        "MAI_SESSIONS_CLIENT_TIMEOUT": "0.2",
        "MAI_SESSIONS_WORKERS": str(WORKERS),
        "MAI_SESSIONS_CORS_ORIGINS": "http://localhost:3000",
    }
    with running(make_migrated_database(), log, **settings) as service:
        wait_until(lambda: len(workers_of(service.process.pid)) == WORKERS)
        workers = workers_of(service.process.pid)
        yield service
        assert workers_of(service.process.pid) == workers
    # And no failure was hidden.
    assert not [
        line for line in log.read_text().splitlines() if '"level":"ERROR"' in line or "Traceback" in line
    ]


def test_malformed_http_causes_no_5xx_hang_or_lost_worker(service: Service) -> None:
    # One connection of another client for all examples.
    with closing(service.connect()) as other:

        @settings(max_examples=EXAMPLES, deadline=None)
        @given(sent=pipelines, listens=st.sampled_from([True, True, True, False]))
        @example(sent=b"GET / HTTP/1.1\r\n\r\n", listens=False)
        def send(sent: bytes, *, listens: bool) -> None:
            responses = b""
            # A hang is a timeout here.
            with closing(connect(service)) as connection, suppress(ConnectionError):
                connection.sendall(sent)
                if listens:
                    # The service may have closed the connection already.
                    with suppress(OSError):
                        connection.shutdown(socket.SHUT_WR)
                    while piece := connection.recv(65536):
                        responses += piece
            statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d\d\d) ", responses)]
            assert all(status < 500 for status in statuses), (sent, responses)
            # It may have been deleted, or be so just now.
            assert call(other, "POST", SESSIONS, {"id": SESSION.rpartition("/")[2]})[0] in (200, 201, 404)

        send()
