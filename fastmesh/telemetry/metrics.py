"""What Prometheus reads (contract section 7).

What is counted per frame, per write or per page is a plain integer that a collector reads
at scrape, since a Prometheus call costs as much as a frame.  Labels have few
values, never a URL or an id.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

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


def cumulative(buckets: Buckets) -> list[tuple[str, float]]:
    """Prometheus' form of a histogram: (upper bound, how many are at or under it)."""
    running, out = 0, []
    for bound, count in zip((*buckets.bounds, None), buckets.counts, strict=True):
        running += count
        out.append(("+Inf" if bound is None else str(float(bound)), float(running)))
    return out


class ProtocolCounts(SentCounts):
    """One protocol's counters, all plain integers."""

    __slots__ = (
        "active",
        "connections",
        "dropped",
        "grows",
        "pauses",
        "resumes",
        "sent",
        "shrinks",
    )

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


@dataclass(frozen=True, slots=True)
class Figure:
    """What its owner says when it is asked: a number, or several by the value of *label*."""

    name: str
    about: str
    read: Callable[[], float | Mapping[str, float]]
    label: str = ""
    counted: bool = False  # it never goes down

    def family(self) -> Metric:
        """As Prometheus reads it."""
        family: GaugeMetricFamily | CounterMetricFamily
        kind = CounterMetricFamily if self.counted else GaugeMetricFamily
        family = kind(f"fastmesh_{self.name}", self.about, labels=[self.label] if self.label else [])
        said = self.read()
        for value, number in (said if isinstance(said, Mapping) else {"": said}).items():
            family.add_metric([value] if self.label else [], number)
        return family


