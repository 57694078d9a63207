"""RingBuffer against a plain list."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastmesh._core import RingBuffer

TEXT = st.binary(max_size=300)
ALL = 1 << 62  # bytes of text
FEWEST_SLOTS, KEPT_SLOTS, SLOT_BYTES = 8, 64, 32
HEAD_BYTES, LEAST_BLOCK, MOST_BLOCK, OWN_BLOCK = 24, 496, 16_368, 4096


class Block:
    """So many bytes for frames, and the frames that lie there."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.filled = self.frames = 0


class Blocks:
    """In plain Python, which block a frame goes to and when one is let go."""

    def __init__(self) -> None:
        self.held: list[Block] = []
        self.of: dict[int, Block] = {}  # a frame's, by its seq
        self.open: Block | None = None
        self.next_size = LEAST_BLOCK

    @property
    def allocated(self) -> int:
        return sum(HEAD_BYTES + block.size for block in self.held)

    def add(self, seq: int, length: int) -> None:
        block = self.open
        if block is None or block.size - block.filled < length:
            block = Block(length if length >= OWN_BLOCK else max(self.next_size, length))
            self.held.append(block)
            if length < OWN_BLOCK:
                if self.open is not None and self.open.frames == 0:
                    self.held.remove(self.open)
                self.open = block
                self.next_size = min(self.next_size * 2, MOST_BLOCK)
        block.filled += length
        block.frames += 1
        self.of[seq] = block

    def lay_together(self, text: int) -> None:
        block = Block(text)
        block.filled, block.frames = text, len(self.of)
        self.held, self.open, self.of = [block], None, dict.fromkeys(self.of, block)

    def drop(self, seq: int) -> None:
        block = self.of.pop(seq)
        block.frames -= 1
        if block.frames == 0:
            if block is self.open and block.size <= LEAST_BLOCK:
                block.filled = 0
            else:
                self.held.remove(block)
                self.open = None if block is self.open else self.open


class RingModel(RuleBasedStateMachine):
    """Any order of appends, reads and evictions."""

    def __init__(self) -> None:
        super().__init__()
        self.ring = RingBuffer()
        self.frames: list[tuple[bytes, float]] = []  # all ever
        self.first = 1
        self.slots = 0
        self.blocks = Blocks()

    @property
    def next(self) -> int:
        return len(self.frames) + 1

    @rule(texts=st.lists(TEXT, min_size=1, max_size=40), at=st.floats(0, 1e9))
    def append(self, texts: list[bytes], at: float) -> None:
        for text in texts:
            assert self.ring.append(text, at) == self.next
            if self.next - self.first == self.slots:
                self.slots = self.slots * 2 or FEWEST_SLOTS
            self.blocks.add(self.next, len(text))
            self.frames.append((text, at))

    @rule(data=st.data(), max_bytes=st.integers(-1, 2000))
    def read(self, data: st.DataObject, max_bytes: int) -> None:
        seq = data.draw(st.integers(self.first, self.next))
        expected: list[bytes] = []
        for text, _ in self.frames[seq - 1 :]:
            if sum(map(len, expected)) and sum(map(len, expected)) + len(text) > max_bytes:
                break
            expected.append(text)
        assert self.ring.read(seq, max_bytes) == (expected, sum(map(len, expected)))

    @rule(data=st.data())
    def evict(self, data: st.DataObject) -> None:
        seq = data.draw(st.integers(self.first, self.next))
        before = self.ring.allocated
        assert self.ring.trim(seq, ALL) == before - self.ring.allocated
        self.drop(seq)

    def drop(self, seq: int) -> None:
        for gone in range(self.first, seq):
            self.blocks.drop(gone)
        self.first = seq
        self.shrink()

    def shrink(self) -> None:
        used = self.next - self.first
        if self.slots > KEPT_SLOTS and used * 4 <= self.slots:
            self.slots = KEPT_SLOTS
            while self.slots < used * 2:
                self.slots *= 2

    @rule()
    def clear(self) -> None:
        self.empty(self.ring.clear)

    def empty(self, clear: Callable[[], int]) -> None:
        held = self.ring.allocated
        assert clear() == held
        assert self.ring.allocated == 0
        sizes = self.blocks.next_size
        self.first, self.slots, self.blocks = self.next, 0, Blocks()
        self.blocks.next_size = sizes

    @rule()
    def pack(self) -> None:
        if self.first == self.next:
            self.empty(self.ring.pack)
            return
        before = self.ring.allocated
        assert self.ring.pack() == before - self.ring.allocated
        text = sum(len(text) for text, _ in self.frames[self.first - 1 :])
        if text <= MOST_BLOCK and text + HEAD_BYTES < self.blocks.allocated:
            self.blocks.lay_together(text)
        self.slots = 1
        while self.slots < self.next - self.first:
            self.slots *= 2

    @rule(data=st.data(), offset=st.integers(0, 3000))
    def trim(self, data: st.DataObject, offset: int) -> None:
        seq = data.draw(st.integers(self.first, self.next))
        before = self.ring.allocated
        assert self.ring.trim(seq, offset) == before - self.ring.allocated
        evicted, first = sum(len(text) for text, _ in self.frames[: self.first - 1]), self.first
        while first < seq and evicted < offset:
            evicted += len(self.frames[first - 1][0])
            first += 1
        assert self.ring.evicted_bytes == evicted
        self.drop(first)

    @rule(seq=st.integers(-5, 10_000))
    def ask_for_what_is_not_there(self, seq: int) -> None:
        if not self.first <= seq <= self.next:
            with pytest.raises(IndexError):
                self.ring.read(seq, 1)
            with pytest.raises(IndexError):
                self.ring.trim(seq, ALL)
        if not self.first <= seq < self.next:
            with pytest.raises(IndexError):
                self.ring.entered(seq)

    @precondition(lambda self: self.first < self.next)
    @rule(data=st.data())
    def entered(self, data: st.DataObject) -> None:
        seq = data.draw(st.integers(self.first, self.next - 1))
        assert self.ring.entered(seq) == self.frames[seq - 1][1]

    @invariant()
    def counts(self) -> None:
        assert (self.ring.first, self.ring.next, len(self.ring)) == (self.first, self.next, self.next - self.first)
        assert self.ring.appended_bytes == sum(len(text) for text, _ in self.frames)
        assert self.ring.allocated == self.blocks.allocated + self.slots * SLOT_BYTES
        assert self.ring.evicted_bytes == sum(len(text) for text, _ in self.frames[: self.first - 1])


