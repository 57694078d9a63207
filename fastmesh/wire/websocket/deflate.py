"""permessage-deflate (RFC 7692): compressed messages, inflated in bounded steps."""

from __future__ import annotations

import zlib

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from fastmesh.wire.websocket.frames import COMPRESSED, framed

INFLATE_STEP = 65_536
MAX_FINAL_BLOCKS = 8  # of a compressed message: behind each zlib needs a new inflater


class BoundedDeflate(Extension):
    """Without context takeover on either side: a compressor takes some 100 KB, and lives for one message.  A message
    that inflates beyond *max_message_bytes* ends the connection before it is in memory."""

    name = "permessage-deflate"

    def __init__(self, max_message_bytes: int, *, window_bits: int = 15) -> None:
        self._max_message_bytes = max_message_bytes
        self._window_bits = window_bits
        self._inflater: zlib._Decompress | None = None  # while a compressed message is under way
        self._inflated = 0
        self._final_blocks = 0
        self._is_control = False  # the frame under way

    def offer(self) -> bool | str:
        """A server offers nothing."""
        return False

    def enabled(self) -> bool:
        """It was agreed on in the handshake."""
        return True

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """RSV1 stands on the first frame of a compressed message alone (RFC 7692, section 6)."""
        self._is_control = opcode.iscontrol()
        if rsv.rsv1:
            if opcode not in (Opcode.TEXT, Opcode.BINARY):
                return CloseReason.PROTOCOL_ERROR
            self._inflater = zlib.decompressobj(-15)
            self._inflated = self._final_blocks = 0
        return RsvBits(True, False, False)

    def frame_inbound_payload_data(self, proto: FrameDecoder | FrameProtocol, data: bytes) -> bytes | CloseReason:
        """*data*, a piece of a frame's payload, inflated."""
        return data if self._inflater is None or self._is_control else self._inflate(data)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> bytes | CloseReason | None:
        """The last bytes of a message, which its end makes the inflater give."""
        if self._inflater is None or self._is_control or not fin:
            return None
        rest = self._inflate(b"\x00\x00\xff\xff")
        self._inflater = None
        return rest

    def message(self, opcode: Opcode, data: bytes) -> bytes:
        """*data* as one compressed message."""
        compressor = zlib.compressobj(wbits=-self._window_bits)
        deflated = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        return framed(opcode, deflated[:-4], COMPRESSED)

    def _inflate(self, data: bytes) -> bytes | CloseReason:
        inflater = self._inflater
        assert inflater is not None
        text = bytearray()
        while data:
            if inflater.eof:  # behind a final block the message goes on with a new one (RFC 7692, section 7.2.3.5)
                self._final_blocks += 1
                if self._final_blocks > MAX_FINAL_BLOCKS:
                    return CloseReason.INVALID_FRAME_PAYLOAD_DATA
                self._inflater = inflater = zlib.decompressobj(-15)
            try:
                step = inflater.decompress(data, INFLATE_STEP)
            except zlib.error:
                return CloseReason.INVALID_FRAME_PAYLOAD_DATA
            text += step
            self._inflated += len(step)
            if self._inflated > self._max_message_bytes:
                return CloseReason.MESSAGE_TOO_BIG
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        return bytes(text)
