"""WebSocketMachine: messages out of the bytes of a connection, and into bytes (RFC 6455).

wsproto judges each frame that comes.  The machine reads the frame's header before it: so it hands over a few frames
a call, refuses a message by the length that is announced, before its bytes are here, and counts the frames that
cost much and say little: control frames, and fragments of a few bytes.  Frames that go out are made here, not by
wsproto, which sends nothing more once it has read a fault or a close, when what came before is still to be answered.
"""

from __future__ import annotations

from dataclasses import dataclass

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, TextMessage
from wsproto.events import Ping as PingEvent
from wsproto.events import Pong as PongEvent
from wsproto.frame_protocol import CloseReason, Opcode

from fastmesh._core import Batch, frame_messages
from fastmesh.wire.websocket.deflate import BoundedDeflate
from fastmesh.wire.websocket.frames import Header, framed, read_header

POLICY, TOO_LARGE, NO_STATUS = 1008, 1009, 1005

MAX_REASON_BYTES = 123
PINGS_A_CALL = 16  # the last ones of a call are told; only the last must be answered (RFC 6455, section 5.5.3)
SLICE_BYTES = 16_384  # of a frame's payload, handed over at once
DEFLATED_SLICE_BYTES = 512  # where payloads may be compressed: half a MiB comes out of it at most
DEFLATED_COSTS = 4  # bytes that a compressed byte counts: 64 KB of empty blocks, each with its codes, take 15 ms
CRUMB_BYTES = 128  # a smaller fragment counts as a small frame

_FIRST_CONTROL = 8

