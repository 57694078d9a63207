"""PipelineOrchestrator: what happens to one URL, from its text to its result.

guard → a slot of its host and of the total → fetch → extraction.  The slot is
given back before the extraction, so that parsing never keeps the network idle.
"""

from __future__ import annotations

import time

import orjson

from fastmesh.crawl.fetch import Fetched, Fetcher
from fastmesh.crawl.guard import AddressGuard
from fastmesh.crawl.options import CrawlOptions
from fastmesh.crawl.slots import FetchSlots
from fastmesh.crawl.workers import ExtractPool
from fastmesh.errors import UrlError, UrlInternal
from fastmesh.events import PageResult, rfc3339
from fastmesh.log import get_logger
from fastmesh.metrics import Metrics

log = get_logger()

FRAME_BYTES = 1024  # a result's frame without its document, its URLs and its content type


class PipelineOrchestrator:
    """Executes URLs within the limits that all streams share."""

    def __init__(
        self, guard: AddressGuard, slots: FetchSlots, fetcher: Fetcher, pool: ExtractPool, metrics: Metrics
    ) -> None:
        self._guard = guard
        self._slots = slots
        self._fetcher = fetcher
        self._pool = pool
        self._metrics = metrics
        self._stages = {stage: metrics.stage.labels(stage) for stage in ("queue", "dns", "fetch", "extract")}

    async def execute(self, url: str, *, options: CrawlOptions) -> PageResult:
        """Fetch and extract *url*.

        Never raises but CancelledError: whatever goes wrong is the result's error.
        ``processing_time_ms`` is without the wait for a slot.
        """
        metrics = self._metrics
        metrics.inflight += 1
        page, fetched, started = PageResult(url), Fetched(url), time.perf_counter()
        try:
            started = await self._fetch(page, fetched, options)
            await self._extract(page, fetched, options)
        except UrlError as error:
            page.error = error
        except Exception as error:  # a bug at one URL costs that URL
            log.error("url.bug", url=url, exc_info=error)
            page.error = UrlInternal("this page failed by a fault of the server")
        finally:
            metrics.inflight -= 1
            page.processing_time_ms = round((time.perf_counter() - started) * 1000, 3)
        page.final_url, page.status, page.content_type = fetched.final_url, fetched.status, fetched.content_type
        page.body_bytes = len(fetched.body)
        metrics.urls["success" if page.error is None else page.error.type] += 1
        return page

    async def _fetch(self, page: PageResult, fetched: Fetched, options: CrawlOptions) -> float:
        """Fetch into *fetched*; return when the slot was there, in seconds of the performance counter."""
        host_key = self._guard.parse(fetched.url).host_key
        queued = time.perf_counter()
        async with self._slots.take(host_key):
            started = time.perf_counter()
            page.attempts = 1
            page.fetched_at = rfc3339()
            try:
                await self._fetcher.fetch(fetched, options)
            finally:
                self._stages["queue"].observe(started - queued)
                self._stages["dns"].observe(fetched.dns_s)
                self._stages["fetch"].observe(fetched.fetch_s - fetched.dns_s)
        return started

    async def _extract(self, page: PageResult, fetched: Fetched, options: CrawlOptions) -> None:
        started = time.perf_counter()
        try:
            page.document = await self._pool.extract(
                fetched.body,
                url=fetched.final_url or fetched.url,
                content_type=fetched.content_type,
                include=options.include,
                max_bytes=options.max_frame_bytes - _frame_without_document(page.url, fetched),
            )
        finally:
            self._stages["extract"].observe(time.perf_counter() - started)


def _frame_without_document(url: str, fetched: Fetched) -> int:
    """At most so many bytes of a result's frame are not its document."""
    return FRAME_BYTES + len(orjson.dumps([url, fetched.final_url, fetched.content_type]))
