"""What a daemon says of itself at /metrics, read before and after a measurement."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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


LAGS = ("loop_lag_seconds", "loop_own_lag_seconds", "loop_starved_lag_seconds")


@dataclass
class Lag:
    """How late, in ms, the loop ran its timers, and its own part of that and its waiting for a core.

    Each is the 99th percentile, as the upper bound of its bucket: never less than the truth.
    """

    whole: float = 0.0
    own: float = 0.0
    starved: float = 0.0


@contextmanager
def lag_of(server: Server) -> Iterator[Lag]:
    """The lag of the daemon's loop meanwhile, known when it is over."""
    before, lag = [buckets(server, name) for name in LAGS], Lag()
    yield lag
    since = (minus(buckets(server, name), earlier) for name, earlier in zip(LAGS, before, strict=True))
    lag.whole, lag.own, lag.starved = (quantile(each, 0.99) * 1000 for each in since)


@contextmanager
def noted_lag(server: Server, lags: list[float] | None) -> Iterator[None]:
    """Add the whole of it to *lags*; None: a server that does not tell."""
    if lags is None:
        yield
        return
    with lag_of(server) as lag:
        yield
    lags.append(lag.whole)