# For faults that wsproto words by where the bytes were cut, or not at all.
_REASONS: dict[int, str] = {
    CloseReason.INVALID_FRAME_PAYLOAD_DATA: "not UTF-8, or not deflated",
    CloseReason.MESSAGE_TOO_BIG: "the message is too large once it is inflated",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the peer may send, at once and in time."""

    max_message_bytes: int = 1_048_576
    frames_a_call: int = 64  # a ping costs 8 µs: half a millisecond
    bytes_a_call: int = 65_536
    messages_a_call: int = 8  # a command may open a stream: a third of a millisecond
    small_frames_burst: int = 1000  # control frames, empty ones and fragments of under CRUMB_BYTES
    small_frames_a_second: float = 100.0


@dataclass(slots=True)
class Text:
    """A whole message, as valid UTF-8."""

    data: bytes


@dataclass(slots=True)
class Binary:
    """A whole message of bytes."""

    data: bytes


@dataclass(slots=True)
class Ping:
    """The peer wants a pong with this payload; of many pings in a call only the last ones are told."""

    payload: bytes


@dataclass(slots=True)
class Pong:
    """The answer to a ping that the machine made, or a sign of life that nobody asked for."""

    payload: bytes


@dataclass(slots=True)
class Ended:
    """The connection is over: *reply* is the close frame to send, and no byte behind is read.  It is the only event of
    its call, so that those before it can be answered first."""

    code: int
    reason: str
    reply: bytes


Event = Text | Binary | Ping | Pong | Ended


class WebSocketMachine:
    """The server's side of a connection after its handshake."""

    __slots__ = tuple(
        (
            "_allowance _checked_at _closed _connection _costs _deflate _ending _input _left _limits _may_declare "
            "_message _message_bytes _messages _over _slice_bytes"
        ).split()
    )

    def __init__(self, limits: Limits, deflate: BoundedDeflate | None = None) -> None:
        self._limits = limits
        self._deflate = deflate
        self._slice_bytes = SLICE_BYTES if deflate is None else DEFLATED_SLICE_BYTES
        self._costs = 1 if deflate is None else DEFLATED_COSTS
        self._connection = Connection(ConnectionType.SERVER, [] if deflate is None else [deflate])
        self._input: bytearray | None = None  # received and not parsed: idle connections have none
        self._left = 0  # bytes of the frame under way that wsproto was not handed yet
        self._message: bytearray | None = None  # the data of the message under way
        self._message_bytes = 0  # of the message under way, as its frames announced
        self._messages = 0  # whole messages of this call
        self._may_declare = limits.max_message_bytes  # bytes that the frames of the message may announce together
        self._allowance = float(limits.small_frames_burst)
        self._checked_at: float | None = None
        self._ending: tuple[int, str] | None = None  # code and reason, which the next call tells
        self._over = False  # no more is parsed
        self._closed = False  # a close frame was made: nothing follows it (RFC 6455, section 5.5.1)

    # ── in ───────────────────────────────────────────────────────────────────────────────

    @property
    def pending(self) -> bool:
        """Whether events() has something to go on with; while it has, no more should be received."""
        data = self._input
        if data is None:
            return self._ending is not None
        return len(data) > 0 and (self._left > 0 or read_header(data) is not None)

    @property
    def compresses(self) -> bool:
        """Whether permessage-deflate was agreed on."""
        return self._deflate is not None

    def receive(self, data: bytes) -> None:
        """Take *data*, to be parsed by events()."""
        if self._over:
            return
        if self._input is None:
            self._input = bytearray()
        self._input += data

    def events(self, now: float) -> list[Event]:
        """Parse what was received, as much of it as a call may, at *now* seconds."""
        events: list[Event] = []
        limits = self._limits
        frames, fed, self._messages = 0, 0, 0
        while (
            self._input
            and not self._over
            and frames < limits.frames_a_call
            and fed < limits.bytes_a_call
            and self._messages < limits.messages_a_call
        ):
            if self._left == 0:
                header = read_header(self._input)
                if header is None:
                    break
                frames += 1
                refusal = self._judge(header, now)
                if refusal is not None:
                    self._end(*refusal)
                    break
                self._left = header.size + header.length
            piece = bytes(self._input[: min(self._left, self._slice_bytes)])
            del self._input[: len(piece)]
            self._left -= len(piece)
            fed += max(len(piece) * self._costs, self._feed(piece, events))
        if not self._input:
            self._input = None
        if self._ending is not None and not events:
            (code, reason), self._ending = self._ending, None
            events.append(Ended(code, reason, self.close(code, reason)))
        return events

    def _judge(self, header: Header, now: float) -> tuple[int, str] | None:
        """Count the frame that begins with *header*; return the code and the reason when it is refused."""
        control = header.opcode >= _FIRST_CONTROL
        whole = header.fin and header.opcode != Opcode.CONTINUATION
        if control or not header.length or (not whole and header.length < CRUMB_BYTES):
            if self._checked_at is not None:
                gained = (now - self._checked_at) * self._limits.small_frames_a_second
                self._allowance = min(float(self._limits.small_frames_burst), self._allowance + gained)
            self._checked_at = now
            self._allowance -= 1
            if self._allowance < 0:
                return POLICY, "too many control frames or fragments"
        if control:
            return None
        most = self._limits.max_message_bytes
        if header.opcode != Opcode.CONTINUATION:
            self._message_bytes = 0
            # Data that does not compress grows, by an eighth at worst (Z_FIXED); the inflated data is counted apart.
            self._may_declare = most + most // 8 + 64 if header.compressed else most
        self._message_bytes += header.length
        if self._message_bytes > self._may_declare:
            return TOO_LARGE, f"a message may have {most} bytes"
        return None

    def _feed(self, piece: bytes, events: list[Event]) -> int:
        """Let wsproto judge *piece*; return the bytes of messages that came out: up to a thousand for one."""
        came_out = 0
        self._connection.receive_data(piece)
        for event in self._connection.events():
            if isinstance(event, TextMessage | BytesMessage):
                came_out += self._gather(event, events)
            elif isinstance(event, PingEvent):
                pings = [told for told in events if isinstance(told, Ping)]
                if len(pings) == PINGS_A_CALL:
                    events.remove(pings[0])
                events.append(Ping(bytes(event.payload)))
            elif isinstance(event, PongEvent):
                events.append(Pong(bytes(event.payload)))
            elif isinstance(event, CloseConnection):  # the peer closes, or sent a fault: then the state is still OPEN
                code, reason = int(event.code), event.reason or ""
                closing = self._connection.state is not ConnectionState.OPEN
                self._end(code, reason if closing else _REASONS.get(code, reason))
                break
        return came_out

    def _gather(self, event: TextMessage | BytesMessage, events: list[Event]) -> int:
        data = event.data.encode() if isinstance(event, TextMessage) else event.data
        if event.message_finished and self._message is None:
            whole = bytes(data)
        else:
            if self._message is None:
                self._message = bytearray()
            self._message += data
            if not event.message_finished:
                return len(data)
            whole, self._message = bytes(self._message), None
        self._messages += 1
        events.append(Text(whole) if isinstance(event, TextMessage) else Binary(whole))
        return len(data)

    def _end(self, code: int, reason: str) -> None:
        self._ending = code, reason
        self._over = True
        self._input = self._message = None

    # ── out ──────────────────────────────────────────────────────────────────────────────

    def text(self, frames: Batch) -> bytes:
        """Each of *frames*, which are UTF-8, as a text message."""
        if self._closed:
            return b""
        if self._deflate is None:
            return frame_messages(frames)
        return b"".join([self._deflate.message(Opcode.TEXT, frame) for frame in frames])

    def binary(self, data: bytes) -> bytes:
        """*data* as a binary message."""
        if self._closed:
            return b""
        return framed(Opcode.BINARY, data) if self._deflate is None else self._deflate.message(Opcode.BINARY, data)

    def ping(self, payload: bytes) -> bytes:
        """A ping; *payload* has 125 bytes at most."""
        return b"" if self._closed else framed(Opcode.PING, payload)

    def pong(self, payload: bytes) -> bytes:
        """The answer to a ping."""
        return b"" if self._closed else framed(Opcode.PONG, payload)

    def close(self, code: int, reason: str) -> bytes:
        """A close frame, its *reason* cut to the bytes that fit; b"" when one was made already."""
        if self._closed:
            return b""
        self._closed = True
        if code == NO_STATUS:  # stands for a close frame without a code
            return framed(Opcode.CLOSE, b"")
        cut = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        return framed(Opcode.CLOSE, code.to_bytes(2, "big") + cut.encode())
