"""WebSocketMachine: the same events wherever the bytes are cut, bounded work a call, bounded memory, exact endings."""

from __future__ import annotations

import gc
import os
import tracemalloc
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sockets import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, closing, deflated, frame, masked

from fastmesh._core import Batch
from fastmesh.wire.websocket.deflate import BoundedDeflate
from fastmesh.wire.websocket.machine import (
    DEFLATED_COSTS,
    DEFLATED_SLICE_BYTES,
    PINGS_A_CALL,
    Binary,
    Ended,
    Event,
    Limits,
    Ping,
    Pong,
    Text,
    WebSocketMachine,
)

RSV1 = 4
FEW = Limits(max_message_bytes=1000)


def machine(limits: Limits | None = None, *, deflate: bool = False) -> WebSocketMachine:
    limits = limits or Limits()
    return WebSocketMachine(limits, BoundedDeflate(limits.max_message_bytes) if deflate else None)


def drained(server: WebSocketMachine, now: float = 0.0) -> list[Event]:
    """All that can be parsed now."""
    events = server.events(now)
    while server.pending:
        events += server.events(now)
    return events


def fed(data: bytes, limits: Limits | None = None, *, deflate: bool = False) -> list[Event]:
    """The events of *data* in one piece."""
    server = machine(limits, deflate=deflate)
    server.receive(data)
    return drained(server)


def ended(code: int, reason: str = "", *, replied: int | None = None) -> Ended:
    """How it ends; the close frame that answers says *replied*, without one the same."""
    said = code if replied is None else replied
    payload = b"" if said == 1005 else closing(said, reason.encode())
    return Ended(code, reason, frame(CLOSE, payload, mask=None))


def fault(events: list[Event]) -> int:
    """The code of the one and only end."""
    assert [isinstance(event, Ended) for event in events] == [False] * (len(events) - 1) + [True]
    last = events[-1]
    assert isinstance(last, Ended)
    assert last.reply == frame(CLOSE, closing(last.code, last.reason.encode()[:123]), mask=None)
    return last.code


EURO = "€".encode()

GOOD: dict[str, tuple[bytes, list[Event]]] = {
    "text": (frame(TEXT, b"hello"), [Text(b"hello")]),
    "empty text": (frame(TEXT), [Text(b"")]),
    "binary": (frame(BINARY, b"\xff\x00"), [Binary(b"\xff\x00")]),
    "126 bytes": (frame(TEXT, b"x" * 126), [Text(b"x" * 126)]),
    "65535 bytes": (frame(BINARY, bytes(65_535)), [Binary(bytes(65_535))]),
    "65536 bytes": (frame(BINARY, bytes(65_536)), [Binary(bytes(65_536))]),
    "fragments": (
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, b"b", fin=False) + frame(CONTINUATION, b"c"),
        [Text(b"abc")],
    ),
    "empty fragments": (frame(TEXT, fin=False) + frame(CONTINUATION), [Text(b"")]),
    "a character over two fragments": (
        frame(TEXT, EURO[:1], fin=False) + frame(CONTINUATION, EURO[1:2], fin=False) + frame(CONTINUATION, EURO[2:]),
        [Text(EURO)],
    ),
    "a ping among fragments": (
        frame(BINARY, b"a", fin=False) + frame(PING, b"p") + frame(CONTINUATION, b"b") + frame(TEXT, b"c"),
        [Ping(b"p"), Binary(b"ab"), Text(b"c")],
    ),
    "a pong among fragments": (
        frame(TEXT, b"a", fin=False) + frame(PONG, b"p") + frame(CONTINUATION, b"b"),
        [Pong(b"p"), Text(b"ab")],
    ),
    "largest ping": (frame(PING, b"p" * 125), [Ping(b"p" * 125)]),
    "a mask of noughts": (frame(TEXT, b"hello", mask=bytes(4)), [Text(b"hello")]),
    "close": (frame(TEXT, b"a") + frame(CLOSE, closing(1000, b"bye")), [Text(b"a"), ended(1000, "bye")]),
    "close without a code": (frame(CLOSE), [ended(1005)]),
    "what follows a close": (frame(CLOSE, closing(1001)) + frame(TEXT, b"late"), [ended(1001)]),
    "close among fragments": (frame(TEXT, b"a", fin=False) + frame(CLOSE, closing(1000)), [ended(1000)]),
    "longest reason": (frame(CLOSE, closing(1000, b"r" * 123)), [ended(1000, "r" * 123)]),
    **{
        f"close {code}": (frame(CLOSE, closing(code)), [ended(code)])
        for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 3000, 3999, 4000, 4999)
    },
}

