"""Figures of connections, files and the process, for /healthz, /readyz and Prometheus."""

from __future__ import annotations

import asyncio
from typing import Final

from fastmesh.server.context import Context
from fastmesh.server.host.process import cpu_seconds, file_limit, open_files, resident_bytes, tell_found
from fastmesh.telemetry.metrics import Metrics
from fastmesh.telemetry.standard_files import lost_lines

NEARLY_ALL: Final = 0.95
RECENT_S: Final = 60.0
NOW_S: Final = 1.0  # it is tried again five times a second


class ServerFigures:
    """Reads *shared* and the process when it is asked; registers its figures with *metrics*."""

    def __init__(self, shared: Context, metrics: Metrics) -> None:
        self._shared = shared
        metrics.register("server_connections", "Connections open", lambda: len(shared.connections))
        metrics.register(
            "server_connections_limit",
            "SERVER__MAX_CONNECTIONS, or what the file limit holds",
            lambda: shared.settings.max_connections,
        )
        metrics.register(
            "server_unaccepted",
            "Connections that got no answer: no files were left, or far too many came",
            lambda: shared.unaccepted,
            counted=True,
        )
        metrics.register("log_lost_lines", "Of the log, which nobody took", lost_lines, counted=True)
        metrics.register("process_open_fds", "Descriptors open", open_files)
        metrics.register("process_max_fds", "Descriptors that may be", file_limit)
        metrics.register("loop_tasks", "Tasks of the event loop", lambda: len(asyncio.all_tasks()))
        metrics.register("process_resident_memory_bytes", "Of the daemon, workers apart", resident_bytes)
        tell_found(metrics)
        metrics.register("process_cpu_seconds", "Used by the daemon, workers apart", cpu_seconds, counted=True)

    @property
    def draining(self) -> bool:
        return self._shared.draining

    def descriptors(self) -> dict[str, object]:
        shared, files, limit = self._shared, open_files(), file_limit()
        scarce = files > NEARLY_ALL * limit or self._since_out_of_files_s() < RECENT_S
        return {
            "status": "degraded" if scarce else "healthy",
            "open": files,
            "limit": limit,
            "connections": len(shared.connections),
            "max_connections": shared.settings.max_connections,
            "unaccepted": shared.unaccepted,
        }

    def overload(self) -> str | None:
        shared = self._shared
        if self._since_out_of_files_s() < NOW_S:
            return "no descriptors are left"
        most = shared.settings.max_connections
        if len(shared.connections) >= most:
            return f"{most} connections are open, no more are allowed"
        return None

    def _since_out_of_files_s(self) -> float:
        return self._shared.clock() - self._shared.out_of_files_at
