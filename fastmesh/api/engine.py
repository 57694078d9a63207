"""All that fetches, extracts and streams, without a server: what the daemon and the command line share."""

from __future__ import annotations

from fastmesh.api.plans import Plans
from fastmesh.api.streams import Streams
from fastmesh.config import Settings
from fastmesh.crawl.fetch import Fetcher
from fastmesh.crawl.guard import AddressGuard
from fastmesh.crawl.hops import Hops
from fastmesh.crawl.orchestrator import PipelineOrchestrator
from fastmesh.crawl.robots import Robots
from fastmesh.crawl.search import make_search
from fastmesh.crawl.turns import Turns
from fastmesh.crawl.workers import ExtractPool
from fastmesh.metrics import Metrics
from fastmesh.streaming.module import StreamingModule


class Engine:
    """Builds the parts in their order and ends them in the reverse one.  Made while the loop runs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.module = StreamingModule(settings, self.metrics)
        self.guard = AddressGuard(settings.fetch)
        fetch = settings.fetch
        self.turns = Turns(fetch.concurrency, fetch.per_host_concurrency, fetch.per_host_rps)
        self.pool = ExtractPool(settings.workers.extract)
        self.hops = Hops(settings.cache)
        self._fetcher = Fetcher(settings.fetch, self.guard, hops=self.hops)
        self._robots = Robots(self._fetcher, self.turns, fetch)
        self._orchestrator = PipelineOrchestrator(
            self.guard, self.turns, self._fetcher, self._robots, self.pool, self.metrics
        )
        self.metrics.cache = self.hops.outcomes
        self.search = make_search(settings)
        self.plans = Plans(settings, self._orchestrator, self.search)
        self.streams = Streams(self.module, self.plans)

    async def start(self) -> None:
        """Streaming first: when it cannot start, nothing does.  Raises FastmeshError."""
        self.module.validate()
        self.module.start_maintenance_tasks()
        await self.pool.start()

    async def close(self) -> None:
        """End what is left of the streams, then the rest; also after a start that failed."""
        await self.module.close()
        await self._orchestrator.close()
        await self._robots.close()
        self.turns.close()
        await self._fetcher.close()
        if self.search is not None:
            await self.search.close()
        await self.pool.close()
