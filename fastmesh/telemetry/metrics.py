"""What Prometheus reads (docs/observability.md).

What is counted per frame, per write or per page is a plain integer that is read at a scrape, since a Prometheus call
costs as much as a frame.  Labels have few values, never a URL or an id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import accumulate
from operator import attrgetter
from typing import Any

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client import Counter as PrometheusCounter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fastmesh._core import Buckets, SentCounts
from fastmesh.telemetry.bugs import Bugs
from fastmesh.version import __version__

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0)
LAG_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
LONG_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600)
STAGE_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15)
STAGES = ("queue", "dns", "fetch", "extract")
FRAMES = (64, 128, 256, 512, 1024, 2048)
RATIOS = (0.0, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)

LATENCY = "A batch's oldest frame, from entry to transport"
BACKPRESSURE = "Transports paused and resumed, windows grown and shrunk"

Said = float | Mapping[Any, float]  # of a figure: a number, or several by a label's value, or by several labels'


class ProtocolCounts(SentCounts):
    """One protocol's counters, all plain integers."""

    __slots__ = ("active", "connections", "dropped", "grows", "pauses", "resumes", "sent", "shrinks")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.active = 0
        self.connections = 0
        self.pauses = 0
        self.resumes = 0
        self.grows = 0  # of windows
        self.shrinks = 0
        self.dropped = {"slow_client": 0, "expired": 0}  # frames that a gap named, by its reason
        self.sent = dict.fromkeys(("metadata", "search", "error", "summary", "gap", "progress", "heartbeat"), 0)

    def sent_by_type(self) -> dict[str, int]:
        """Frames written, by their type."""
        return self.sent | {"result": self.results}

    def backpressure(self) -> dict[str, int]:
        """Events of backpressure, by their name."""
        return {"pause": self.pauses, "resume": self.resumes, "grow": self.grows, "shrink": self.shrinks}


