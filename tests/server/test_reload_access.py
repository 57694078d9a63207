"""Tokens and certificate read anew while the daemon runs: who is new gets in, who is gone is out."""

from __future__ import annotations

import asyncio
import signal
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from certificates import Pair, made
from daemons import PATIENCE_S, Closed, Daemon, Peer
from origins import Origin

from fastmesh.api.access.tokens import line_of, new_token
from fastmesh.client import Client, FrameStream, Refused
from fastmesh.client.retry import Retry
from fastmesh.client.stream import PROTOCOLS
from fastmesh.config import load
from fastmesh.server.daemon import Daemon as InThisProcess

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
        daemon = InThisProcess(load(flags, environ={}).values)
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
                pipeline = daemon.engine.module.registry.find(detached, "name:alice")
                await until(lambda: pipeline is None or pipeline.status == "cancelled")
        finally:
            await daemon.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play())


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def reading(peer: Peer, token: str) -> Iterator[dict[str, Any]]:
    """The frames of a stream that runs for long."""
    peer.send(peer.request("GET", "/firehose/stream?frames=100000&rate=50", **bearer(token)))
    assert peer.head().status == 200
    return peer.frames()


def test_a_signal_has_both_files_read_while_streams_run_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    old, new = made(tmp_path, "old"), made(tmp_path, "new")
    pair, tokens = Pair(tmp_path / "crt", tmp_path / "key"), tmp_path / "tokens"
    pair.cert.write_text(old.cert.read_text())
    pair.key.write_text(old.key.read_text())
    tokens.write_text(f"{line_of(ALICE, 'alice')}\n{line_of(BOB, 'bob')}\n")
    settings = {"AUTH__TOKENS_FILE": tokens, "FIREHOSE__ENABLED": "true", "SERVER__DRAIN_TIMEOUT_S": 1}
    with Daemon(cacert=pair.cert, **pair.settings, **settings) as daemon:

        def reloaded(times: int) -> str:
            """Have it read all again; return the certificate that it shows then, to whom it shows one."""
            daemon.process.send_signal(signal.SIGHUP)
            while len(daemon.logs("daemon.reloaded")) < times:
                pass
            return ssl.get_server_certificate(("127.0.0.1", daemon.port))

        alices, bobs = reading(daemon.connect(), ALICE), reading(daemon.connect(), BOB)

        tokens.write_text("short\n")
        pair.cert.write_text(new.cert.read_text())  # and the key is still the old one's
        assert reloaded(1) == old.cert.read_text()
        refused = " ".join(line["error"] for line in daemon.logs("daemon.reload_refused"))
        assert "the key is not the certificate's" in refused
        assert "line 1: a token of under 32 characters" in refused
        assert next(alices)["type"] == next(bobs)["type"] == "metadata"

        tokens.write_text(f"{line_of(BOB, 'bob')}\n{line_of(CAROL, 'carol')}\n")
        pair.key.write_text(new.key.read_text())
        assert reloaded(2) == new.cert.read_text()
        assert len(daemon.logs("daemon.reload_refused")) == 2
        answers = [daemon.ask("GET", "/streams", **bearer(token)) for token in (ALICE, BOB, CAROL)]
        assert [answer.status for answer in answers] == [401, 200, 200]
        assert [len(answer.json["streams"]) for answer in answers[1:]] == [1, 0]
        with pytest.raises((Closed, ConnectionError)):
            assert {frame["type"] for frame in alices} == {"result"}  # until it is cut off
        assert [next(bobs)["type"] for _ in range(20)] == ["result"] * 20
        said = daemon.stderr()
        assert not [token for token in (ALICE, BOB, CAROL) if token in said]
