"""A large export through nginx is streamed, also to a slow reader."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import psycopg
import pytest
from support.nginx import Site, behind_nginx
from support.service import call, most_memory, wait_until, workers_of

from mai_sessions.auth.identity import DEFAULT_USER
from mai_sessions.config import Settings

pytestmark = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")

MIB = 1024 * 1024
SESSIONS, MESSAGES, TEXT = 40, 400, 4000
# The most memory that a worker may take for sending 64 MB.
MEMORY = 24 * MIB

FILL = f"""
    INSERT INTO users (user_id, session_count) VALUES ('{DEFAULT_USER}', {SESSIONS});
    INSERT INTO sessions (user_id, id, title, agent_name, version, message_count, last_seq, newest_seq,
                          last_message_preview)
    SELECT '{DEFAULT_USER}', gen_random_uuid(), 'chat ' || n, 'chat', gen_random_uuid(), {MESSAGES},
           {MESSAGES}, {MESSAGES}, 'x'
      FROM generate_series(1, {SESSIONS}) AS n;
    INSERT INTO session_titles (user_id, session_id, created_at, title, words)
    SELECT user_id, id, created_at, title, ''::tsvector FROM sessions;
    INSERT INTO messages (user_id, session_id, id, created_at, seq, token_count, is_error, role, content,
                          images, documents)
    SELECT s.user_id, s.id, gen_random_uuid(), now(), n, 1, false, 'user', repeat(md5(n::text), {TEXT // 32}),
           '{{}}', '{{}}'
      FROM sessions AS s
     CROSS JOIN generate_series(1, {MESSAGES}) AS n"""


@pytest.fixture(scope="module")
def service(
    make_migrated_database: Callable[[], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A service behind nginx, over a user with 64 MB of texts."""
    database_url = make_migrated_database()
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(FILL)
    with behind_nginx(database_url, tmp_path_factory.mktemp("site")) as site:
        wait_until(lambda: len(workers_of(site.process.pid)) == Settings().workers)
        yield site


def test_export_of_any_size_takes_bounded_memory(service: Site) -> None:
    workers = workers_of(service.process.pid)
    before, lines, size = most_memory(workers), 0, 0
    with closing(service.connect()) as http:
        http.request("GET", "/api/v1/export")
        response = http.getresponse()
        assert response.status == 200
        for line in response:
            size += len(line)
            lines += 1
            assert len(json.loads(line)["messages"]) == MESSAGES
    assert (lines, size > SESSIONS * MESSAGES * TEXT) == (SESSIONS, True)
    assert most_memory(workers) - before < MEMORY
    assert workers_of(service.process.pid) == workers
    wait_until(lambda: f'"bytes":{size}' in service.log)


def test_slow_reader_of_an_export_takes_bounded_memory_and_delays_no_one(service: Site) -> None:
    workers = workers_of(service.process.pid)
    before = most_memory(workers)
    with ExitStack() as stack:
        other = stack.enter_context(closing(service.connect()))
        responses = []
        for _ in range(4):
            http = stack.enter_context(closing(service.connect()))
            http.request("GET", "/api/v1/export")
            responses.append(stack.enter_context(http.getresponse()))
        for _ in range(50):
            assert [len(response.read(4096)) for response in responses] == [4096] * 4
            assert call(other, "GET", "/api/v1/sessions?limit=1")[0] == 200
    assert most_memory(workers) - before < MEMORY
    # A reader that leaves early takes no worker with it.
    assert workers_of(service.process.pid) == workers
