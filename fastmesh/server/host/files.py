"""The limit of open files, and how many connections fit into it."""

from __future__ import annotations

import resource

from fastmesh.config import Settings
from fastmesh.telemetry.log import get_logger

log = get_logger()

# Beside connections and fetches: the interpreter, logs, workers' sockets, DNS, epoll.
OTHER_FILES = 64


def raise_file_limit(settings: Settings) -> int:
    """Raise the soft limit to what is needed; return the connections that fit, fewer than wanted with a warning."""
    wanted = settings.server.max_connections
    others = OTHER_FILES + settings.fetch.concurrency + 2 * settings.workers.extract
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + others
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    if hard != resource.RLIM_INFINITY and hard < needed:
        fits = max(1, hard - others)
        log.warning(
            "settings.lowered", setting="SERVER__MAX_CONNECTIONS", value=wanted, lowered_to=fits, hard_file_limit=hard
        )
        needed, wanted = hard, fits
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    return wanted
