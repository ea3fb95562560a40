"""The number of files that a worker may open."""

import resource

from gunicorn.config import Config
from gunicorn.glogging import Logger

# Files that a worker has open beside its clients: log, metrics, database connections, epoll.
_OTHER_FILES = 64


def fit_open_files(cfg: Config, log: Logger) -> None:
    """Raise the limit of open files as far as the worker's clients need and it may be; else take fewer
    clients.
    """
    others = _OTHER_FILES + 2 * cfg.threads
    needed = cfg.worker_connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft in range(needed):
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft in range(needed):
        cfg.set("worker_connections", max(soft - others, cfg.threads + 1))
        log.warning("ulimit -n is %d: each worker keeps only %d connections", soft, cfg.worker_connections)