COMPRESSED: dict[str, tuple[bytes, list[Event]]] = {
    "text": (frame(TEXT, deflated(b"hello"), rsv=RSV1), [Text(b"hello")]),
    "empty": (frame(TEXT, deflated(b""), rsv=RSV1), [Text(b"")]),
    "no bytes at all": (frame(TEXT, rsv=RSV1), [Text(b"")]),
    "uncompressed": (frame(TEXT, b"hello"), [Text(b"hello")]),
    "both in turn": (
        frame(TEXT, b"a") + frame(TEXT, deflated(b"b"), rsv=RSV1) + frame(BINARY, b"c"),
        [Text(b"a"), Text(b"b"), Binary(b"c")],
    ),
    "fragments with a ping and a pong among them": (
        frame(TEXT, deflated(b"hello" * 99)[:5], rsv=RSV1, fin=False)
        + frame(PING, b"p")
        + frame(CONTINUATION, deflated(b"hello" * 99)[5:], fin=False)
        + frame(PONG)
        + frame(CONTINUATION),
        [Ping(b"p"), Pong(b""), Text(b"hello" * 99)],
    ),
    "a close among fragments": (
        frame(TEXT, deflated(b"hello")[:2], rsv=RSV1, fin=False) + frame(CLOSE, closing(1000)),
        [ended(1000)],
    ),
    # RFC 7692, sections 7.2.3.2 to 7.2.3.5
    "not compressed inside": (frame(TEXT, bytes.fromhex("000500faff48656c6c6f00"), rsv=RSV1), [Text(b"Hello")]),
    "a final block": (frame(TEXT, bytes.fromhex("f348cdc9c9070000"), rsv=RSV1), [Text(b"Hello")]),
    "two blocks": (frame(TEXT, bytes.fromhex("f248050000 00ffffcac9c90700"), rsv=RSV1), [Text(b"Hello")]),
    "final blocks in a row": (
        frame(TEXT, bytes.fromhex("f348cdc9c90700") * 3 + b"\0", rsv=RSV1),
        [Text(b"HelloHelloHello")],
    ),
    "an empty final block first": (
        frame(TEXT, bytes.fromhex("0300") + bytes.fromhex("f348cdc9c9070000"), rsv=RSV1),
        [Text(b"Hello")],
    ),
}

