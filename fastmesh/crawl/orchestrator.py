"""PipelineOrchestrator: what happens to one URL, from its text to its result.

guard → a slot at its host → its robots.txt → a slot of the total → fetch, tried again where that helps → extraction.
Both slots are given back before the extraction, so that parsing never keeps the network idle, and while a retry waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from typing import Final

from fastmesh.crawl.admission import PageAdmission
from fastmesh.crawl.cache.keys import result_key
from fastmesh.crawl.documents import Documents
from fastmesh.crawl.extract.spec import document_room
from fastmesh.crawl.fetch.page_source import Fetched, PageRequest, PageSource
from fastmesh.crawl.fetch.retries import with_retries
from fastmesh.crawl.net.guard import AddressGuard
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.robots.robots import Robots
from fastmesh.crawl.schedule.backlog import Backlog, Job
from fastmesh.crawl.schedule.slots import Slots
from fastmesh.errors import UrlError, UrlInternal, bare, types_of
from fastmesh.events import PageResult, rfc3339
from fastmesh.telemetry.log import get_logger
from fastmesh.telemetry.metrics import Metrics
from fastmesh.telemetry.rates import RecentShare
from fastmesh.telemetry.spans import Spans
from fastmesh.telemetry.trace import Trace

log = get_logger()

OUTCOMES: Final = ("success", *types_of(UrlError))


class PipelineOrchestrator:
    """Executes URLs within the limits that all streams share."""

    def __init__(
        self,
        guard: AddressGuard,
        slots: Slots,
        pages: PageSource,
        robots: Robots,
        documents: Documents,
        metrics: Metrics,
        spans: Spans | None = None,
    ) -> None:
        self._guard = guard
        self._slots = slots
        self._pages = pages
        self._robots = robots
        self._documents = documents
        self._metrics = metrics
        self._spans = spans
        self.faults = RecentShare()  # of URLs
        self.bugs = RecentShare()
        for outcome in OUTCOMES:  # 0 is said too: a rate needs the value before the first
            metrics.urls[outcome] += 0
        self._stages = metrics.stages

    def backlog(
        self,
        wake: Callable[[], None],
        *,
        dedupe: bool,
        in_order: bool,
        trace: Trace | None = None,
        client: Hashable = None,
    ) -> Backlog:
        """For the URLs of a stream of *client*, to be started one by one."""
        return Backlog(
            wake,
            slots=self._slots,
            locate=self._host_key,
            run=self.execute,
            dedupe=dedupe,
            in_order=in_order,
            trace=trace,
            client=client,
        )

    async def execute(self, job: Job) -> PageResult:
        """Fetch and extract *job*'s URL.  Never raises but CancelledError: whatever goes wrong is the result's error.
        ``processing_time_ms`` is without the waits for slots and for robots.txt."""
        metrics = self._metrics
        metrics.inflight += 1
        url, options = job.input.url, job.input.options
        page, started = PageResult(url, id=job.input.id), time.perf_counter()
        robots = self._robots if options.respect_robots else None
        admission = PageAdmission(self._slots, job.backlog, job.slot, robots, options.sent_user_agent)
        job.slot = None  # the admission's from here on
        trace = None if job.backlog.trace is None else job.backlog.trace.child()
        request = PageRequest(url, options, admission, trace, job.backlog.client)
        fetched = Fetched()
        try:
            await with_retries(lambda: self._fetch(request, fetched), request, job.budget)
            await self._extract(page, fetched, options, job.backlog)
        except UrlError as error:
            page.error = bare(error)
        except Exception as error:  # a bug at one URL costs that URL
            log.error("url.bug", url=url, trace_id=None if trace is None else trace.trace_id, exc_info=error)
            bare(error)
            page.error = UrlInternal("this page failed by a fault of the server")
        finally:
            metrics.inflight -= 1
            admission.release()
            page.processing_time_ms = round((time.perf_counter() - started - admission.waited_s) * 1000, 3)
            page.body_bytes = len(fetched.body)
            fetched.let_go()
        self._stages["queue"].observe(job.queued_s + admission.waited_s)
        page.final_url, page.status, page.content_type = fetched.final_url, fetched.status, fetched.content_type
        page.fetched_at = rfc3339(request.asked_at) if request.asked_at else None
        page.attempts = request.tries or admission.robots_tries
        page.from_cache = fetched.from_cache
        if options.cache_mode != "bypass":
            page.cache_key = result_key(url, options)
        metrics.urls["success" if page.error is None else page.error.type] += 1
        now = self._slots.now()
        self.faults.count(now, page.error is not None and page.error.fault)
        self.bugs.count(now, isinstance(page.error, UrlInternal))
        if self._spans is not None and trace is not None:
            self._spans.ended(
                "url",
                trace,
                time.perf_counter() - started,
                {"url.full": url, "fastmesh.attempts": page.attempts, "fastmesh.from_cache": page.from_cache},
                fault=None if page.error is None else page.error.type,
            )
        return page

    async def _fetch(self, request: PageRequest, fetched: Fetched) -> None:
        """One try: slots are held for its time only."""
        dns_s, fetch_s = request.dns_s, request.fetch_s
        try:
            await self._pages.fetch(request, fetched)
        finally:
            request.admission.release()
            if request.fetch_s > fetch_s:  # else nothing was asked for
                dns_s = request.dns_s - dns_s
                self._stages["dns"].observe(dns_s)
                self._stages["fetch"].observe(request.fetch_s - fetch_s - dns_s)

    async def _extract(self, page: PageResult, fetched: Fetched, options: CrawlOptions, owner: Backlog) -> None:
        started = time.perf_counter()
        try:
            room = document_room(options.max_frame_bytes, page.url, page.id, fetched.final_url, fetched.content_type)
            extracted = await self._documents.of(
                fetched.answer,
                fetched.body,
                options.document.within(room),
                url=fetched.final_url or page.url,
                content_type=fetched.content_type,
                owner=owner,
                client=owner.client,
            )
            page.document = extracted.document
            page.gate_decision, page.quality_score = extracted.gate
            if fetched.from_cache:
                page.gate_decision = "cached"
        finally:
            self._stages["extract"].observe(time.perf_counter() - started)

    def _host_key(self, origin: str) -> str | None:
        """The host whose slots URLs that begin with *origin* need; None when none is fetched."""
        try:
            return self._guard.parse(origin).host_key
        except UrlError:
            return None
