"""What a request asks for, checked against the limits: a stream that can be opened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

import orjson

from fastmesh.api.requests.bodies import CrawlRequest, DeepSearchRequest
from fastmesh.api.requests.bounds import too_many_urls
from fastmesh.api.requests.model import Strict
from fastmesh.api.requests.options import Options, PageOptions, Stream
from fastmesh.api.requests.queries import FirehoseQuery
from fastmesh.config import Settings
from fastmesh.crawl.extract.spec import ExtractSpec, document_room
from fastmesh.crawl.options import CrawlOptions, InputUrl
from fastmesh.crawl.orchestrator import PipelineOrchestrator
from fastmesh.crawl.search.provider import SearchProvider
from fastmesh.errors import NotFound, SearchUnavailable, ValidationError
from fastmesh.events import search_event
from fastmesh.streaming.fill.firehose import FirehoseProcessor
from fastmesh.streaming.fill.processor import StreamProcessor
from fastmesh.streaming.pipeline import StreamingPipeline
from fastmesh.streaming.ports import Opening
from fastmesh.streaming.registry import MakeProcessor
from fastmesh.telemetry.rates import RecentShare


@dataclass(frozen=True, slots=True)
class Plan:
    """A stream that was asked for and may be opened."""

    opening: Opening
    make_processor: MakeProcessor
    body: Strict

    @property
    def digest(self) -> bytes:
        """Equal for requests that ask for the same stream, however they are written; few are asked for theirs."""
        return blake2b(_json([self.opening.stream_type, self.body.model_dump()]), digest_size=16).digest()


class Plans:
    """Makes plans of requests."""

    def __init__(
        self,
        settings: Settings,
        orchestrator: PipelineOrchestrator,
        search: SearchProvider | None,
        now: Callable[[], float],
    ) -> None:
        self._orchestrator = orchestrator
        self._search = search
        self._now = now
        self.searches: Counter[str] = Counter(dict.fromkeys(("success", "failed"), 0))
        self.searched = RecentShare()
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """From now on requests are held to *settings*."""
        self._settings = settings
        self._document_room = document_room(settings.stream.max_frame_bytes)

    @property
    def max_urls(self) -> int:
        """How many URLs a request from outside may have."""
        return self._settings.stream.max_urls

    def crawl(self, body: CrawlRequest, request_id: str, client: str | None) -> Plan:
        """The crawl that *body* asks for.  Raises ValidationError where it asks for more than is allowed."""
        inputs = self._inputs(body)
        opening = self._opening("crawl", body.stream, request_id, client, total_urls=len(body.urls))

        def fill(pipeline: StreamingPipeline) -> StreamProcessor:
            return self._processor(pipeline, body.options, urls=inputs)

        return Plan(opening, fill, body)

    def checked_crawl(self, body: CrawlRequest, request_id: str, client: str | None) -> Plan:
        """As crawl(), for a request over HTTP or WebSocket: with STREAM__MAX_URLS URLs at most."""
        if len(body.urls) > self.max_urls:
            raise too_many_urls(len(body.urls), self.max_urls)
        return self.crawl(body, request_id, client)

    def deep_search(self, body: DeepSearchRequest, request_id: str, client: str | None) -> Plan:
        """A search, and the crawl of what it finds.  Raises SearchUnavailable without a provider."""
        provider = self._search
        if provider is None:
            raise SearchUnavailable("no search provider is set (SEARCH__PROVIDER)", retry_after_s=60)
        options = self._options(body.options)
        opening = self._opening("deepsearch", body.stream, request_id, client, total_urls=None)

        async def search(pipeline: StreamingPipeline) -> Sequence[InputUrl]:
            begun = pipeline.now()
            try:
                hits = await provider.search(body.query, body.limit)
            except SearchUnavailable:
                self._count_search("failed")
                raise
            self._count_search("success")
            took_ms = (pipeline.now() - begun) * 1000
            found = [{"rank": hit.rank, "url": hit.url, "title": hit.title, "snippet": hit.snippet} for hit in hits]
            pipeline.append_search(search_event(pipeline.id, body.query, found, took_ms))
            return [InputUrl(hit.url, options) for hit in hits] if body.include_content else []

        def fill(pipeline: StreamingPipeline) -> StreamProcessor:
            return self._processor(pipeline, body.options, prepare=partial(search, pipeline))

        return Plan(opening, fill, body)

    def firehose(self, query: FirehoseQuery, request_id: str, client: str | None) -> Plan:
        """Made-up results.  Raises NotFound unless FIREHOSE__ENABLED."""
        if not self._settings.firehose.enabled:
            raise NotFound("the firehose is off; FIREHOSE__ENABLED=true turns it on")
        limit = self._settings.stream.max_frame_bytes
        if query.bytes > limit:
            raise ValidationError(f"bytes: a frame may have {limit} (STREAM__MAX_FRAME_BYTES)", field="bytes")
        opening = Opening(
            "firehose", request_id, client, query.frames, deadline_s=self._settings.stream.deadline_s, kept=False
        )

        def fill(pipeline: StreamingPipeline) -> FirehoseProcessor:
            return FirehoseProcessor(pipeline, query.frames, query.bytes, query.rate)

        return Plan(opening, fill, query)

    def _count_search(self, outcome: str) -> None:
        self.searches[outcome] += 1
        self.searched.count(self._now(), outcome == "failed")

    def _processor(self, pipeline: StreamingPipeline, options: Options, **urls: Any) -> StreamProcessor:
        in_order = options.order == "input"
        return StreamProcessor(
            pipeline,
            partial(
                self._orchestrator.backlog,
                dedupe=options.dedupe,
                in_order=in_order,
                trace=pipeline.opening.trace,
                client=pipeline.opening.asker,
            ),
            options.concurrency,
            in_order=in_order,
            stop_after_errors=options.stop_after_errors,
            **urls,
        )

    def _inputs(self, body: CrawlRequest) -> list[InputUrl]:
        """The URLs of *body*; those that are fetched in the same way share their options."""
        common = self._options(body.options)
        inputs = []
        known: dict[int, CrawlOptions] = {}  # by id(): options that a body repeats are one object (requests/bodies.py)
        for index, item in enumerate(body.urls):
            if isinstance(item, str):
                inputs.append(InputUrl(item, common))
            elif (own := item.options) is None:
                inputs.append(InputUrl(item.url, common, item.id))
            else:
                options = known.get(id(own))
                if options is None:
                    asked = body.options.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})
                    options = known[id(own)] = self._options(asked, f"urls.{index}.options")
                inputs.append(InputUrl(item.url, options, item.id))
        return inputs

    def _options(self, asked: PageOptions, at: str = "options") -> CrawlOptions:
        fetch = self._settings.fetch
        return CrawlOptions(
            timeout_ms=_lowered(at, "timeout_ms", asked.timeout_ms, fetch.timeout_ms),
            max_body_bytes=int(_lowered(at, "max_body_bytes", asked.max_body_bytes, fetch.max_body_bytes)),
            user_agent=asked.user_agent or fetch.user_agent,
            max_frame_bytes=self._settings.stream.max_frame_bytes,
            retries=int(_lowered(at, "retries", asked.retries, fetch.retries)),
            respect_robots=fetch.respect_robots if asked.respect_robots is None else asked.respect_robots,
            cache_mode=asked.cache_mode,
            max_age_s=asked.max_age_s,
            cookies=asked.cookies,
            document=ExtractSpec.asked(asked, self._document_room),
            headers=asked.headers,
        )

    def _opening(
        self, kind: str, asked: Stream, request_id: str, client: str | None, *, total_urls: int | None
    ) -> Opening:
        return Opening(
            kind,
            request_id,
            client,
            total_urls=total_urls,
            deadline_s=_lowered("stream", "deadline_s", asked.deadline_s, self._settings.stream.deadline_s),
            detached=asked.detach,
            on_slow=asked.on_slow,
            progress=asked.progress,
        )


def _json(value: Any) -> bytes:
    """*value* as JSON, which is the same for equal values."""
    # default: a set has no order, and equal ones may be iterated differently.
    return orjson.dumps(value, default=sorted, option=orjson.OPT_SORT_KEYS)


def _lowered(at: str, name: str, asked: float | None, limit: float) -> float:
    """A request may lower a limit, never raise it."""
    if asked is None:
        return limit
    if asked > limit:
        field = f"{at}.{name}"
        raise ValidationError(f"{field}: {asked:.15g} is over the limit of {limit:.15g}", field=field)
    return asked
