"""Whether it lives, whether it is well, and its figures for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Final, Protocol

import orjson
from prometheus_client.exposition import choose_encoder

from fastmesh.api.calls import Call, Reply, Route
from fastmesh.api.engine import Engine
from fastmesh.errors import Overloaded, ShuttingDown
from fastmesh.streaming.health import DEGRADED_ERROR_RATE, UNHEALTHY_ERROR_RATE, WORST_LAST, judged
from fastmesh.version import __version__

# So few URLs are no rate: one dead link would be all of it.
LEAST_URLS: Final = 20
LEAST_LOOKUPS: Final = 4
UNANSWERED_SHARE: Final = 0.5
# A page may kill its worker; so many in a minute are no pages.
MANY_DEATHS: Final = 5

Part = dict[str, object]


class Server(Protocol):
    """What the socket's side says of itself."""

    @property
    def draining(self) -> bool:
        """Whether it is on its way out."""

    def descriptors(self) -> Part:
        """Connections and files, and whether there are enough."""

    def overload(self) -> str | None:
        """Why nobody would be served now, if so."""


class Health:
    """The endpoints that only read."""

    def __init__(self, engine: Engine, server: Server) -> None:
        self._engine = engine
        self._server = server
        self._started_at = time.monotonic()
        parts: dict[str, Callable[[], Part]] = {
            "streaming": lambda: asdict(engine.module.health.figures()),
            "journals": engine.module.health.journals,
            "loop": engine.module.health.loop,
            "maintenance": engine.module.health.maintenance,
            "pipeline": self._pipeline,
            "extract_workers": self._extract_workers,
            "cache": self._cache,
            "dns": self._dns,
            "descriptors": server.descriptors,
        }
        if engine.search is not None:
            parts["search"] = self._search
        self._parts = parts
        # Its figures look at each reader, of which a scrape need not know.
        brief: dict[str, Callable[[], Part]] = {"streaming": lambda: {"status": engine.module.health.status()}}
        engine.metrics.register(
            "health_status",
            "0 healthy, 1 degraded, 2 unhealthy",
            lambda: {
                name: WORST_LAST.index(str(self._asked(name, part)["status"])) for name, part in (parts | brief).items()
            },
            "dependency",
        )

    def routes(self) -> list[Route]:
        """What the router serves of these."""
        return [
            Route("/healthz", "GET", self.healthz, health=True),
            Route("/livez", "GET", self.livez, health=True),
            Route("/readyz", "GET", self.readyz, health=True),
            Route("/metrics", "GET", self.metrics),
        ]

    def healthz(self, call: Call) -> Reply:
        """Every dependency with its figures; as well as the least well of them."""
        dependencies = {name: self._asked(name, part) for name, part in self._parts.items()}
        status = max((str(d["status"]) for d in dependencies.values()), key=WORST_LAST.index)
        body = {
            "status": status,
            "version": __version__,
            "uptime_s": round(time.monotonic() - self._started_at, 1),
            "dependencies": dependencies,
        }
        return Reply(orjson.dumps(body), status=503 if status == "unhealthy" else 200)

    def livez(self, call: Call) -> Reply:
        """That this is answered says that the loop runs."""
        return Reply(b'{"status":"alive"}')

    def readyz(self, call: Call) -> Reply:
        """Whether new streams are taken.  Raises ShuttingDown or Overloaded."""
        if self._server.draining:
            raise ShuttingDown("the daemon is shutting down", retry_after_s=5)
        if why := self._engine.module.registry.overload() or self._server.overload():
            raise Overloaded(why, retry_after_s=1)
        return Reply(b'{"status":"ready"}')

    def metrics(self, call: Call) -> Reply:
        """Prometheus' text, or OpenMetrics for those who ask for it."""
        encode, content_type = choose_encoder(call.request.headers.get("accept", ""))
        return Reply(encode(self._engine.metrics.registry), content_type)

    def _asked(self, name: str, part: Callable[[], Part]) -> Part:
        """What *part* says; one that raises keeps none of the others from saying how they are."""
        try:
            return part()
        except Exception as error:  # noqa: BLE001 - that is what this is for
            self._engine.metrics.bugs.met("health", error, dependency=name)
            return {"status": "unhealthy"}

    def _pipeline(self) -> Part:
        """Origins that do not answer degrade it and no more: another daemon would not reach them either."""
        slots, orchestrator = self._engine.slots, self._engine.orchestrator
        now = slots.now()
        urls = orchestrator.faults.events(now)
        error_rate, bug_rate = orchestrator.faults.share(now), orchestrator.bugs.share(now)
        judgement = max(
            judged(error_rate, DEGRADED_ERROR_RATE, 1.0),
            judged(bug_rate, DEGRADED_ERROR_RATE, UNHEALTHY_ERROR_RATE),
            key=WORST_LAST.index,
        )
        return {
            "status": judgement if urls >= LEAST_URLS else "healthy",
            "urls": urls,
            "error_rate": round(error_rate, 4),
            "bug_rate": round(bug_rate, 4),
            "in_flight": slots.in_flight,
            "waiting": slots.waiting,
            "hosts": slots.hosts,
        }

    def _extract_workers(self) -> Part:
        pool, workers = self._engine.pool, self._engine.pool.workers
        recent_deaths = workers.died.bad(self._engine.module.registry.now())
        poor = workers.alive < workers.count or recent_deaths >= MANY_DEATHS
        return {
            "status": "unhealthy" if not workers.alive else "degraded" if poor else "healthy",
            "alive": workers.alive,
            "wanted": workers.count,
            "busy": workers.busy,
            "waiting": pool.waiting,
            "deaths": workers.deaths,
            "recent_deaths": recent_deaths,
            "retired": workers.retired,
            "failed": pool.failed,
        }

    def _cache(self) -> Part:
        cache = self._engine.cache
        return {"status": "healthy", "answers": cache.answers, "bytes": cache.used_bytes, "max_bytes": cache.max_bytes}

    def _dns(self) -> Part:
        names, now = self._engine.fetcher.origins.names, self._engine.module.registry.now()
        lookups, unanswered = names.unanswered.events(now), names.unanswered.share(now)
        return {
            "status": "degraded" if lookups >= LEAST_LOOKUPS and unanswered > UNANSWERED_SHARE else "healthy",
            "lookups": lookups,
            "unanswered_rate": round(unanswered, 4),
            "pending": names.pending,
            "known_names": len(names),
        }

    def _search(self) -> Part:
        plans, now = self._engine.plans, self._engine.module.registry.now()
        failed = plans.searched.share(now)
        return {
            "status": judged(failed, DEGRADED_ERROR_RATE, 1.0),
            "searches": plans.searched.events(now),
            "error_rate": round(failed, 4),
        }
