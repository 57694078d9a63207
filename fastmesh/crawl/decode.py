"""Content codings, undone in bounded steps.

A decoder is fed bytes and yields what they decode to, at most about STEP_BYTES
at a time, so that its reader can count, stop and let the event loop run between
any two of them: 20 KB of gzip can hold 20 MB, 1 KB of Brotli far more.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]

from fastmesh.errors import DecodeFailed, TooLarge

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

STEP_BYTES: Final = 262_144
# Its output grows in blocks of 32, 64, 128, … KiB and it looks at the limit after each: 32 + 64 + 128 < 256.
BROTLI_LIMIT_BYTES: Final = 131_072
# As many as a page of 20 MB has when it is compressed in blocks of 20 KB; a flood of empty members ends here.
MAX_MEMBERS: Final = 1024
# RFC 9659: a window of 8 MB is what a receiver must support, and needs no more of memory.
ZSTD_WINDOW_LOG: Final = 23
# The densest of 990 pages decodes to 37 times what was sent, a bomb of zlib's to 1,000 times, of Brotli's to a million.
MAX_RATIO: Final = 200
RATIO_FREE_BYTES: Final = 1_048_576
GZIP_MAGIC: Final = b"\x1f\x8b"
GZIP_BITS, ZLIB_BITS, RAW_BITS = 31, 15, -15

DECODE_ERRORS: Final = (zlib.error, brotli.error, ZstdError)


class Decoder(Protocol):
    """One body's decoder.  Both methods may raise DECODE_ERRORS or DecodeFailed."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* decodes to, in bounded pieces (some may be empty)."""
        ...

    def end(self) -> None:
        """No more comes.  Raises DecodeFailed when more should have."""
        ...


class Gzip:
    """gzip: one member or several (RFC 1952, 2.2).  What follows them and is none is ignored, as browsers do."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GZIP_BITS)
        self._members = 1
        self._ignores = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._ignores:
            if self._member.eof:
                self._begin(data)
            else:
                yield from _inflate(self._member, data)
                data = self._member.unused_data

    def end(self) -> None:
        _want(self._member.eof)

    def _begin(self, data: bytes) -> None:
        self._ignores = not GZIP_MAGIC.startswith(data[:2])
        if self._ignores:
            return
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise DecodeFailed(f"the body has more than {MAX_MEMBERS} gzip members")
        self._member = zlib.decompressobj(GZIP_BITS)


class Deflate:
    """deflate: zlib's format as RFC 9110 has it, or the bare stream that old servers send."""

    def __init__(self) -> None:
        self._head = b""
        self._stream: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream is None:
            data = self._head = self._head + data
            if len(data) < 2:
                return
            # RFC 1950: the method is 8, and the first two bytes are a multiple of 31.
            is_zlib = data[0] & 0x0F == 8 and int.from_bytes(data[:2]) % 31 == 0
            self._stream = zlib.decompressobj(ZLIB_BITS if is_zlib else RAW_BITS)
        if not self._stream.eof:
            yield from _inflate(self._stream, data)

    def end(self) -> None:
        _want(self._stream is not None and self._stream.eof)


class Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()

    def feed(self, data: bytes) -> Iterator[bytes]:
        if self._stream.is_finished():
            return
        # It may say that it can take more input and still hold output back: only an empty piece ends it.
        while piece := self._stream.process(data, output_buffer_limit=BROTLI_LIMIT_BYTES):
            yield piece
            data = b""

    def end(self) -> None:
        _want(self._stream.is_finished())


class Zstd:
    """zstd (RFC 8878): one frame or several."""

    def __init__(self) -> None:
        self._frame = _zstd_frame()
        self._frames = 1

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data:
            if self._frame.eof:
                self._frames += 1
                if self._frames > MAX_MEMBERS:
                    raise DecodeFailed(f"the body has more than {MAX_MEMBERS} zstd frames")
                self._frame = _zstd_frame()
            yield self._frame.decompress(data, STEP_BYTES)
            while not (self._frame.eof or self._frame.needs_input):
                yield self._frame.decompress(b"", STEP_BYTES)
            data = self._frame.unused_data if self._frame.eof else b""

    def end(self) -> None:
        _want(self._frame.eof)


CODINGS: Final[dict[str, Callable[[], Decoder]]] = {
    "gzip": Gzip,
    "x-gzip": Gzip,  # the same (RFC 9110, 8.4.1.3)
    "deflate": Deflate,
    "br": Brotli,
    "zstd": Zstd,
}
ACCEPT_ENCODING: Final = "gzip, deflate, br, zstd"


def decoder_for(headers: Iterable[str]) -> Decoder | None:
    """The decoder that the ``Content-Encoding`` *headers* ask for; None for a plain body.

    Raises DecodeFailed for an unknown coding and for more than one: nobody sends
    two but to multiply what a bomb does (CVE-2025-66418).
    """
    named = [name.strip().lower() for header in headers for name in header.split(",")]
    codings = [name for name in named if name not in ("", "identity")]
    if not codings:
        return None
    if len(codings) > 1:
        raise DecodeFailed("the body has more than one content coding")
    if codings[0] not in CODINGS:
        raise DecodeFailed("the body has a content coding that was not asked for")
    return CODINGS[codings[0]]()


def hold_ratio(received: int, decoded: int) -> None:
    """Raises TooLarge when *decoded* bytes are far more than a page of *received* bytes has."""
    if decoded > RATIO_FREE_BYTES and decoded > MAX_RATIO * received:
        raise TooLarge(f"the body decompresses to more than {MAX_RATIO} times what was sent")


def _zstd_frame() -> ZstdDecompressor:
    return ZstdDecompressor(options={DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})


def _inflate(stream: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        piece = stream.decompress(data, STEP_BYTES)
        yield piece
        data = stream.unconsumed_tail
        # A full piece may have left output behind although all input was taken.
        if stream.eof or (not data and len(piece) < STEP_BYTES):
            return


def _want(finished: bool) -> None:
    if not finished:
        raise DecodeFailed("the compressed body ends early")