class Metrics:
    """All metrics of one daemon, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.bugs = Bugs()  # that were survived
        self.protocols = {name: ProtocolCounts(SECONDS) for name in ("ndjson", "sse", "websocket")}
        self.requests: Counter[tuple[str, str, int]] = Counter()  # (route, method, status)
        self.urls: Counter[str] = Counter()  # outcome
        self.cache: Mapping[str, int] = {}  # requests by where their answer came from
        self.inflight = 0
        self.loop_lag = Buckets(LAG_SECONDS)
        self.loop_own_lag = Buckets(LAG_SECONDS)  # what of it were the loop's own turns
        self.loop_starved_lag = Buckets(LAG_SECONDS)  # and what was waiting for a core
        self.active_streams: Callable[[], int] = lambda: 0
        self.memory_bytes: Callable[[], int] = lambda: 0
        self._figures: dict[str, Figure] = {}
        self.errors = self._counter("streaming_errors", "Streams that ended by a fault, by its type", "error_type")
        for fault in ("internal_error", "search_unavailable", "too_many_errors"):
            self.errors.labels(fault)  # 0 is said too: a rate needs the value before the first
        self.ttfb = self._histogram(
            "streaming_ttfb_seconds", "Request's first byte to head and metadata", SECONDS, "protocol"
        )
        self.duration = self._histogram(
            "streaming_duration_seconds",
            "A stream, from its opening to its last byte",
            LONG_SECONDS,
            "protocol",
            "status",
        )
        self.connection_duration = self._histogram(
            "streaming_connection_duration_seconds", "A subscriber's connection", LONG_SECONDS, "protocol"
        )
        self.capacity = Buckets(FRAMES)  # of windows, sampled once a second
        self.utilization = Buckets(RATIOS)
        self.request_seconds = self._histogram(
            "http_request_duration_seconds", "A request, answered whole", SECONDS, "route"
        )
        self.stages = {stage: Buckets(STAGE_SECONDS) for stage in STAGES}
        self.registry.register(_PlainCounts(self))

    def register(
        self,
        name: str,
        about: str,
        read: Callable[[], float | Mapping[str, float]],
        label: str = "",
        *,
        counted: bool = False,
    ) -> None:
        """From now on *read* is asked for the figure *name*, once a scrape."""
        self._figures[name] = Figure(name, about, read, label, counted)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """What is asked for at a scrape."""
        return tuple(self._figures.values())

    def _counter(self, name: str, text: str, *labels: str) -> PrometheusCounter:
        return PrometheusCounter(f"fastmesh_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(f"fastmesh_{name}", text, labels, buckets=buckets, registry=self.registry)


class _PlainCounts(Collector):
    """Reads the plain integers when Prometheus asks."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        active = GaugeMetricFamily("fastmesh_streaming_active_connections", "Subscribers attached", labels=["protocol"])
        opened = CounterMetricFamily("fastmesh_streaming_connections", "Subscribers ever", labels=["protocol"])
        sent = CounterMetricFamily("fastmesh_streaming_messages_sent", "Frames written", labels=["protocol", "type"])
        octets = CounterMetricFamily("fastmesh_streaming_bytes", "Bytes of streams written", labels=["protocol"])
        dropped = CounterMetricFamily(
            "fastmesh_streaming_messages_dropped", "Frames not sent to a subscriber", labels=["protocol", "reason"]
        )
        pressure = CounterMetricFamily(
            "fastmesh_streaming_backpressure_events",
            "Transports paused and resumed, windows grown and shrunk",
            labels=["protocol", "event"],
        )
        latency = HistogramMetricFamily(
            "fastmesh_streaming_send_latency_seconds",
            "A batch's oldest frame, from entry to transport",
            labels=["protocol"],
        )
        for name, counts in metrics.protocols.items():
            active.add_metric([name], counts.active)
            opened.add_metric([name], counts.connections)
            octets.add_metric([name], counts.bytes)
            for kind, count in counts.sent_by_type().items():
                sent.add_metric([name, kind], count)
            for reason, count in counts.dropped.items():
                dropped.add_metric([name, reason], count)
            pressure.add_metric([name, "pause"], counts.pauses)
            pressure.add_metric([name, "resume"], counts.resumes)
            pressure.add_metric([name, "grow"], counts.grows)
            pressure.add_metric([name, "shrink"], counts.shrinks)
            latency.add_metric([name], cumulative(counts.send_latency), counts.send_latency.total)
        yield from (active, opened, sent, dropped, octets, pressure, latency)
        yield GaugeMetricFamily("fastmesh_streaming_active_streams", "Streams not closed", metrics.active_streams())
        yield GaugeMetricFamily("fastmesh_streaming_memory_usage_bytes", "Held by all journals", metrics.memory_bytes())
        yield GaugeMetricFamily("fastmesh_pipeline_inflight", "URLs started and not finished", metrics.inflight)
        for name, about, buckets in (
            ("loop_lag_seconds", "How late the loop runs a timer", metrics.loop_lag),
            ("loop_own_lag_seconds", "What of that were the loop's own turns", metrics.loop_own_lag),
            ("loop_starved_lag_seconds", "What of that was waiting for a core", metrics.loop_starved_lag),
            ("streaming_buffer_capacity_frames", "Windows of subscribers, sampled once a second", metrics.capacity),
            ("streaming_buffer_utilization_ratio", "Unread frames to capacity", metrics.utilization),
        ):
            family = HistogramMetricFamily(f"fastmesh_{name}", about, labels=[])
            family.add_metric([], cumulative(buckets), buckets.total)
            yield family
        stages = HistogramMetricFamily("fastmesh_pipeline_stage_seconds", "Where a URL's time goes", labels=["stage"])
        for stage, buckets in metrics.stages.items():
            stages.add_metric([stage], cumulative(buckets), buckets.total)
        yield stages
        requests = CounterMetricFamily(
            "fastmesh_http_requests", "Requests answered", labels=["route", "method", "status"]
        )
        for (route, method, status), count in metrics.requests.items():
            requests.add_metric([route, method, str(status)], count)
        yield requests
        urls = CounterMetricFamily("fastmesh_pipeline_urls", "URLs by outcome", labels=["outcome"])
        for outcome, count in metrics.urls.items():
            urls.add_metric([outcome], count)
        yield urls
        cache = CounterMetricFamily("fastmesh_cache_requests", "Requests by their answer's origin", labels=["outcome"])
        for outcome, count in metrics.cache.items():
            cache.add_metric([outcome], count)
        yield cache
        build = GaugeMetricFamily("fastmesh_build_info", "Always 1", labels=["version"])
        build.add_metric([__version__], 1)
        yield build
        families: list[Metric] = []
        metrics.bugs.each(
            "figures",
            metrics.figures,
            lambda figure: families.append(figure.family()),
            lambda figure: {"figure": figure.name},
        )
        yield from families
        bugs = CounterMetricFamily("fastmesh_survived_bugs", "Met in looking after many, by the task", labels=["task"])
        for task, count in metrics.bugs.counts.items():
            bugs.add_metric([task], count)
        yield bugs
