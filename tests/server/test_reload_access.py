"""Tokens and certificate read anew while the daemon runs: who is new gets in, who is gone is out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from daemons import PATIENCE_S
from origins import Origin

from fastmesh.api.tokens import line_of, new_token
from fastmesh.client import Client, FrameStream, Refused
from fastmesh.client.retry import Retry
from fastmesh.client.stream import PROTOCOLS
from fastmesh.config import load
from fastmesh.server.daemon import Daemon

ALICE, BOB, CAROL = new_token(), new_token(), new_token()


async def seen(stream: FrameStream) -> int:
    """How many frames came until the stream was refused; -1 when it came to its end."""
    frames = 0
    try:
        async for _ in stream:
            frames += 1
    except Refused as refused:
        return frames if refused.status == 401 else -2
    return -1


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for is no event of this loop's
            await asyncio.sleep(0.01)


def test_a_reload_lets_in_who_is_new_and_ends_what_runs_for_who_is_gone(tmp_path: Path, origin: Origin) -> None:
    silent = origin.url("/silent")
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{line_of(ALICE, 'alice')}\n{line_of(BOB, 'bob')}\n")

    async def play() -> None:
        flags = {"SERVER__PORT": "0", "AUTH__TOKENS_FILE": str(tokens), "FETCH__ALLOW_NETWORKS": "127.0.0.0/8"}
        daemon = Daemon(load(flags, environ={}).values)
        address = await daemon.start()
        try:
            async with (
                Client(address, token=ALICE, retry=Retry(base_s=0.01)) as alice,
                Client(address, token=BOB) as bob,
                Client(address, token=CAROL) as carol,
            ):
                running = [alice.crawl([silent], protocol=protocol) for protocol in PROTOCOLS]
                tasks = [asyncio.create_task(seen(stream)) for stream in running]
                detached = await alice.open([silent], stream={"detach": True})
                bobs = bob.crawl([silent], options={"timeout_ms": 1000, "retries": 0, "respect_robots": False})
                bobs_end = asyncio.create_task(seen(bobs))
                await until(lambda: all(stream.stream_id for stream in (*running, bobs)))

                tokens.write_text("short\n")
                (wrong,) = daemon.reload_access()
                assert "line 1" in wrong
                assert len((await alice.streams())["streams"]) == 4

                tokens.write_text(f"{line_of(BOB, 'bob')}\n{line_of(CAROL, 'carol')}\n")
                assert daemon.reload_access() == []
                assert all(count >= 0 for count in await asyncio.gather(*tasks))
                with pytest.raises(Refused, match="401"):
                    await alice.streams()
                assert (await carol.streams())["streams"] == []
                assert await bobs_end == -1
                pipeline = daemon.engine.module.find(detached, "name:alice")
                await until(lambda: pipeline is None or pipeline.status == "cancelled")
        finally:
            await daemon.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())
