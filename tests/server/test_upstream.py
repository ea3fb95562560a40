"""The methods of gunicorn that the workers override, as they were when they were overridden."""

import inspect
import re
from hashlib import sha256

import pytest
from gunicorn.workers.gthread import ThreadWorker

from mai_sessions.server.gthread import GthreadWorker
from mai_sessions.server.worker import ClientWorker

# Read what upstream changed, adapt the worker and the table at its top, then write the new hash here.
SOURCES = {
    "__init__": "5681b8b542ea91bf",
    "_cap_keepalive": "745c8ac37108c74d",
    "accept": "f8dcead3dce5c851",
    "check_config": "677dafbcca4e7fb4",
    "enqueue_req": "c9f428953d24acef",
    "handle_request": "6d0de5b919102efc",
    "init_process": "e4fc63a1a68e4f48",
    "run": "f92c7394d85715a4",
    "set_accept_enabled": "140150ebfd3cae34",
    "wait_for_and_dispatch_events": "ea969b352482bd5c",
}


def overridden(worker: type[ThreadWorker]) -> set[str]:
    return {
        name
        for name in vars(worker)
        if inspect.isfunction(getattr(ThreadWorker, name, None)) or name == "check_config"
    }


def test_every_overridden_method_is_known() -> None:
    assert overridden(ClientWorker) | overridden(GthreadWorker) == set(SOURCES)


@pytest.mark.parametrize("worker", [ClientWorker, GthreadWorker])
def test_every_overridden_method_is_in_the_table(worker: type[ThreadWorker]) -> None:
    table = inspect.getmodule(worker).__doc__ or ""
    assert set(re.findall(r"^\| (\w+) \|", table, re.MULTILINE)) - {"method"} == overridden(worker)


@pytest.mark.parametrize("name", SOURCES)
def test_upstream_method_is_unchanged(name: str) -> None:
    source = inspect.getsource(getattr(ThreadWorker, name))
    assert sha256(source.encode()).hexdigest()[:16] == SOURCES[name], (
        f"gunicorn has changed ThreadWorker.{name}"
    )