BAD: dict[str, tuple[bytes, int]] = {
    "unmasked": (frame(TEXT, b"x", mask=None), 1002),
    "unmasked, in 65536 bytes": (frame(TEXT, bytes(65_536), mask=None), 1002),
    **{f"RSV {rsv}": (frame(TEXT, b"x", rsv=rsv), 1002) for rsv in range(1, 8)},
    **{f"RSV {rsv} on a ping": (frame(PING, rsv=rsv), 1002) for rsv in range(1, 8)},
    **{f"opcode {opcode}": (frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"fragmented {opcode}": (frame(opcode, fin=False), 1002) for opcode in (CLOSE, PING, PONG)},
    **{f"{opcode} of 126": (frame(opcode, bytes(126)), 1002) for opcode in (CLOSE, PING, PONG)},
    "a ping of 65536": (frame(PING, bytes(65_536)), 1002),
    "continuation of nothing": (frame(CONTINUATION, b"x"), 1002),
    "empty continuation of nothing": (frame(CONTINUATION), 1002),
    "continuation behind the end": (frame(TEXT, b"x") + frame(CONTINUATION, b"y"), 1002),
    "text inside text": (frame(TEXT, b"x", fin=False) + frame(TEXT, b"y"), 1002),
    "binary inside text": (frame(TEXT, b"x", fin=False) + frame(BINARY, b"y", fin=False), 1002),
    "2 bytes of length for 125": (b"\x81\xfe\x00\x7d" + bytes(129), 1002),
    "2 bytes of length for 0": (b"\x81\xfe\x00\x00" + bytes(4), 1002),
    "8 bytes of length for 65535": (b"\x81\xff" + (65_535).to_bytes(8, "big") + bytes(4) + bytes(65_535), 1002),
    "8 bytes of length for 1": (b"\x81\xff" + (1).to_bytes(8, "big") + bytes(5), 1002),
    "close of 1 byte": (frame(CLOSE, b"\x03"), 1002),
    **{
        f"close {code}": (frame(CLOSE, closing(code)), 1002)
        for code in (0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 1100, 2000, 2999, 5000, 65_535)
    },
    "a reason that is no UTF-8": (frame(CLOSE, closing(1000, b"\xff")), 1007),
    **{
        f"text {data!r}": (frame(TEXT, data), 1007)
        for data in (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"ok\xe2\x82", b"\x80", EURO[:2])
    },
    "text that ends in a character, in fragments": (frame(TEXT, EURO[:2], fin=False) + frame(CONTINUATION), 1007),
    "text that breaks in the second fragment": (frame(TEXT, EURO[:2], fin=False) + frame(CONTINUATION, b"x"), 1007),
    "text that breaks before it is whole": (b"\x81\xfe\x03\xe8" + bytes(4) + b"ok\xff", 1007),
    "a declared length of 2^62": (b"\x82\xff" + (1 << 62).to_bytes(8, "big") + bytes(4), 1009),
    "a declared length of 2^63": (b"\x82\xff" + (1 << 63).to_bytes(8, "big") + bytes(4), 1009),
    "1001 bytes declared": (b"\x81\xfe" + (1001).to_bytes(2, "big") + bytes(4), 1009),
    "1001 bytes in fragments": (
        frame(TEXT, b"x" * 500, fin=False) + frame(CONTINUATION, b"x" * 500, fin=False) + b"\x80\x81" + bytes(4),
        1009,
    ),
}

BAD_COMPRESSED: dict[str, tuple[bytes, int]] = {
    "RSV1 on a continuation": (
        frame(TEXT, deflated(b"x")[:1], rsv=RSV1, fin=False) + frame(CONTINUATION, deflated(b"x")[1:], rsv=RSV1),
        1002,
    ),
    "RSV1 on a ping": (frame(PING, rsv=RSV1), 1002),
    "RSV1 on a close": (frame(CLOSE, closing(1000), rsv=RSV1), 1002),
    "RSV2": (frame(TEXT, deflated(b"x"), rsv=RSV1 | 2), 1002),
    "not deflated": (frame(TEXT, b"\xff\xff\xff", rsv=RSV1), 1007),
    "not UTF-8 inside": (frame(TEXT, deflated(b"\xff"), rsv=RSV1), 1007),
    "a character cut inside": (frame(TEXT, deflated(EURO[:2]), rsv=RSV1), 1007),
    "a preset dictionary's context": (frame(TEXT, bytes.fromhex("f20011000000"), rsv=RSV1), 1007),
    "1001 bytes inside": (frame(TEXT, deflated(b"x" * 1001), rsv=RSV1), 1009),
    "1001 bytes inside fragments": (
        frame(TEXT, deflated(b"x" * 1001)[:3], rsv=RSV1, fin=False)
        + frame(CONTINUATION, deflated(b"x" * 1001)[3:]),
        1009,
    ),
    "1001 bytes without compression": (frame(TEXT, b"x" * 1001), 1009),
    "many final blocks": (frame(TEXT, bytes.fromhex("0300") * 60, rsv=RSV1), 1007),
}  # fmt: skip


@pytest.mark.parametrize(("data", "events"), GOOD.values(), ids=GOOD)
def test_frames_become_messages(data: bytes, events: list[Event]) -> None:
    assert fed(data) == events
    assert fed(data, deflate=True) == events


@pytest.mark.parametrize(("data", "events"), COMPRESSED.values(), ids=COMPRESSED)
def test_compressed_frames_become_messages(data: bytes, events: list[Event]) -> None:
    assert fed(data, deflate=True) == events


@pytest.mark.parametrize(("data", "code"), BAD.values(), ids=BAD)
def test_a_fault_ends_it_and_what_came_before_is_told(data: bytes, code: int) -> None:
    limits = FEW if code == 1009 else Limits()
    assert fault(fed(data, limits)) == code
    assert fed(frame(TEXT, b"before") + data, limits)[0] == Text(b"before")


@pytest.mark.parametrize(("data", "code"), BAD_COMPRESSED.values(), ids=BAD_COMPRESSED)
def test_a_fault_in_compression_ends_it(data: bytes, code: int) -> None:
    assert fault(fed(data, FEW, deflate=True)) == code


CUT = (
    [(name, data, False) for name, (data, _) in [*GOOD.items(), *BAD.items()] if len(data) < 2000]
    + [(f"compressed {name}", data, True) for name, (data, _) in [*COMPRESSED.items(), *BAD_COMPRESSED.items()]]
)  # fmt: skip


@pytest.mark.parametrize(("data", "deflate"), [case[1:] for case in CUT], ids=[case[0] for case in CUT])
def test_it_reads_the_same_wherever_it_is_cut(data: bytes, deflate: bool) -> None:
    whole = fed(data, FEW, deflate=deflate)
    for cut in range(len(data) + 1):
        server = machine(FEW, deflate=deflate)
        events = []
        for piece in (data[:cut], data[cut:]):
            server.receive(piece)
            events += drained(server)
        assert events == whole, cut
    server = machine(FEW, deflate=deflate)
    events = []
    for at in range(len(data)):
        server.receive(data[at : at + 1])
        events += drained(server)
    assert events == whole


# ── against a model ──────────────────────────────────────────────────────────────────────

Step = tuple[int, bytes, bool]  # opcode, payload, compressed


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """*data*, cut at some places."""
    places = sorted({cut % (len(data) + 1) for cut in cuts} | {0, len(data)})
    return [data[low:high] for low, high in pairwise(places)] or [data]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([TEXT, BINARY]),
            st.text(max_size=40).map(str.encode) | st.just(b"long " * 9000),
            st.booleans(),
            st.lists(st.integers(0, 1 << 20), max_size=3),  # where the message is cut into fragments
            st.lists(st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=9)), max_size=2),
        ),
        max_size=6,
    ),
    st.lists(st.integers(0, 1 << 20), max_size=12),
    st.booleans(),
    st.sampled_from([None, b"", closing(1000, b"bye")]),
)
def test_what_was_sent_comes_out_however_it_was_framed_and_cut(
    messages: list[tuple[int, bytes, bool, list[int], list[tuple[int, bytes]]]],
    cuts: list[int],
    deflate: bool,
    last: bytes | None,
) -> None:
    data, model = b"", list[Event]()
    for opcode, payload, compressed, fragments, controls in messages:
        compressed = compressed and deflate
        parts = pieces(deflated(payload) if compressed else payload, fragments)
        for at, part in enumerate(parts):
            first = at == 0
            data += frame(
                opcode if first else CONTINUATION, part, fin=at == len(parts) - 1, rsv=RSV1 * (compressed and first)
            )
            if first and len(parts) > 1:
                for kind, text in controls:
                    data += frame(kind, text)
                    model.append(Ping(text) if kind == PING else Pong(text))
        model.append(Text(payload) if opcode == TEXT else Binary(payload))
    if last is not None:
        data += frame(CLOSE, last)
        model.append(ended(1000, "bye") if last else ended(1005))
    server = machine(deflate=deflate)
    events = []
    for piece in pieces(data, cuts):
        server.receive(piece)
        events += drained(server)
    assert events == model


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4), st.booleans())
def test_whatever_comes_it_raises_nothing_and_ends_at_most_once(data: bytes, cuts: list[int], deflate: bool) -> None:
    events = fed(data, FEW, deflate=deflate)
    assert sum(isinstance(event, Ended) for event in events) <= 1
    server = machine(FEW, deflate=deflate)
    again = []
    for piece in pieces(data, cuts):
        server.receive(piece)
        again += drained(server)
    assert again == events


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans(), st.integers(0, 7), st.binary(max_size=20)), max_size=8))
def test_whatever_frames_come_it_raises_nothing(frames: list[tuple[int, bool, int, bytes]]) -> None:
    data = b"".join(frame(opcode, payload, fin=fin, rsv=rsv) for opcode, fin, rsv, payload in frames)
    for deflate in (False, True):
        events = fed(data, FEW, deflate=deflate)
        assert not any(isinstance(event, Ended) for event in events[:-1])


