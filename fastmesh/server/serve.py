"""A daemon as a process: it is started, reloaded and ended by signals, and its service manager hears of it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

from fastmesh.config import Settings
from fastmesh.errors import ConfigError
from fastmesh.server.daemon import Daemon
from fastmesh.server.host.process import settle_collector
from fastmesh.server.host.systemd import Notifier, inherited_sockets, keep_informed
from fastmesh.telemetry.bugs import Bugs
from fastmesh.telemetry.log import get_logger

log = get_logger()


async def serve(load: Callable[[], Settings], announce: Callable[[str], None]) -> None:
    """Run the daemon until SIGTERM or SIGINT; a second signal ends it at once, SIGHUP reads the settings anew.
    *announce* is given the address when connections are accepted.  Raises FastmeshError when the start fails."""
    settings = load()
    loop = asyncio.get_running_loop()
    stop, hurry = asyncio.Event(), asyncio.Event()
    notifier = Notifier(os.environ)
    daemon = Daemon(settings, inherited_sockets(os.environ))
    news = loop.create_task(keep_informed(notifier, daemon.status, daemon.ends_in, daemon.bugs))
    loop.set_exception_handler(lambda _, context: _unhandled(daemon.bugs, context))

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    def reload() -> None:
        notifier.reloading()
        try:
            daemon.reload(load())
        except ConfigError as error:
            log.error("daemon.reload_refused", error=str(error))
        finally:
            notifier.ready()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        address = await daemon.start()
        settle_collector()
        announce(address)
        notifier.ready()
        await stop.wait()
        await daemon.drain(hurry)
    finally:
        await daemon.close()
        news.cancel()
        await asyncio.gather(news, return_exceptions=True)
        notifier.close()


async def check(settings: Settings) -> None:
    """Refuse what a start with *settings* would refuse, but for the address to bind.  Raises ConfigError."""
    daemon = Daemon(settings)
    try:
        daemon.engine.module.validate()
    finally:
        await daemon.close()


def _unhandled(bugs: Bugs, context: dict[str, Any]) -> None:
    """The loop's handler for exceptions of callbacks and of tasks that nobody awaits: they are counted as bugs."""
    message = str(context.get("message"))
    bugs.met("callbacks", context.get("exception") or RuntimeError(message), message=message)