class Metrics(Collector):
    """All metrics of one daemon, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bugs = Bugs()  # that were survived
        self.protocols = {name: ProtocolCounts(SECONDS) for name in ("ndjson", "sse", "websocket")}
        self.requests: Counter[tuple[str, str, int]] = Counter()  # (route, method, status)
        self.urls: Counter[str] = Counter()  # outcome
        self.inflight = 0
        self.loop_lag = Buckets(LAG_SECONDS)
        self.loop_own_lag = Buckets(LAG_SECONDS)  # the part of it that the loop's own turns took
        self.loop_starved_lag = Buckets(LAG_SECONDS)  # and the part without a core
        self.capacity = Buckets(FRAMES)  # of windows, sampled once a second
        self.utilization = Buckets(RATIOS)
        self.stages = {stage: Buckets(STAGE_SECONDS) for stage in STAGES}
        self._families: dict[str, Callable[[], Metric]] = {}  # what is read at a scrape
        self._register_counts()
        about = "Streams that ended by a fault, by its type"
        self.errors = PrometheusCounter("fastmesh_streaming_errors", about, ["error_type"], registry=self.registry)
        for fault in ("internal_error", "search_unavailable", "too_many_errors"):
            self.errors.labels(fault)  # 0 is said too: a rate needs the value before the first
        observed = self._observed
        about = "Request's first byte to head and metadata"
        self.ttfb = observed("streaming_ttfb_seconds", about, SECONDS, "protocol")
        about = "A stream, from its opening to its last byte"
        self.duration = observed("streaming_duration_seconds", about, LONG_SECONDS, "protocol", "status")
        about = "A subscriber's connection"
        self.connection_duration = observed("streaming_connection_duration_seconds", about, LONG_SECONDS, "protocol")
        about = "A request, answered whole"
        self.request_seconds = observed("http_request_duration_seconds", about, SECONDS, "route")
        self.registry.register(self)

    def register(
        self, name: str, about: str, read: Callable[[], Said], labels: str = "", *, counted: bool = False
    ) -> None:
        """From now on *read* is asked for the figure *name*, once a scrape; what is *counted* never goes down."""
        self._families[name] = partial(_family, name, about, read, labels, counted=counted)

    def collect(self) -> Iterator[Metric]:
        """All of them, but for those that raise; these are among the bugs, which come last."""
        families: list[Metric] = []
        self.bugs.each(
            "figures",
            self._families.items(),
            lambda figure: families.append(figure[1]()),
            lambda figure: {"figure": figure[0]},
        )
        yield from families
        yield _family(
            "survived_bugs", "Met in looking after many, by the task", lambda: self.bugs.counts, "task", counted=True
        )

    def _register_counts(self) -> None:
        register, protocols = self.register, self.protocols.items()

        def of_each(read: Callable[[ProtocolCounts], float]) -> Callable[[], Said]:
            return lambda: {name: read(counts) for name, counts in protocols}

        def of_kinds(read: Callable[[ProtocolCounts], Mapping[str, int]]) -> Callable[[], Said]:
            return lambda: {(name, kind): n for name, counts in protocols for kind, n in read(counts).items()}

        register("streaming_active_connections", "Subscribers attached", of_each(attrgetter("active")), "protocol")
        for name, about, read, labels in (
            ("connections", "Subscribers ever", of_each(attrgetter("connections")), "protocol"),
            ("bytes", "Bytes of streams written", of_each(attrgetter("bytes")), "protocol"),
            ("messages_sent", "Frames written", of_kinds(ProtocolCounts.sent_by_type), "protocol type"),
            ("messages_dropped", "Frames not sent to a subscriber", of_kinds(attrgetter("dropped")), "protocol reason"),
            ("backpressure_events", BACKPRESSURE, of_kinds(ProtocolCounts.backpressure), "protocol event"),
        ):
            register(f"streaming_{name}", about, read, labels, counted=True)
        register("pipeline_inflight", "URLs started and not finished", lambda: self.inflight)
        register("pipeline_urls", "URLs by outcome", lambda: self.urls, "outcome", counted=True)
        register("http_requests", "Requests answered", lambda: self.requests, "route method status", counted=True)
        register("build_info", "Always 1", lambda: {__version__: 1}, "version")
        for name, about, label, buckets in (
            ("loop_lag_seconds", "How late the loop runs a timer", "", {"": self.loop_lag}),
            ("loop_own_lag_seconds", "What of that were the loop's own turns", "", {"": self.loop_own_lag}),
            ("loop_starved_lag_seconds", "What of that was waiting for a core", "", {"": self.loop_starved_lag}),
            (
                "streaming_buffer_capacity_frames",
                "Windows of subscribers, sampled once a second",
                "",
                {"": self.capacity},
            ),
            ("streaming_buffer_utilization_ratio", "Unread frames to capacity", "", {"": self.utilization}),
            ("pipeline_stage_seconds", "Where a URL's time goes", "stage", self.stages),
            ("streaming_send_latency_seconds", LATENCY, "protocol", {p: c.send_latency for p, c in protocols}),
        ):
            self._families[name] = partial(_histogram, name, about, label, buckets)

    def _observed(self, name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        """What Prometheus' own client counts: once a stream, a connection or a request."""
        return Histogram(f"fastmesh_{name}", about, labels, buckets=buckets, registry=self.registry)


def _family(name: str, about: str, read: Callable[[], Said], labels: str, *, counted: bool) -> Metric:
    """A figure as Prometheus reads it; its *labels* are parted by spaces."""
    kind = CounterMetricFamily if counted else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = kind(f"fastmesh_{name}", about, labels=labels.split())
    said = read()
    for value, number in (said if isinstance(said, Mapping) else {(): said}).items():
        family.add_metric([value] if isinstance(value, str) else [*map(str, value)], number)
    return family


def _histogram(name: str, about: str, label: str, by_value: Mapping[str, Buckets]) -> Metric:
    """What Buckets count, in Prometheus' form: how many are at or under each bound."""
    family = HistogramMetricFamily(f"fastmesh_{name}", about, labels=label.split())
    for value, buckets in by_value.items():
        bounds = [*(str(float(bound)) for bound in buckets.bounds), "+Inf"]
        cumulative = list(zip(bounds, accumulate(buckets.counts), strict=True))
        family.add_metric([value] if label else [], cumulative, buckets.total)
    return family
