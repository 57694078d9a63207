"""Reading the header of a frame, and writing a frame (RFC 6455, section 5.2)."""

from __future__ import annotations

from dataclasses import dataclass

from wsproto.frame_protocol import Opcode

COMPRESSED = 0x40
_FIN, _MASKED = 0x80, 0x80


@dataclass(slots=True)
class Header:
    opcode: int
    fin: bool
    compressed: bool
    size: int  # of the header itself
    length: int  # of the payload


def read_header(data: bytearray) -> Header | None:
    """The header at the start of *data*; None while it is not whole."""
    if len(data) < 2:
        return None
    length = data[1] & 0x7F
    extended = {126: 2, 127: 8}.get(length, 0)
    size = 2 + extended + (4 if data[1] & _MASKED else 0)
    if len(data) < size:
        return None
    if extended:
        length = int.from_bytes(data[2 : 2 + extended], "big")
    return Header(data[0] & 0x0F, bool(data[0] & _FIN), bool(data[0] & COMPRESSED), size, length)


def framed(opcode: Opcode, payload: bytes, flags: int = 0) -> bytes:
    """A frame as a server sends it: unmasked, and a whole message."""
    first, length = _FIN | flags | opcode, len(payload)
    if length < 126:
        return bytes((first, length)) + payload
    if length < 65536:
        return bytes((first, 126)) + length.to_bytes(2, "big") + payload
    return bytes((first, 127)) + length.to_bytes(8, "big") + payload
