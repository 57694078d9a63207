"""Whether it lives, whether it is well, and its figures for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

import orjson
from prometheus_client.exposition import choose_encoder

from fastmesh.api.engine import Engine
from fastmesh.api.router import Call, Reply, Route
from fastmesh.errors import Overloaded, ShuttingDown
from fastmesh.version import __version__

_WORST_LAST = ("healthy", "degraded", "unhealthy")


class Health:
    """The endpoints that only read.  *draining* says whether the daemon is on its way out."""

    def __init__(self, engine: Engine, draining: Callable[[], bool]) -> None:
        self._engine = engine
        self._draining = draining
        self._started_at = time.monotonic()
        self.ready = False

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
        dependencies = {
            "streaming": self._streaming(),
            "pipeline": self._pipeline(),
            "extract_workers": self._extract_workers(),
            "cache": self._cache(),
        }
        status = max((str(d["status"]) for d in dependencies.values()), key=_WORST_LAST.index)
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
        if self._draining():
            raise ShuttingDown("the daemon is shutting down", retry_after_s=5)
        if not self.ready:
            raise Overloaded("the daemon is starting", retry_after_s=1)
        return Reply(b'{"status":"ready"}')

    def metrics(self, call: Call) -> Reply:
        """Prometheus' text, or OpenMetrics for those who ask for it."""
        encode, content_type = choose_encoder(call.request.headers.get("accept", ""))
        return Reply(encode(self._engine.metrics.registry), content_type)

    def _streaming(self) -> dict[str, object]:
        module = self._engine.module
        figures = asdict(module.metrics())
        if not module.is_healthy():
            figures["status"] = "unhealthy"
        return figures

    def _pipeline(self) -> dict[str, object]:
        turns = self._engine.turns
        return {"status": "healthy", "in_flight": turns.in_flight, "waiting": turns.waiting, "hosts": turns.hosts}

    def _extract_workers(self) -> dict[str, object]:
        pool = self._engine.pool
        missing = pool.count - pool.alive
        return {
            "status": "healthy" if missing == 0 else "degraded" if pool.alive else "unhealthy",
            "alive": pool.alive,
            "wanted": pool.count,
            "busy": pool.busy,
            "waiting": pool.waiting,
            "deaths": pool.deaths,
            "retired": pool.retired,
            "failed": pool.failed,
        }

    def _cache(self) -> dict[str, object]:
        hops = self._engine.hops
        cache = hops.cache
        return {"status": "healthy", "answers": cache.answers, "bytes": cache.bytes, "max_bytes": cache.max_bytes}
