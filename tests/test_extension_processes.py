"""What the extension leaves in a process: threads and connections, after a fork and after its end."""

import subprocess
import sys
import threading

from flask import Flask

from mai_sessions import MaiSessions

# A process, its child, and then the process again, at last after another child that only closes, print which
# process of PostgreSQL serves them, and their threads.
FORK = """
import os, sys, threading
from flask import Flask
from mai_sessions import MaiSessions

app = Flask("host")
app.config.update(MAI_SESSIONS_DATABASE_URL=sys.argv[1], MAI_SESSIONS_THREADS=1)
MaiSessions(app, identify=lambda: "ann")
client = app.test_client()

def serve():
    assert client.get("/api/v1/sessions").status_code == 200
    with app.extensions["mai_sessions"].database.connection() as conn:
        backend = conn.info.backend_pid
    print(backend, *sorted({thread.name for thread in threading.enumerate()} & {"watchdog", "expiry"}))

close = app.extensions["mai_sessions"].close
serve()
for work in (serve, close):
    if child := os.fork():
        os.waitpid(child, 0)
        serve()
    else:
        work()
        os._exit(0)
close()
"""


def test_child_of_a_fork_has_connections_and_threads_of_its_own(database_url: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-u", "-c", FORK, database_url]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    before, child, *after = (line.split() for line in printed)
    assert after == [before, before]
    assert child[0] != before[0]
    assert before[1:] == child[1:] == ["expiry", "watchdog"]


def test_closed_extension_leaves_no_thread(database_url: str) -> None:
    existing = set(threading.enumerate())
    app = Flask("host")
    app.config["MAI_SESSIONS_DATABASE_URL"] = database_url
    MaiSessions(app, identify=lambda: "ann")
    assert app.test_client().get("/api/v1/sessions").status_code == 200
    started = set(threading.enumerate()) - existing
    assert {thread.name for thread in started} >= {"expiry", "watchdog"}
    app.extensions["mai_sessions"].close()
    for thread in started:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in started)