def test_each_message_has_the_limits_for_itself() -> None:
    data = frame(TEXT, b"x" * 600, fin=False) + frame(CONTINUATION, b"x" * 400) + frame(TEXT, b"x" * 1000)
    assert fed(data * 3, FEW) == [Text(b"x" * 1000)] * 6
    squeezed = frame(TEXT, deflated(b"x" * 1000), rsv=RSV1)
    assert fed(squeezed * 3, FEW, deflate=True) == [Text(b"x" * 1000)] * 3
    final_blocks = frame(TEXT, bytes.fromhex("f348cdc9c90700") * 5 + b"\0", rsv=RSV1)
    assert fed(final_blocks * 3, FEW, deflate=True) == [Text(b"Hello" * 5)] * 3


@pytest.mark.parametrize(
    ("level", "strategy"), [(9, zlib.Z_DEFAULT_STRATEGY), (0, zlib.Z_DEFAULT_STRATEGY), (9, zlib.Z_FIXED)]
)
def test_a_message_of_the_limit_may_grow_when_it_is_deflated(level: int, strategy: int) -> None:
    data = os.urandom(Limits().max_message_bytes)
    compressor = zlib.compressobj(level, wbits=-15, memLevel=1, strategy=strategy)
    squeezed = (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(squeezed) > len(data)
    assert fed(frame(BINARY, squeezed, rsv=RSV1), deflate=True) == [Binary(data)]


# ── bounded work ─────────────────────────────────────────────────────────────────────────

PINGS = frame(PING)
FLOODS = {
    "pings": PINGS,
    "pongs": frame(PONG, b"x"),
    "largest pings": frame(PING, bytes(125)),
    "empty fragments": frame(CONTINUATION, fin=False),
    "1-byte fragments": frame(CONTINUATION, b"x", fin=False),
    "crumbs": frame(CONTINUATION, bytes(127), fin=False),
    "empty messages": frame(TEXT),
    "messages in two halves": frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y"),
    "pings among the pieces of a message": frame(PING, b"x") + frame(CONTINUATION, bytes(128), fin=False),
}


@pytest.mark.parametrize("unit", FLOODS.values(), ids=FLOODS)
def test_a_flood_ends_early_and_every_call_does_little(unit: bytes) -> None:
    limits = Limits()
    server = machine(limits)
    opens = unit[0] & 0x0F == CONTINUATION or unit == FLOODS["pings among the pieces of a message"]
    server.receive((frame(TEXT, b"x", fin=False) if opens else b"") + unit * (1_000_000 // len(unit)))
    calls, told = 0, list[Event]()
    while server.pending:
        events = server.events(0.0)
        assert len(events) <= limits.frames_a_call
        assert sum(isinstance(event, Ping) for event in events) <= PINGS_A_CALL
        assert sum(isinstance(event, Text) for event in events) <= limits.messages_a_call
        told += events
        calls += 1
    assert fault(told) == 1008
    # A call takes so many frames, of which every second one counts, or so many messages.
    assert calls <= limits.small_frames_burst / min(limits.frames_a_call / 2, limits.messages_a_call) + 2


@pytest.mark.parametrize("deflate", [False, True])
def test_commands_come_a_few_a_call(deflate: bool) -> None:
    limits = Limits()
    server = machine(limits, deflate=deflate) if deflate else machine(limits)
    command = frame(TEXT, deflated(b"{}"), rsv=RSV1) if deflate else frame(TEXT, b"{}")
    server.receive(command * 100)
    calls = []
    while server.pending:
        calls.append(len(server.events(0.0)))
    assert sum(calls) == 100
    assert max(calls) == limits.messages_a_call


def test_what_is_compressed_comes_in_smaller_shares() -> None:
    """Blocks that inflate to nothing cost the most: each has a table of codes, and takes no room."""
    empty = bytes.fromhex("04c081000000000090ff6b100007020000000040feaf41001c080000000000f9bf060170200000000000e4ff1a")
    server = machine(deflate=True)
    server.receive(frame(TEXT, empty * 10_000, rsv=RSV1))
    most = max(took(server) for _ in range(20))
    assert most <= Limits().bytes_a_call // DEFLATED_COSTS + DEFLATED_SLICE_BYTES


def took(server: WebSocketMachine) -> int:
    """The bytes that a call works off."""
    before = len(server._input or b"")
    server.events(0.0)
    return before - len(server._input or b"")


def test_a_flood_is_measured_against_the_time() -> None:
    limits = Limits(small_frames_burst=10, small_frames_a_second=64.0)
    server = machine(limits)
    for at in range(1000):
        server.receive(PINGS)
        assert server.events(at / 64) == [Ping(b"")]
    server.receive(PINGS * 10)
    assert drained(server, 999 / 64) == [Ping(b"")] * 9 + [ended(1008, "too many control frames or fragments")]


def test_allowance_is_saved_up_to_the_burst_and_no_further() -> None:
    limits = Limits(small_frames_burst=10, small_frames_a_second=100.0)
    server = machine(limits)
    server.receive(PINGS)
    assert server.events(0.0) == [Ping(b"")]
    server.receive(PINGS * 11)
    assert len(drained(server, 3600.0)) == 11


def test_whole_messages_however_small_are_no_flood() -> None:
    server = machine()
    server.receive(frame(TEXT, b"x") * 5000)
    assert drained(server) == [Text(b"x")] * 5000


def test_a_message_in_decent_pieces_is_no_flood() -> None:
    server = machine()
    server.receive(frame(TEXT, b"x" * 128, fin=False) + frame(CONTINUATION, b"x" * 128, fin=False) * 5000)
    server.receive(frame(CONTINUATION, b"x"))
    assert drained(server) == [Text(b"x" * (128 * 5001 + 1))]


@pytest.mark.parametrize(("unit", "most"), [(frame(PONG), 64), (frame(TEXT, b"x"), 8), (frame(TEXT, bytes(1000)), 8)])
def test_a_call_takes_so_many_frames(unit: bytes, most: int) -> None:
    server = machine()
    server.receive(unit * 1000)
    calls = []
    while server.pending:
        calls.append(len(server.events(0.0)))
    assert calls == [most] * (1000 // most) + [1000 % most][: bool(1000 % most)]


def test_a_call_takes_so_many_bytes() -> None:
    limits = Limits(max_message_bytes=1 << 20, bytes_a_call=65_536)
    server = machine(limits)
    server.receive(frame(BINARY, bytes(1 << 20)))
    calls = 1
    while not (events := server.events(0.0)):
        assert server.pending
        calls += 1
    assert events == [Binary(bytes(1 << 20))]
    assert calls == (1 << 20) // 65_536 + 1  # the header's bytes count as well


def test_a_call_inflates_so_many_bytes() -> None:
    """A kilobyte may be a megabyte: what comes out counts, not only what goes in."""
    server = machine(deflate=True)
    bomb = frame(BINARY, deflated(bytes(1_000_000)), rsv=RSV1)
    server.receive(bomb * 20)
    told = 0
    while server.pending:
        events = server.events(0.0)
        assert events in ([], [Binary(bytes(1_000_000))])
        told += len(events)
    assert told == 20


def test_of_many_pings_in_a_call_the_last_are_told() -> None:
    server = machine()
    server.receive(b"".join(frame(PING, b"%d" % at) for at in range(64)) + frame(TEXT, b"x"))
    assert server.events(0.0) == [Ping(b"%d" % at) for at in range(64 - PINGS_A_CALL, 64)]
    assert server.events(0.0) == [Text(b"x")]


# ── bounded memory ───────────────────────────────────────────────────────────────────────


def traced(server: WebSocketMachine, data: bytes, piece_bytes: int) -> tuple[list[Event], int]:
    """The events of *data*, fed in pieces, and the most memory that they took."""
    events = list[Event]()
    gc.collect()
    tracemalloc.start()
    try:
        for at in range(0, len(data), piece_bytes):
            server.receive(data[at : at + piece_bytes])
            events += drained(server)
            if events:
                break
        return events, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def bomb(inflated_bytes: int) -> bytes:
    """A message that inflates a thousand times."""
    compressor = zlib.compressobj(9, wbits=-15)
    block = bytes(1 << 20)
    payload = b"".join(compressor.compress(block) for _ in range(inflated_bytes >> 20))
    return payload + compressor.flush(zlib.Z_SYNC_FLUSH)[:-4]


def test_a_bomb_ends_with_1009_before_it_is_in_memory() -> None:
    payload = bomb(200 << 20)
    assert len(payload) < 1 << 20
    limits = Limits(max_message_bytes=1 << 20)
    for data in (
        frame(BINARY, payload, rsv=RSV1),
        frame(TEXT, payload, rsv=RSV1),
        frame(TEXT, payload[:5000], rsv=RSV1, fin=False) + frame(CONTINUATION, payload[5000:]),
    ):
        events, peak = traced(machine(limits, deflate=True), data, 65_536)
        assert fault(events) == 1009
        assert peak < 6 << 20


def test_a_declared_length_takes_no_memory() -> None:
    head = b"\x82\xff" + (1 << 62).to_bytes(8, "big") + bytes(4)
    events, peak = traced(machine(), head, 1)
    assert fault(events) == 1009
    assert peak < 20_000


def test_a_message_in_fragments_takes_little_more_than_its_bytes() -> None:
    data = frame(TEXT, b"x" * 128, fin=False) + frame(CONTINUATION, b"x" * 128, fin=False) * 8000
    events, peak = traced(machine(), data, 65_536)
    assert events == []
    assert peak < 2 << 20


@pytest.mark.parametrize("deflate", [False, True])
def test_an_idle_machine_is_small_also_after_work(deflate: bool) -> None:
    limits = Limits()
    machine(limits, deflate=deflate).events(0.0)  # what is made once
    gc.collect()
    tracemalloc.start()
    try:
        many = [machine(limits, deflate=deflate) for _ in range(100)]
        fresh = tracemalloc.get_traced_memory()[0] / 100
        for server in many:
            text = os.urandom(5000).hex().encode()
            server.receive(frame(TEXT, deflated(text), rsv=RSV1) if deflate else frame(TEXT, text))
            server.receive(frame(PING, b"x"))
            assert len(drained(server)) == 2
            assert len(server.text(Batch([text]))) > 5000
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] / 100
    finally:
        tracemalloc.stop()
    assert fresh < 3000
    assert used < 3000


# ── what goes out ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_messages_are_framed_unmasked_and_whole(size: int) -> None:
    data = b"x" * size
    server = machine()
    assert server.text(Batch([data])) == frame(TEXT, data, mask=None)
    assert server.text(Batch([data, b"y"])) == frame(TEXT, data, mask=None) + frame(TEXT, b"y", mask=None)
    assert server.text(Batch([])) == b""
    assert server.binary(data) == frame(BINARY, data, mask=None)
    assert server.ping(data[:125]) == frame(PING, data[:125], mask=None)
    assert server.pong(data[:125]) == frame(PONG, data[:125], mask=None)


@pytest.mark.parametrize("bits", range(9, 16))
@pytest.mark.parametrize("size", [0, 1, 125, 126, 70_000])
def test_compressed_messages_inflate_without_any_context(bits: int, size: int) -> None:
    server = WebSocketMachine(Limits(), BoundedDeflate(1 << 20, window_bits=bits))
    text = os.urandom(size).hex().encode() * 3
    for made, opcode in ((server.text(Batch([text, text])), TEXT), (server.binary(text) * 2, BINARY)):
        payload = zlib.compressobj(wbits=-bits)
        squeezed = (payload.compress(text) + payload.flush(zlib.Z_SYNC_FLUSH))[:-4]
        assert made == frame(opcode, squeezed, rsv=RSV1, mask=None) * 2
        assert zlib.decompress(squeezed + b"\x00\x00\xff\xff\x03\x00", wbits=-bits) == text
    assert server.ping(b"p") == frame(PING, b"p", mask=None)


@given(st.lists(st.text(max_size=50).map(str.encode), max_size=3), st.booleans())
def test_what_one_machine_says_another_understands(texts: list[bytes], deflate: bool) -> None:
    said = machine(deflate=deflate).text(Batch(texts))
    # The same frames, masked: a client's.
    data, at = b"", 0
    while at < len(said):
        length = said[at + 1]
        size = 2
        if length == 126:
            length, size = int.from_bytes(said[at + 2 : at + 4], "big"), 4
        payload = said[at + size : at + size + length]
        data += bytes((said[at], said[at + 1] | 0x80)) + said[at + 2 : at + size] + b"abcd" + masked(payload, b"abcd")
        at += size + length
    assert fed(data, deflate=deflate) == [Text(text) for text in texts]


def test_a_long_silence_allows_no_larger_flood() -> None:
    server = machine()
    server.receive(PINGS)
    assert drained(server, 0.0) == [Ping(b"")]
    server.receive(PINGS * (Limits().small_frames_burst + 1))
    assert fault(drained(server, 1e6)) == 1008


def test_a_small_frame_that_inflates_is_told_over_several_calls() -> None:
    """16 MiB out of 16 KB: a call makes half a MiB of it at most."""
    limits = Limits(max_message_bytes=16 << 20)
    server = machine(limits, deflate=True)
    server.receive(frame(TEXT, deflated(bytes(16 << 20)), rsv=RSV1))
    calls = 1
    while not (events := server.events(0.0)):
        assert server.pending
        calls += 1
    assert calls > 30
    assert events == [Text(bytes(16 << 20))]


def test_the_end_lets_the_message_under_way_go() -> None:
    data = frame(BINARY, bytes(900_000), fin=False)
    gc.collect()
    tracemalloc.start()
    try:
        server = machine()
        server.receive(data)
        assert drained(server) == []
        held = tracemalloc.get_traced_memory()[0]
        server.receive(frame(TEXT, b"x"))
        assert fault(drained(server)) == 1002
        gc.collect()
        assert held - tracemalloc.get_traced_memory()[0] > 800_000
    finally:
        tracemalloc.stop()


# ── closing ──────────────────────────────────────────────────────────────────────────────


def test_our_close_then_the_peers() -> None:
    server = machine()
    assert server.close(1001, "going away") == frame(CLOSE, closing(1001, b"going away"), mask=None)
    server.receive(frame(TEXT, b"late") + frame(PING) + frame(CLOSE, closing(1001)))
    assert drained(server) == [Text(b"late"), Ping(b""), Ended(1001, "", b"")]


@pytest.mark.parametrize("data", [frame(3), frame(TEXT, b"\xff"), frame(CLOSE, b"x"), frame(TEXT, mask=None)])
def test_a_fault_after_our_close_ends_it_without_another_frame(data: bytes) -> None:
    server = machine()
    assert server.close(1000, "") != b""
    server.receive(data)
    (end,) = drained(server)
    assert isinstance(end, Ended)
    assert end.reply == b""


def test_nothing_is_said_after_our_close() -> None:
    for deflate in (False, True):
        server = machine(deflate=deflate)
        server.close(1000, "")
        said = [
            server.text(Batch([b"x"])),
            server.binary(b"x"),
            server.ping(b"x"),
            server.pong(b"x"),
            server.close(1000, ""),
        ]
        assert said == [b""] * 5


@pytest.mark.parametrize(
    "data", [frame(CLOSE, closing(1000)), frame(CLOSE), frame(3), frame(TEXT, b"\xff"), PINGS * 2000]
)
def test_nothing_is_said_or_heard_after_the_end(data: bytes) -> None:
    server = machine()
    server.receive(data)
    last = drained(server)[-1]
    assert isinstance(last, Ended)
    said = [
        server.text(Batch([b"x"])),
        server.binary(b"x"),
        server.ping(b"x"),
        server.pong(b"x"),
        server.close(1000, ""),
    ]
    assert said == [b""] * 5
    for more in (frame(TEXT, b"late"), frame(CLOSE), bytes(100_000)):
        server.receive(more)
        assert not server.pending
        assert server.events(0.0) == []


@pytest.mark.parametrize("end", [frame(3), frame(CLOSE, closing(1000)), frame(TEXT, b"\xff")])
def test_what_came_before_the_end_can_be_answered(end: bytes) -> None:
    """The end comes in a call of its own, even when all arrived at once."""
    server = machine()
    server.receive(frame(TEXT, b"a") + frame(PING, b"p") + end)
    assert server.events(0.0) == [Text(b"a"), Ping(b"p")]
    assert server.text(Batch([b"answer"])) == frame(TEXT, b"answer", mask=None)
    assert server.pong(b"p") == frame(PONG, b"p", mask=None)
    assert server.pending
    (last,) = server.events(0.0)
    assert isinstance(last, Ended)
    assert last.reply != b""
    assert not server.pending


def test_our_close_may_come_between_a_fault_and_its_telling() -> None:
    server = machine()
    server.receive(frame(TEXT, b"a") + frame(3))
    assert server.events(0.0) == [Text(b"a")]
    assert server.close(1001, "") == frame(CLOSE, closing(1001), mask=None)
    assert server.events(0.0) == [Ended(1002, "Invalid opcode 0x3", b"")]


@pytest.mark.parametrize(
    ("reason", "cut"),
    [
        ("", b""),
        ("x" * 123, b"x" * 123),
        ("x" * 124, b"x" * 123),
        ("€" * 50, EURO * 41),
        ("x" + "€" * 41, b"x" + EURO * 40),
    ],
)
def test_a_reason_is_cut_between_characters(reason: str, cut: bytes) -> None:
    assert machine().close(1008, reason) == frame(CLOSE, closing(1008, cut), mask=None)


def test_any_code_can_be_said_and_none_at_all() -> None:
    assert machine().close(4321, "own") == frame(CLOSE, closing(4321, b"own"), mask=None)
    assert machine().close(1005, "") == frame(CLOSE, mask=None)


def test_pending_says_whether_there_is_something_to_go_on_with() -> None:
    server = machine()
    assert not server.pending
    server.receive(b"")
    assert not server.pending
    data = frame(TEXT, b"hello")
    for at in range(len(data)):
        server.receive(data[at : at + 1])
        assert server.pending == (at >= 5)  # not before the header is whole
        events = server.events(0.0)
        assert events == ([Text(b"hello")] if at == len(data) - 1 else [])
        assert not server.pending