TestRingModel = RingModel.TestCase


@pytest.mark.parametrize("evicted", range(FEWEST_SLOTS + 1))
def test_grows_in_order_wherever_it_had_wrapped(evicted: int) -> None:
    ring = RingBuffer()
    for seq in range(1, 9):
        ring.append(b"%d" % seq, seq)
    ring.trim(1 + evicted, ALL)
    for seq in range(9, 30):  # fills what was freed, then grows twice
        ring.append(b"%d" % seq, seq)
    expected = range(1 + evicted, 30)
    assert ring.read(1 + evicted, 1 << 30)[0] == [b"%d" % seq for seq in expected]
    assert [ring.entered(seq) for seq in expected] == list(expected)


def test_allocated_is_what_the_interpreter_says() -> None:
    """But for the rounding of each block, which tracemalloc does not see."""
    sizes = [2, 33, 321, 511, 512, 513, 4096, 80_000] * 300
    texts = {size: b"x" * size for size in set(sizes)}
    ring = RingBuffer()
    tracemalloc.start()
    try:
        for size in sizes:
            ring.append(texts[size], 0.0)
        traced, _ = tracemalloc.get_traced_memory()
        assert traced - 4096 <= ring.allocated <= traced + 16 * len(sizes)
        ring.clear()
        traced, _ = tracemalloc.get_traced_memory()
        assert traced < 4096
        assert ring.allocated == 0
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("frames", [KEPT_SLOTS, KEPT_SLOTS * 100])
def test_a_few_slots_are_kept_when_it_runs_empty(frames: int) -> None:
    ring = RingBuffer()
    for _ in range(frames):
        ring.append(b"x", 0)
    ring.trim(ring.next, ALL)
    assert KEPT_SLOTS * SLOT_BYTES <= ring.allocated <= KEPT_SLOTS * SLOT_BYTES + HEAD_BYTES + LEAST_BLOCK


@pytest.mark.parametrize("seq", [-1 << 63, -1, 0, 2, (1 << 63) - 1])
def test_what_was_refused_changed_nothing(seq: int) -> None:
    ring = RingBuffer()
    for refused in (lambda: ring.read(seq, 1), lambda: ring.trim(seq, ALL), lambda: ring.entered(seq)):
        with pytest.raises(IndexError, match=str(seq)):
            refused()
    assert (ring.first, ring.next, ring.allocated, ring.appended_bytes) == (1, 1, 0, 0)


@given(st.lists(TEXT, min_size=1))
def test_what_was_read_outlives_the_ring(texts: list[bytes]) -> None:
    ring = RingBuffer()
    for text in texts:
        ring.append(text, 0)
    frames, _ = ring.read(1, 1 << 30)
    ring.clear()
    for text in texts:
        ring.append(bytes(len(text)), 0)
    del ring
    assert frames == texts


def test_slots_are_given_back_while_frames_are_held() -> None:
    ring = RingBuffer()
    for seq in range(1, 10_001):
        ring.append(b"%d" % seq, seq)
    ring.trim(9_901, ALL)
    assert ring.allocated < 2 * (MOST_BLOCK + HEAD_BYTES)
    assert ring.read(9_901, 1 << 30)[0] == [b"%d" % seq for seq in range(9_901, 10_001)]
    assert ring.entered(9_950) == 9_950


def test_a_ring_is_empty_before_its_first_frame_and_when_it_was_cleared() -> None:
    ring = RingBuffer()
    assert ring.allocated == 0
    for _ in range(10_000):
        ring.append(b"x" * 100, 0)
    assert ring.clear() > 10_000 * 100
    assert ring.allocated == 0
    assert (ring.first, ring.next) == (10_001, 10_001)
    ring.append(b"y", 0)
    assert ring.read(10_001, 10) == ([b"y"], 1)


@pytest.mark.parametrize("wrong", ["text", bytearray(b"x"), None, 1])
def test_takes_bytes_alone(wrong: object) -> None:
    with pytest.raises(TypeError):
        RingBuffer().append(wrong, 0.0)  # type: ignore[arg-type]


def test_is_freed_with_its_frames() -> None:
    tracemalloc.start()
    try:
        ring = RingBuffer()
        for size in (10, 600, 5000, 100_000):
            ring.append(bytes(size), 0)
        before, _ = tracemalloc.get_traced_memory()
        held = ring.allocated
        del ring
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        assert before - after >= held - 1024  # the interpreter's own comings and goings
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [30, 300, 733, 3000, 9000, 80_000])
def test_little_is_allocated_beside_the_text(size: int) -> None:
    """A journal's bytes are bytes of text, whatever its frames' size: at most a quarter more, and one block."""
    ring = RingBuffer()
    for _ in range(200_000 // size):
        ring.append(bytes(size), 0)
    slots = 2 * SLOT_BYTES * len(ring) + KEPT_SLOTS * SLOT_BYTES
    assert ring.allocated - slots <= 1.25 * ring.appended_bytes + HEAD_BYTES + MOST_BLOCK
