"""Streams over real connections that break: nothing is lost, nothing comes twice, no crawl starts twice."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
from typing import Any

import pytest
from doubles import settle
from hypothesis import given
from hypothesis import strategies as st
from scripted import (
    FRAMES,
    STREAM,
    Script,
    answer,
    encoded,
    gap,
    heartbeat,
    message,
    metadata,
    refusal,
    result,
    run,
    summary,
    text,
)

from fastmesh.client import (
    Client,
    ConnectionLost,
    Frame,
    FrameStream,
    Heartbeat,
    ProtocolViolation,
    Refused,
    Retry,
    StreamLost,
    Unreachable,
)
from fastmesh.client.stream import PROTOCOLS, ProtocolName

URLS = ["http://x/2", "http://x/3"]
EAGER = Retry(base_s=0)
TURNS = 10_000  # of the loop, within which what was begun is done

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


async def collect(stream: FrameStream) -> list[dict[str, Any]]:
    return [dict(frame.raw) async for frame in stream]


async def extend(got: list[Frame], stream: FrameStream) -> None:
    async for frame in stream:
        got.append(frame)  # noqa: PERF401 - each is looked at as it comes


def crawled(protocol: ProtocolName, script: Script, retry: Retry = EAGER, **given_: Any) -> list[dict[str, Any]]:
    """The frames of one crawl, up to its end."""

    async def once() -> list[dict[str, Any]]:
        async with script, Client(script.address, retry=retry) as client:
            return await collect(client.crawl(URLS, protocol=protocol, **given_))

    return run(once())


@each_protocol
class TestWhole:
    def test_the_frames_are_those_that_were_sent(self, protocol: ProtocolName) -> None:
        script = Script()
        given_ = {"options": {"concurrency": 2}, "stream": {"deadline_s": 5}}
        assert crawled(protocol, script, **given_) == FRAMES
        opening = script.asked[0]
        assert opening.method == "POST"
        assert opening.path == {"ndjson": "/crawl/stream", "sse": "/crawl/sse", "ws": "/streams"}[protocol]
        assert json.loads(opening.body) == {"urls": URLS, **given_}
        assert opening.headers["content-type"] == "application/json"
        assert opening.headers["user-agent"].startswith("fastmesh/")
        assert "authorization" not in opening.headers

    def test_only_what_was_given_is_in_the_body(self, protocol: ProtocolName) -> None:
        script = Script()
        crawled(protocol, script)
        assert json.loads(script.asked[0].body) == {"urls": URLS}

    def test_a_token_goes_with_every_request(self, protocol: ProtocolName) -> None:
        async def once(script: Script) -> None:
            async with script, Client(script.address, token="s3cret", retry=EAGER) as client:
                assert await collect(client.crawl(URLS, protocol=protocol)) == FRAMES
                await client.streams()

        script = Script(cuts=[1000, 1000])
        run(once(script))
        assert {asked.headers["authorization"] for asked in script.asked} == {"Bearer s3cret"}

    def test_heartbeats_are_for_who_asks(self, protocol: ProtocolName) -> None:
        told = {2: [heartbeat()], 4: [heartbeat()]}
        assert crawled(protocol, Script(told=told)) == FRAMES
        wanted = [FRAMES[0], heartbeat(), *FRAMES[1:3], heartbeat(), FRAMES[3]]
        assert crawled(protocol, Script(told=told), heartbeats=True) == wanted

    def test_gaps_are_told(self, protocol: ProtocolName) -> None:
        frames = [metadata(), gap(2, 5), summary(6)]
        script = Script(frames=frames)
        assert crawled(protocol, script) == frames

    def test_a_large_frame_arrives_whole(self, protocol: ProtocolName) -> None:
        frames = [metadata(), result(2, text="é" * 3_000_000), summary(3)]
        assert crawled(protocol, Script(frames=frames)) == frames

    def test_many_streams_share_a_client(self, protocol: ProtocolName) -> None:
        async def several() -> None:
            script = Script()
            async with script, Client(script.address) as client:
                streams = [collect(client.crawl(URLS, protocol=protocol)) for _ in range(150)]
                assert await asyncio.gather(*streams) == [FRAMES] * 150
            assert len(script.started) == 150

        run(several())


@each_protocol
class TestBreaks:
    @pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.long), 7])
    def test_a_stream_reads_the_same_wherever_its_connection_is_cut(self, protocol: ProtocolName, every: int) -> None:
        async def every_cut() -> None:
            for cut in itertools.count(step=every):
                script = Script(cuts=[cut])
                async with script, Client(script.address, retry=EAGER) as client:
                    stream = client.crawl(URLS, protocol=protocol)
                    assert await collect(stream) == FRAMES, cut
                assert len(script.started) == 1, cut
                if not script.was_cut:
                    assert cut > sum(map(len, map(encoded, FRAMES)))
                    return

        run(every_cut())

    def test_a_stream_reads_the_same_however_often_it_is_cut(self, protocol: ProtocolName) -> None:
        @given(st.lists(st.integers(0, 2000), max_size=7))
        def check(cuts: list[int]) -> None:
            script = Script(cuts=cuts)
            assert crawled(protocol, script) == FRAMES
            assert len(script.started) == 1

        check()

    def test_it_resumes_after_the_last_frame_it_has(self, protocol: ProtocolName) -> None:
        script = Script(silent_after=2)
        assert crawled(protocol, script) == FRAMES
        asked = script.asked[-1]
        assert script.sent == 4  # no frame was sent twice
        if protocol == "ws":
            assert asked.path == "/crawl/ws"
            assert [(command["stream_id"], command["after"]) for command in script.commands] == [
                (STREAM, 0),
                (STREAM, 2),
            ]
            return
        assert (asked.method, asked.path) == ("GET", f"/streams/{STREAM}/events")
        if protocol == "sse":
            assert (asked.query, asked.headers["last-event-id"]) == ({}, f"{STREAM}:2")
            assert asked.headers["accept"] == "text/event-stream"
        else:
            assert (asked.query, asked.headers["accept"]) == ({"after": "2"}, "application/x-ndjson")

    def test_before_the_first_frame_it_repeats_the_request_with_its_key(self, protocol: ProtocolName) -> None:
        script = Script(silent_after=0)
        assert crawled(protocol, script) == FRAMES
        openings = [asked for asked in script.asked if asked.method == "POST"]
        assert len(openings) == 2
        assert len({asked.headers["idempotency-key"] for asked in openings}) == 1
        assert openings[0].body == openings[1].body

    def test_nothing_for_the_idle_timeout_is_a_break(self, protocol: ProtocolName) -> None:
        script = Script(silent_after=2)
        assert crawled(protocol, script, Retry(base_s=1)) == FRAMES
        waited_s = script.asked[-1].at_s - script.asked[0].at_s
        assert 60.4 < waited_s < 62.1

    def test_each_crawl_has_a_key_of_its_own(self, protocol: ProtocolName) -> None:
        async def twice(script: Script) -> None:
            async with script, Client(script.address) as client:
                for _ in range(2):
                    await collect(client.crawl(URLS, protocol=protocol))

        script = Script()
        run(twice(script))
        assert len(script.started) == 2
        assert all(len(key) == 32 for key in script.started)

    def test_a_server_that_never_stays_is_given_up(self, protocol: ProtocolName) -> None:
        script = Script(cuts=[0] * 20)
        with pytest.raises(ConnectionLost, match="the connection broke"):
            crawled(protocol, script, Retry(attempts=5, base_s=1, cap_s=4))
        assert script.connections == 5
        times = [asked.at_s for asked in script.asked]
        for (one, other), longest in zip(itertools.pairwise(times), [1, 2, 4, 4], strict=True):
            assert longest / 2 - 0.01 <= other - one <= longest + 0.1

    def test_a_frame_between_makes_patience_new(self, protocol: ProtocolName) -> None:
        frames = [metadata(), *(result(seq) for seq in range(2, 12)), summary(12)]
        # A connection that brings one or two frames each; every one of these tries would be the last in a row of 2.
        script = Script(frames=frames, cuts=[1000] * 40)
        assert crawled(protocol, script, Retry(attempts=2, base_s=0)) == frames
        assert script.was_cut >= 5

    def test_a_stream_that_is_gone_after_a_break_is_lost(self, protocol: ProtocolName) -> None:
        async def once() -> None:
            async with Script(silent_after=2) as script, Client(script.address, retry=EAGER) as client:
                frames = aiter(client.crawl(URLS, protocol=protocol))
                assert [(await anext(frames)).raw, (await anext(frames)).raw] == FRAMES[:2]
                script.answers.append(refusal(404, "not_found"))
                with pytest.raises(StreamLost, match=f"{STREAM} cannot be resumed after frame 2") as error:
                    await anext(frames)
            assert error.value.position == 2

        if protocol != "ws":
            run(once())

    def test_nobody_there_is_told_at_once(self, protocol: ProtocolName) -> None:
        async def once() -> None:
            async with Client("unix:/nonexistent/socket") as client:
                with pytest.raises(Unreachable, match="nobody answers at unix:/nonexistent/socket: No such file"):
                    await collect(client.crawl(URLS, protocol=protocol))
            assert asyncio.get_running_loop().time() == 0

        run(once())

    def test_a_server_that_comes_back_is_found_again(self, protocol: ProtocolName) -> None:
        async def once() -> None:
            script = Script(silent_after=2)
            await script.__aenter__()
            async with Client(script.address, retry=Retry(base_s=1), idle_timeout_s=5) as client:
                stream = client.crawl(URLS, protocol=protocol)
                frames = aiter(stream)
                got = [(await anext(frames)).raw, (await anext(frames)).raw]
                # Its place is empty for a while: connections are refused.
                path = script.address.removeprefix("unix:")
                loop = asyncio.get_running_loop()
                os.rename(path, path + ".away")
                loop.call_later(12, os.rename, path + ".away", path)
                got += [frame.raw async for frame in frames]
                assert got == FRAMES
                assert stream.breaks == 1
            await script.__aexit__(None, None, None)

        run(once())


class TestViolations:
    @each_protocol
    @pytest.mark.parametrize(
        ("frames", "before", "words"),
        [
            ([metadata(), result(3)], 1, "frames 2 to 2 are missing"),
            ([metadata(), result(2), result(2)], 2, "came again"),
            ([result(2)], 0, "frames 1 to 1 are missing"),
            ([metadata(), {"type": "result", "stream_id": STREAM, "seq": 2}], 1, "result frame: index is missing"),
            ([metadata(), result(2) | {"stream_id": "x"}], 1, "a frame of stream 'x'"),
        ],
    )
    def test_what_cannot_come_ends_it_after_what_was_right(
        self, protocol: ProtocolName, frames: list[dict[str, Any]], before: int, words: str
    ) -> None:
        async def once() -> list[Frame]:
            async with Script(frames=frames) as script, Client(script.address, retry=EAGER) as client:
                stream = aiter(client.crawl(URLS, protocol=protocol))
                got = [await anext(stream) for _ in range(before)]
                with pytest.raises(ProtocolViolation, match=words):
                    await anext(stream)
            assert script.connections <= 2  # it is not tried again
            return got

        assert [frame.raw for frame in run(once())] == frames[:before]

    @pytest.mark.parametrize("protocol", ["ndjson", "sse"])
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (answer(200, b"<html>", Content_Type="text/html"), "'text/html' and not"),
            (answer(200, b"{}"), "'application/octet-stream' and not"),
            (answer(202, b"{}"), "status 202"),
            (answer(200, b"nonsense\n", Content_Type="application/x-ndjson"), "not JSON|and not 'text/event-stream'"),
            (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
            (b"HTTP/1.1 204 Over\r\n\r\n", "said to be over after frame 0"),
        ],
    )
    def test_who_is_no_daemon_is_told(self, protocol: ProtocolName, data: bytes, words: str) -> None:
        with pytest.raises(ProtocolViolation, match=words):
            crawled(protocol, Script(answers=[data]))

    @pytest.mark.parametrize(
        "data",
        [
            message(2, b"{}"),
            message(1, b"nonsense"),
            message(1, b"[]"),
            message(1, b"\xff"),
            b"\xff\xff\xff\xff",
            b"\x81\x7f" + (1 << 30).to_bytes(8, "big") + b"x" * 1000,
        ],
    )
    def test_a_websocket_that_brings_nonsense_is_told(self, data: bytes) -> None:
        class Nonsense(Script):
            async def _until_closed(self, wire: Any) -> None:
                await wire.send(data)
                await super()._until_closed(wire)

        with pytest.raises(ProtocolViolation):
            crawled("ws", Nonsense(frames=[metadata()]))


class TestRefusals:
    @each_protocol
    def test_a_refusal_is_told_with_all_it_says(self, protocol: ProtocolName) -> None:
        script = Script(answers=[refusal(400, "validation_error", X_Request_ID="other")])
        with pytest.raises(Refused) as error:
            crawled(protocol, script)
        refused = error.value
        assert (refused.status, refused.type, refused.message) == (400, "validation_error", "because")
        assert (refused.retryable, refused.request_id, refused.retry_after_s) == (False, "r7", None)
        assert str(refused) == "refused with 400 validation_error: because"
        assert len(script.asked) == 1

    @each_protocol
    @pytest.mark.parametrize(("status", "type_"), [(429, "rate_limited"), (503, "overloaded")])
    def test_it_waits_as_long_as_it_is_asked_to(self, protocol: ProtocolName, status: int, type_: str) -> None:
        script = Script(answers=[refusal(status, type_, Retry_After="7"), refusal(status, type_, Retry_After="9")])
        assert crawled(protocol, script) == FRAMES
        assert len(script.started) == 1
        first, second, third = [asked.at_s for asked in script.asked][:3]
        assert 7 <= second - first < 7.1
        assert 9 <= third - second < 9.1

    @each_protocol
    def test_it_does_not_wait_longer_than_it_may(self, protocol: ProtocolName) -> None:
        script = Script(answers=[refusal(429, "rate_limited", Retry_After="31")])
        with pytest.raises(Refused) as error:
            crawled(protocol, script)
        assert error.value.retry_after_s == 31
        assert len(script.asked) == 1

    @each_protocol
    def test_it_does_not_ask_for_ever(self, protocol: ProtocolName) -> None:
        script = Script(answers=[refusal(503, "overloaded", Retry_After="0")] * 9)
        with pytest.raises(Refused):
            crawled(protocol, script, Retry(attempts=3, base_s=0))
        assert len(script.asked) == 3

    @each_protocol
    @pytest.mark.parametrize("location", ["/elsewhere", "http://127.0.0.1:1/"])
    def test_a_redirect_is_not_followed(self, protocol: ProtocolName, location: str) -> None:
        script = Script(answers=[answer(307, Location=location)])
        with pytest.raises(Refused, match=r"a redirect to '.*', which is not followed"):
            crawled(protocol, script)
        assert len(script.asked) == 1

    def test_a_refused_or_redirected_handshake_is_told(self) -> None:
        async def once(data: bytes) -> Refused:
            async with Script(answers=[data]) as script, Client(script.address, retry=EAGER) as client:
                with pytest.raises(Refused) as error:
                    await collect(client.subscribe(STREAM, protocol="ws"))
                assert len(script.asked) == 1
                return error.value

        refused = run(once(refusal(403, "forbidden", X_Request_ID="r9")))
        assert (refused.status, refused.request_id) == (403, "r9")
        assert "redirect" in run(once(answer(302, Location="/elsewhere"))).message

    @pytest.mark.parametrize(
        "body", [b"", b"<html>", b"[]", b'{"error": 5}', b'{"error": {"type": 5, "message": []}}', b"x" * 100_000]
    )
    def test_a_refusal_by_something_else_is_told_too(self, body: bytes) -> None:
        async def once() -> None:
            async with Script(answers=[answer(418, body)]) as script, Client(script.address) as client:
                with pytest.raises(Refused) as error:
                    await client.streams()
            assert (error.value.status, error.value.type) == (418, "http")

        run(once())

    def test_a_refused_subscription_is_told_by_its_type(self) -> None:
        class Refusing(Script):
            async def _frames(self, wire: Any, after: int) -> Any:
                error = {"type": "not_found", "message": "no such stream", "retryable": False}
                await wire.send(text({"type": "error", "id": "subscribe", "error": error}))
                return
                yield

        async def once() -> None:
            async with Refusing() as script, Client(script.address) as client:
                with pytest.raises(Refused) as error:
                    await collect(client.subscribe(STREAM, protocol="ws"))
            assert (error.value.status, error.value.type, error.value.message) == (404, "not_found", "no such stream")

        run(once())


class TestWebSocket:
    def test_pings_are_answered_and_are_life(self) -> None:
        class Pinging(Script):
            async def _frames(self, wire: Any, after: int) -> Any:
                yield metadata()
                for _ in range(5):
                    await asyncio.sleep(40)
                    await wire.send(message(9, b"?"))
                yield summary(2)

        script = Pinging()
        assert crawled("ws", script) == [metadata(), summary(2)]
        assert script.pongs == 5
        assert len(script.commands) == 1

    def test_a_subscription_that_the_daemon_ends_is_taken_up_again(self) -> None:
        class Ending(Script):
            async def _frames(self, wire: Any, after: int) -> Any:
                if after:
                    async for frame in super()._frames(wire, after):
                        yield frame
                    return
                yield metadata()
                error = {"type": "slow_client", "message": "m", "retryable": True}
                await wire.send(text({"type": "error", "error": error}))

        script = Ending()
        assert crawled("ws", script) == FRAMES
        assert [command["after"] for command in script.commands] == [0, 1]

    def test_a_stream_that_is_gone_after_a_break_is_lost(self) -> None:
        class Forgetting(Script):
            async def _frames(self, wire: Any, after: int) -> Any:
                if after:
                    error = {"type": "not_found", "message": "m", "retryable": False}
                    await wire.send(text({"type": "error", "id": "subscribe", "error": error}))
                    return
                yield metadata()
                raise ConnectionResetError

        with pytest.raises(StreamLost):
            crawled("ws", Forgetting())

    def test_a_close_is_a_break(self) -> None:
        class Closing(Script):
            async def _frames(self, wire: Any, after: int) -> Any:
                async for frame in super()._frames(wire, after):
                    yield frame
                    if not after:
                        await wire.send(message(8, (1013).to_bytes(2, "big") + b"slow"))
                        raise ConnectionResetError

        assert crawled("ws", Closing()) == FRAMES


class TestSseRetry:
    def test_the_servers_wish_is_the_least_wait(self) -> None:
        script = Script(silent_after=2, sse_retry=b"5000")
        assert crawled("sse", script) == FRAMES
        assert 65 <= script.asked[-1].at_s < 65.5

    def test_a_wish_without_bound_is_bounded(self) -> None:
        script = Script(silent_after=2, sse_retry=b"9999999999")
        assert crawled("sse", script, Retry(base_s=0, max_wait_s=3)) == FRAMES
        assert script.asked[-1].at_s < 64


@each_protocol
class TestLeaving:
    def left(self, protocol: ProtocolName, *, cancel: bool, how: str) -> Script:
        async def once(script: Script) -> None:
            async with script:
                async with Client(script.address) as client:
                    stream = client.crawl(URLS, protocol=protocol, cancel_on_exit=cancel)
                    if how == "with":
                        async with stream:
                            async for _ in stream:
                                break
                    elif how == "task":
                        got: list[Frame] = []
                        reading = asyncio.create_task(extend(got, stream))
                        await settle(lambda: len(got) == 2, TURNS)
                        reading.cancel()
                        await asyncio.gather(reading, return_exceptions=True)
                    else:
                        async for _ in stream:
                            break
                        if how == "collected":
                            await settle(lambda: script.closed > 0, TURNS)
                await settle(lambda: script.closed > 0, TURNS)

        script = Script(silent_after=2)
        run(once(script))
        return script

    @pytest.mark.parametrize("how", ["with", "task", "collected", "client"])
    def test_leaving_early_closes_the_connection(self, protocol: ProtocolName, how: str) -> None:
        script = self.left(protocol, cancel=False, how=how)
        assert script.closed
        assert script.cancelled == 0

    @pytest.mark.parametrize("how", ["with", "task", "collected", "client"])
    def test_leaving_early_cancels_when_it_shall(self, protocol: ProtocolName, how: str) -> None:
        assert self.left(protocol, cancel=True, how=how).cancelled == 1

    def test_who_still_reads_a_stream_that_is_closed_comes_to_its_end(self, protocol: ProtocolName) -> None:
        async def once() -> None:
            async with Script(silent_after=2) as script:
                got: list[Frame] = []
                async with Client(script.address) as client:
                    reading = asyncio.create_task(extend(got, client.crawl(URLS, protocol=protocol)))
                    await settle(lambda: len(got) == 2, TURNS)
                await reading
                assert len(got) == 2

        run(once())

    def test_a_stream_that_has_ended_is_not_cancelled(self, protocol: ProtocolName) -> None:
        script = Script()
        assert crawled(protocol, script, cancel_on_exit=True) == FRAMES
        assert script.cancelled == 0

    def test_a_stream_is_iterated_once(self, protocol: ProtocolName) -> None:
        async def once() -> None:
            async with Script() as script, Client(script.address) as client:
                stream = client.crawl(URLS, protocol=protocol)
                await collect(stream)
                with pytest.raises(RuntimeError, match="once"):
                    await collect(stream)

        run(once())


@each_protocol
class TestSubscribe:
    def test_it_reads_after_the_frame_that_is_named(self, protocol: ProtocolName) -> None:
        async def once() -> None:
            async with Script() as script, Client(script.address) as client:
                assert await collect(client.subscribe(STREAM, protocol=protocol)) == FRAMES
                assert await collect(client.subscribe(STREAM, 2, protocol=protocol)) == FRAMES[2:]
                assert await collect(client.subscribe(STREAM, 4, protocol=protocol)) == []
                assert script.started == {}

        run(once())

    def test_without_a_position_it_only_watches(self, protocol: ProtocolName) -> None:
        async def once(script: Script) -> None:
            async with script, Client(script.address) as client:
                assert await collect(client.subscribe(STREAM, None, protocol=protocol)) == FRAMES

        script = Script()
        run(once(script))
        assert "after" not in script.asked[0].query
        assert all("after" not in command for command in script.commands)

    def test_it_survives_cuts_as_well(self, protocol: ProtocolName) -> None:
        async def once() -> None:
            async with Script(cuts=[900, 900]) as script, Client(script.address, retry=EAGER) as client:
                assert await collect(client.subscribe(STREAM, 1, protocol=protocol)) == FRAMES[1:]
                assert script.was_cut

        run(once())

    def test_an_unknown_stream_is_refused(self, protocol: ProtocolName) -> None:
        async def once() -> None:
            script = Script(answers=[refusal(404, "not_found")])
            async with script, Client(script.address) as client:
                with pytest.raises(Refused) as error:
                    await collect(client.subscribe(STREAM, protocol=protocol))
            assert error.value.status == 404

        run(once())


class TestOthers:
    @each_protocol
    def test_the_firehose(self, protocol: ProtocolName) -> None:
        async def once(script: Script) -> None:
            async with script, Client(script.address, retry=EAGER) as client:
                stream = client.firehose(frames=2, frame_bytes=700, rate=2.5, protocol=protocol)
                assert await collect(stream) == FRAMES

        script = Script(silent_after=2)
        run(once(script))
        asked = script.asked[0]
        assert asked.path == {"ndjson": "/firehose/stream", "sse": "/firehose/sse", "ws": "/firehose/ws"}[protocol]
        assert asked.query == {"frames": "2", "bytes": "700", "rate": "2.5"}
        assert len(script.started) == 1

    def test_a_deepsearch(self) -> None:
        frames = [
            metadata(),
            {"type": "search", "stream_id": STREAM, "seq": 2, "query": "q", "urls_found": 0, "search_time_ms": 1,
             "results": []},
            summary(3),
        ]  # fmt: skip

        async def once(script: Script) -> None:
            async with script, Client(script.address) as client:
                assert await collect(client.deepsearch("q", limit=3, options={"timeout_ms": 5})) == frames
                assert await collect(client.deepsearch("q", include_content=False)) == frames

        script = Script(frames=frames)
        run(once(script))
        assert [asked.path for asked in script.asked] == ["/deepsearch/stream"] * 2
        assert [json.loads(asked.body) for asked in script.asked] == [
            {"query": "q", "limit": 3, "options": {"timeout_ms": 5}},
            {"query": "q", "include_content": False},
        ]

    def test_single_requests(self) -> None:
        async def once(script: Script) -> None:
            async with script, Client(script.address) as client:
                assert await client.open(URLS, stream={"detach": True}) == STREAM
                assert await client.streams() == {"streams": [{"stream_id": STREAM}]}
                assert await client.stream(STREAM) == {"stream_id": STREAM}
                assert await client.cancel(STREAM) == {"stream_id": STREAM, "state": "closing"}

        script = Script()
        run(once(script))
        assert json.loads(script.asked[0].body) == {"urls": URLS, "stream": {"detach": True}}
        assert [(asked.method, asked.path) for asked in script.asked] == [
            ("POST", "/streams"), ("GET", "/streams"), ("GET", f"/streams/{STREAM}"), ("DELETE", f"/streams/{STREAM}"),
        ]  # fmt: skip

    def test_a_single_request_is_repeated_wherever_its_connection_is_cut(self) -> None:
        async def every_cut() -> None:
            for cut in itertools.count():
                script = Script(cuts=[cut])
                async with script, Client(script.address, retry=EAGER) as client:
                    assert await client.open(URLS) == STREAM
                assert len(script.started) == 1
                if not script.was_cut:
                    return

        run(every_cut())

    @pytest.mark.parametrize("data", [answer(201, b"[]"), answer(201, b"{"), answer(201, b'{"stream_id": "../x"}')])
    def test_an_answer_that_is_none_is_told(self, data: bytes) -> None:
        async def once() -> None:
            async with Script(answers=[data]) as script, Client(script.address) as client:
                with pytest.raises(ProtocolViolation):
                    await client.open(URLS)

        run(once())

    def test_iterating_is_typed(self) -> None:
        async def once() -> None:
            async with Script(told={2: [heartbeat()]}) as script, Client(script.address) as client:
                kinds = [type(frame) async for frame in client.crawl(URLS, heartbeats=True)]
            assert kinds[1] is Heartbeat

        run(once())

    @pytest.mark.parametrize(
        "url", ["", "localhost:8080", "ftp://x", "http://", "http://x/?q", "http://x/#f", "unix:", "unix:relative",
                "http://user:password@x/", "http://x:99999"]
    )  # fmt: skip
    def test_an_address_that_is_none_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="address"):
            Client(url)

    def test_nonsense_is_refused_before_anything_is_sent(self) -> None:
        with pytest.raises(ValueError, match="visible ASCII"):
            Client(token="a\r\nb")
        client = Client()
        with pytest.raises(ValueError, match="one string"):
            client.crawl("http://x/")
        with pytest.raises(ValueError, match="want one of ndjson, sse, ws"):
            client.crawl([], protocol="http")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="is no stream id"):
            client.subscribe("../x")
        with pytest.raises(ValueError, match="after -1"):
            client.subscribe(STREAM, -1)

    def test_the_environment_has_no_say(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def once() -> None:
            async with Script(tcp=True) as script, Client(script.address) as client:
                assert (await client.streams())["streams"]

        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        asyncio.run(once())
