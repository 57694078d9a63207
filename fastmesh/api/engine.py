"""Fetching, extraction and streaming, without a server: the part that the daemon and the command line share."""

from __future__ import annotations

from contextlib import AsyncExitStack

from fastmesh._core import keep_large_apart
from fastmesh.api.plans import Plans
from fastmesh.api.streams.endpoints import Streams
from fastmesh.config import Settings
from fastmesh.crawl.cache.memory import MemoryStore
from fastmesh.crawl.documents import Documents
from fastmesh.crawl.extract.pool import ExtractPool
from fastmesh.crawl.fetch.answers import Answers
from fastmesh.crawl.fetch.fetcher import Fetcher
from fastmesh.crawl.net.dns import make_dns
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.orchestrator import PipelineOrchestrator
from fastmesh.crawl.robots.robots import Robots
from fastmesh.crawl.schedule.slots import Slots
from fastmesh.crawl.search import make_search
from fastmesh.streaming.module import StreamingModule
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.telemetry.metrics import Metrics
from fastmesh.telemetry.spans import Attribute, make_spans


class Engine:
    """Builds the parts in their order and ends them in the reverse one.  Made while the loop runs."""

    def __init__(self, settings: Settings) -> None:
        keep_large_apart()  # bodies of large pages, and documents made of them
        self.settings = settings
        self.metrics = Metrics()
        self.module = StreamingModule(settings, self.metrics)
        self.module.registry.starting = True
        self.spans = make_spans(settings, self.metrics.bugs)
        self.search = make_search(settings)  # may raise: before parts that would have to be closed again
        self.guard = AddressGuard(settings.fetch)
        fetch = settings.fetch
        self.slots = Slots(fetch.concurrency, fetch.per_host_concurrency, fetch.per_host_rps, bugs=self.metrics.bugs)
        self.pool = ExtractPool(settings.workers.extract, bugs=self.metrics.bugs)
        self.cache = MemoryStore(settings.cache.max_bytes)
        self.answers = Answers(self.cache, settings.cache.ttl_s)
        self.documents = Documents(self.pool, self.cache)
        self.fetcher = Fetcher(
            settings.fetch, self.guard, answers=self.answers, dns=make_dns(fetch.nameservers), spans=self.spans
        )
        self._robots = Robots(self.fetcher, self.slots, fetch)
        self.orchestrator = PipelineOrchestrator(
            self.guard, self.slots, self.fetcher, self._robots, self.documents, self.metrics, self.spans
        )
        self.module.upkeep.held_beside = lambda: self.fetcher.origins.budget.used_bytes + self.cache.used_bytes
        if self.spans is not None:
            self.module.registry.on_closed = self._stream_ended
        self._register_figures(settings)
        self.plans = Plans(settings, self.orchestrator, self.search, self.module.registry.now)
        searches = self.plans.searches
        self.metrics.register("search_requests", "Asked of the provider", lambda: searches, "outcome", counted=True)
        self.streams = Streams(self.module.registry, self.plans)

    def _register_figures(self, settings: Settings) -> None:
        """Register the figures that its parts keep."""
        metrics, slots, cache = self.metrics, self.slots, self.cache
        pool, workers = self.pool, self.pool.workers
        metrics.register(
            "pipeline_fetches",
            "Fetches that run, and URLs that wait for a turn or a slot",
            lambda: {"running": slots.in_flight, "waiting": slots.waiting},
            "state",
        )
        metrics.register("pipeline_fetches_limit", "FETCH__CONCURRENCY", lambda: settings.fetch.concurrency)
        budget = self.fetcher.origins.budget
        metrics.register("fetch_body_bytes", "Held of bodies under way", lambda: budget.used_bytes)
        metrics.register("fetch_body_limit_bytes", "FETCH__TOTAL_BYTES", lambda: settings.fetch.total_bytes)
        metrics.register("fetch_waiting_bodies", "Bodies whose reading waits for room", lambda: budget.waiting)
        metrics.register(
            "extract_workers",
            "Processes that extract",
            lambda: {"wanted": workers.count, "alive": workers.alive, "busy": workers.busy},
            "state",
        )
        metrics.register("extract_waiting_pages", "Pages that wait for a worker", lambda: pool.waiting)
        metrics.register(
            "extract_worker_deaths", "Workers that died or took too long", lambda: workers.deaths, counted=True
        )
        outcomes = self.answers.outcomes
        metrics.register(
            "cache_requests", "Requests by their answer's origin", lambda: outcomes, "outcome", counted=True
        )
        metrics.register("cache_bytes", "Held of bodies and documents", lambda: cache.used_bytes)
        metrics.register("cache_limit_bytes", "CACHE__MAX_BYTES", lambda: cache.max_bytes)
        names = self.fetcher.origins.names
        metrics.register("dns_lookups", "Names asked for", lambda: names.outcomes, "outcome", counted=True)
        metrics.register("dns_pending_lookups", "Lookups that run", lambda: names.pending)

    def _stream_ended(self, pipeline: StreamingPipeline) -> None:
        assert self.spans is not None
        successful, failed = pipeline.results
        attributes: dict[str, Attribute] = {
            "fastmesh.stream_id": pipeline.id,
            "fastmesh.request_id": pipeline.opening.request_id,
            "fastmesh.status": pipeline.status,
            "fastmesh.protocol": pipeline.audience.protocol,
            "fastmesh.successful": successful,
            "fastmesh.failed": failed,
        }
        took_s = pipeline.closed_at - pipeline.opened_at
        self.spans.ended(pipeline.opening.stream_type, pipeline.opening.trace, took_s, attributes, fault=pipeline.fault)

    async def start(self) -> None:
        """Streaming first: when it cannot start, nothing does.  Raises FastmeshError."""
        self.module.start()
        await self.pool.start()
        self.module.registry.starting = False

    def reload(self, settings: Settings) -> None:
        """From now on streams and requests are held to the limits of *settings*."""
        self.settings = settings
        self.module.registry.reload(settings)
        self.plans.reload(settings)

    async def close(self) -> None:
        """End the streams that are left, then the other parts; also after a start that failed."""
        async with AsyncExitStack() as parts:  # from the last to the first, whichever of them raise
            if self.spans is not None:
                parts.push_async_callback(self.spans.close)
            parts.push_async_callback(self.pool.close)
            if self.search is not None:
                parts.push_async_callback(self.search.close)
            parts.push_async_callback(self.fetcher.close)
            parts.callback(self.slots.close)
            parts.push_async_callback(self._robots.close)
            parts.push_async_callback(self.documents.close)
            parts.push_async_callback(self.module.close)
