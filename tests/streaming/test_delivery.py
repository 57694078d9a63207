"""One reader: byte budgets, what goes into one write, where it ends, and that its counters reconcile."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

import pytest
from doubles import Pages, RecordingSink, settle, turned
from house import House, check, in_loop
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.streaming.subscriber import Subscriber
from fastmesh.wire.encoders import Encoder, NdjsonEncoder


@dataclass
class FillingSink(RecordingSink):
    """A transport that pauses its writer when it holds so many bytes."""

    holds: int = 1000
    held: int = 0

    def write(self, data: bytes) -> None:
        """Keep *data*; pause over the mark."""
        super().write(data)
        self.held += len(data)
        self.paused = self.held > self.holds

    def drain(self) -> None:
        """The client took all."""
        self.held, self.paused = 0, False

    def pump(self) -> None:
        """What the pump does: serve while it wants service."""
        assert self.subscriber is not None
        while not self.ended and self.subscriber.wants_service:
            self.subscriber.serve(16_384)


async def full_of(sizes: list[int], encoder: Encoder | None = None) -> tuple[House, Subscriber]:
    """A stream whose metadata is read and whose results, of these sizes and all of them, are not."""
    house, pages = House(BUFFER__INITIAL_BYTES=10_000_000), Pages()
    sink = house.crawl(pages, [str(at) for at in range(len(sizes))], concurrency=256)
    assert sink.subscriber is not None
    sink.read()
    await settle()
    if encoder is not None:
        sink.subscriber.encoder = encoder
    for at, size in enumerate(sizes):
        pages.finish(str(at), text="x" * size)
    await settle()
    return house, sink.subscriber


def recorder(subscriber: Subscriber) -> RecordingSink:
    assert isinstance(subscriber.sink, RecordingSink)
    return subscriber.sink


@given(sizes=st.lists(st.integers(0, 5000), min_size=1, max_size=40), budget=st.integers(1, 20_000))
def test_a_write_keeps_its_budget_unless_one_frame_is_larger(sizes: list[int], budget: int) -> None:
    async def run() -> None:
        _, subscriber = await full_of(sizes)
        sink = recorder(subscriber)
        while not sink.ended:
            unread = subscriber.unread_frames
            before = len(sink.written)
            written = subscriber.serve(budget)
            assert [len(data) for data in sink.written[before:]] == [written]  # one write a turn
            lines = sink.written[-1].splitlines()
            assert len(lines) == 1 or sum(map(len, lines)) <= budget
            assert subscriber.unread_frames == unread - len(lines)
        check(sink, len(sizes))

    turned(run())


@in_loop
async def test_head_and_metadata_leave_in_one_write_and_the_head_is_counted() -> None:
    house = House()
    sink = house.crawl(Pages(), ["a"])
    assert sink.subscriber is not None
    head = b"HTTP/1.1 200 OK\r\n\r\n"
    written = sink.subscriber.serve(1, head)
    (data,) = sink.written
    assert data.startswith(head)
    assert json.loads(data.removeprefix(head))["type"] == "metadata"
    assert len(data) == written == sink.subscriber.sent_bytes == house.metrics.protocols["ndjson"].bytes


@in_loop
async def test_with_nothing_unread_nothing_is_written() -> None:
    sink = House().crawl(Pages(), ["a"])
    assert sink.subscriber is not None
    assert sink.subscriber.wants_service
    sink.read()
    assert not sink.subscriber.wants_service
    assert sink.subscriber.serve(1000) == 0
    assert len(sink.written) == 1


@in_loop
async def test_the_end_is_in_the_write_of_the_summary_and_nowhere_else() -> None:
    _, subscriber = await full_of([1000] * 5, NdjsonEncoder(chunked=True))
    sink = recorder(subscriber)
    while not sink.ended:
        assert not any(data.endswith(b"0\r\n\r\n") for data in sink.written)
        subscriber.serve(1000)
    assert b'"type":"summary"' in sink.written[-1]
    assert sink.written[-1].endswith(b"\r\n0\r\n\r\n")


@in_loop
async def test_a_paused_sink_is_left_alone_and_goes_on_where_it_was() -> None:
    house, pages = House(BUFFER__INITIAL_FRAMES_NDJSON=4), Pages()
    sink = FillingSink()
    sink.subscriber = (opened := house.crawl(pages, [str(at) for at in range(50)])).subscriber
    assert sink.subscriber is not None
    sink.subscriber.sink = sink
    for _ in range(100):
        for url in list(pages.running):
            pages.finish(url, text="x" * 600)
        await settle()
        sink.pump()
        await settle()
    started, position = len(pages.started), sink.subscriber.next_seq
    assert sink.paused
    assert sink.held <= sink.holds + 16_384 + 1000
    assert started < 20  # what the sink took and a window more
    for _ in range(200):
        sink.drain()
        sink.pump()
        await settle()
        for url in list(pages.running):
            pages.finish(url, text="x" * 600)
        await settle()
    assert position > 1
    assert check(sink, 50)["status"] == "completed"
    assert opened.written == []


@given(data=st.data(), sizes=st.lists(st.integers(0, 3000), min_size=1, max_size=20))
def test_unread_is_what_the_journal_still_holds(data: st.DataObject, sizes: list[int]) -> None:
    async def run() -> None:
        _, subscriber = await full_of(sizes)
        sink = recorder(subscriber)
        while not sink.ended:
            frames, text_bytes = subscriber.pipeline.journal.ring.read(subscriber.next_seq, 1 << 30)
            assert (subscriber.unread_frames, subscriber.unread_bytes) == (len(frames), text_bytes)
            assert len(subscriber.pipeline.journal.ring) == len(frames)  # what is read is let go
            subscriber.serve(data.draw(st.integers(1, 5000)))

    turned(run())


class TestCounters:
    @pytest.mark.parametrize("budget", [1, 1000, 1 << 20])
    @pytest.mark.parametrize("faulty", [False, True])
    def test_messages_sent_are_the_frames_by_type_however_they_are_batched(self, budget: int, faulty: bool) -> None:
        async def run() -> None:
            house, pages = House(), Pages()
            sink = house.crawl(pages, ["a", "b", "c"])
            await settle()
            pages.finish("a")
            pages.finish("b", fails=True)
            await settle()
            if faulty:
                pages.crash("c", ZeroDivisionError("a bug"))
            else:
                pages.finish("c")
            await settle()
            assert sink.subscriber is not None
            while not sink.ended:
                sink.read(budget)
            counts = house.metrics.protocols["ndjson"]
            assert +Counter(counts.sent_by_type()) == Counter(frame["type"] for frame in sink.frames)
            assert counts.sent["error"] == faulty
            assert counts.bytes == sink.subscriber.sent_bytes == len(b"".join(sink.written))
            assert (counts.connections, counts.active) == (1, 0)
            assert sum(counts.send_latency.counts) == len(sink.written)

        turned(run())

    @in_loop
    async def test_a_heartbeat_is_counted_as_one_and_has_no_seq(self) -> None:
        house = House()
        sink = house.crawl(Pages(), ["a"])
        assert sink.subscriber is not None
        sink.read()
        sink.subscriber.heartbeat()
        assert [frame.get("seq") for frame in sink.frames] == [1, None]
        assert house.metrics.protocols["ndjson"].sent["heartbeat"] == 1
        assert sink.subscriber.sent_bytes == len(b"".join(sink.written))
        assert sink.subscriber.next_seq == 2

    def test_a_heartbeats_bytes_are_bytes_of_the_stream(self) -> None:
        async def run() -> None:
            house = House()
            sink = house.crawl(Pages(), ["a"])
            assert sink.subscriber is not None
            sink.read()
            sink.subscriber.heartbeat()
            assert house.metrics.protocols["ndjson"].bytes == sink.subscriber.sent_bytes

        turned(run())

    @in_loop
    async def test_send_latency_is_how_long_the_oldest_of_a_batch_waited(self) -> None:
        house, subscriber = await full_of([10])
        latency = house.metrics.protocols["ndjson"].send_latency
        before = latency.total
        house.now += 0.25
        subscriber.serve(1 << 20)
        assert latency.total - before == pytest.approx(0.25)

    @in_loop
    async def test_a_stream_is_observed_once_by_its_status(self) -> None:
        house = House()
        sink = house.firehose(1)
        house.now += 5.0
        while not sink.ended:
            sink.read()
        seen = {
            (sample.name, sample.labels["status"]): sample.value
            for family in house.metrics.duration.collect()
            for sample in family.samples
            if sample.name.endswith(("_count", "_sum"))
        }
        name = "fastmesh_streaming_duration_seconds"
        assert seen == {(f"{name}_count", "completed"): 1.0, (f"{name}_sum", "completed"): 5.0}


@in_loop
async def test_ndjson_is_lines_for_people_with_http_1_0() -> None:
    _, subscriber = await full_of([1, 2], NdjsonEncoder(chunked=False))
    sink = recorder(subscriber)
    subscriber.serve(1 << 20)
    assert sink.written[-1].count(b"\n") == 3
    assert sink.written[-1].endswith(b"}\n")
