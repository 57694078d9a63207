"""``fastmesh demo``: a daemon, a sample site, and one stream over it."""

from __future__ import annotations

import asyncio
import signal
import sys

import uvloop

from fastmesh import config
from fastmesh.client import Client, Retry
from fastmesh.commands.outcome import COULD_NOT_RUN, INTERRUPTED, SUCCESS
from fastmesh.commands.table import Frame, ResultTable
from fastmesh.config import Settings
from fastmesh.demo.samples import SAMPLES, batch, differences, url_of
from fastmesh.demo.site import SampleSite
from fastmesh.errors import FastmeshError
from fastmesh.server.daemon import Daemon
from fastmesh.telemetry import log

# Nothing of the surroundings counts: the demo does the same everywhere.
FLAGS = {
    "SERVER__PORT": 0,
    "SERVER__MAX_CONNECTIONS": 100,
    "SERVER__DRAIN_TIMEOUT_S": 1,
    "FETCH__ALLOW_NETWORKS": "127.0.0.0/8",
    "FETCH__RETRIES": 0,  # what fails here fails on purpose
    "WORKERS__EXTRACT": 2,
    "LOG__LEVEL": "warning",
}
STREAM_TIMEOUT_S = 60


class DemoFailed(FastmeshError):
    """The stream did not end in its time."""


def run(keep: bool) -> int:
    """Show one stream over the sample site; with *keep*, leave both running until SIGINT or SIGTERM.  Returns the exit
    status: 0 when every URL became what it should, 1 when not, 130 when it was interrupted before that was known."""
    settings = config.load(FLAGS, environ={}).values
    log.configure(settings.log.level, settings.log.format)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_demo(settings, keep))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return INTERRUPTED


async def _demo(settings: Settings, keep: bool) -> int:
    loop, this = asyncio.get_running_loop(), asyncio.current_task()
    assert this is not None
    loop.add_signal_handler(signal.SIGTERM, this.cancel)  # asyncio's runner does the same at SIGINT
    site, daemon = SampleSite(), Daemon(settings)
    try:
        site_address, address = await site.start(), await daemon.start()
        _introduce(site_address, address)
        status = await _show(site_address, address)
        if keep:
            await _stay(site_address, address)
            await daemon.drain(asyncio.Event())
        return status
    finally:
        await daemon.close()
        await site.close()


async def _show(site_address: str, address: str) -> int:
    """Stream the batch into a table, and say whether it went as it should."""
    frames: list[Frame] = []
    asked = batch(site_address)
    try:
        async with asyncio.timeout(STREAM_TIMEOUT_S), Client(address, retry=Retry(attempts=1)) as client:
            with ResultTable(base=site_address) as table:
                async for frame in client.crawl(asked["urls"], options=asked["options"]):
                    frames.append(dict(frame.raw))
                    table.take(frames[-1])
    except TimeoutError:
        raise DemoFailed(f"the stream did not end within {STREAM_TIMEOUT_S} s") from None
    wrong = differences(frames, [url_of(sample, site_address) for sample in SAMPLES])
    if wrong:
        print("not as expected:", *wrong, sep="\n  ", file=sys.stderr)
        return COULD_NOT_RUN
    print("the failures above are on purpose", flush=True)
    return SUCCESS


async def _stay(site_address: str, address: str) -> None:
    """Until a signal comes."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(
        "",
        "Both stay until Ctrl-C:",
        f"  sample site  {site_address}/",
        f"  daemon       {address}",
        "Try:",
        f"  {_curl(site_address, address)}",
        f"  curl -N -H 'Content-Type: application/json' -d '{{\"urls\": [\"{site_address}/articles/onsen\"]}}'"
        f" {address}/crawl/stream",
        f"  curl {address}/healthz",
        f"  curl {address}/metrics",
        sep="\n",
        flush=True,
    )
    await stop.wait()


def _introduce(site_address: str, address: str) -> None:
    print(
        f"A sample site at {site_address}/ and a daemon at {address}, both for this machine only.",
        f"One stream over {len(SAMPLES)} URLs, the same as this (--keep leaves both running to try it):",
        f"  {_curl(site_address, address)}",
        "",
        sep="\n",
        flush=True,
    )


def _curl(site_address: str, address: str) -> str:
    return (
        f"curl -s {site_address}/batch.json | curl -sN -H 'Content-Type: application/json' -d @- {address}/crawl/stream"
    )
