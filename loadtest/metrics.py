"""What a daemon says of itself at /metrics, read before and after a measurement."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from loadtest.servers import Server

Buckets = dict[float, float]


def metrics(server: Server) -> str:
    """The text of /metrics."""
    with urllib.request.urlopen(f"{server.url}/metrics") as response:
        text: str = response.read().decode()
        return text


def buckets(server: Server, name: str) -> Buckets:
    """A histogram without labels: upper bound to how many are at or below it."""
    found = re.findall(rf'fastmesh_{name}_bucket{{le="([^"]+)"}} (\S+)', metrics(server))
    return {float(bound): float(count) for bound, count in found}


def minus(after: Buckets, before: Buckets) -> Buckets:
    """What was observed between the two."""
    return {bound: count - before.get(bound, 0.0) for bound, count in after.items()}


def quantile(found: Buckets, share: float) -> float:
    """The upper bound of the bucket in which *share* of all lies, in seconds: never less than the truth."""
    total = max(found.values())
    return min(bound for bound, count in found.items() if count >= share * total)


@contextmanager
def noted_lag(server: Server, lags: list[float] | None) -> Iterator[None]:
    """Add to *lags* how late, in ms, the daemon's loop ran its timers meanwhile; None: a server that does not tell.

    It is the 99th percentile, as the upper bound of its bucket: never less than the truth.
    """
    before = buckets(server, "loop_lag_seconds") if lags is not None else {}
    yield
    if lags is not None:
        lags.append(quantile(minus(buckets(server, "loop_lag_seconds"), before), 0.99) * 1000)
