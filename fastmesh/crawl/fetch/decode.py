"""Content codings, undone in bounded steps.

A decoder is fed bytes and yields what they decode to, at most STEP_BYTES at a time and out of TAKEN_BYTES at
most, so that its reader can count and stop between any two of them: 20 KB of gzip can hold 20 MB, 1 KB of Brotli far
more.  The longest step takes 16 ms of a core in gzip, deflate and zstd, and 0.4 s in Brotli.
"""

from __future__ import annotations

import re
import sys
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final, Protocol

import brotli  # type: ignore[import-untyped]

from fastmesh.errors import DecodeFailed, TooLarge

if sys.version_info >= (3, 14):
    from compression.zstd import DecompressionParameter, ZstdDecompressor, ZstdError
else:
    from backports.zstd import DecompressionParameter, ZstdDecompressor, ZstdError

STEP_BYTES: Final = 262_144
# An empty block of deflate or zstd takes a few bytes and as long as 2 KB of text: 0.3 ms a KB, so that decoding is
# bounded in what it takes as well.
TAKEN_BYTES: Final = 65_536
# Its output grows in blocks of 32, 64, 128, … KiB and it looks at the limit after each: 32 + 64 + 128 < 256.
BROTLI_LIMIT_BYTES: Final = 131_072
# Of what stands behind a Brotli stream so much is passed over, as browsers do; most often it is a line end.
BROTLI_TRAILING_BYTES: Final = 64
# As many as a page of 20 MB has when it is compressed in blocks of 20 KB; a flood of empty members ends here.
MAX_MEMBERS: Final = 1024
# RFC 9659: a window of 8 MB is what a receiver must support, and needs no more of memory.
ZSTD_WINDOW_LOG: Final = 23
# The densest of 990 pages decodes to 37 times what was sent, a bomb of zlib's to 1,000 times, of Brotli's to a million.
MAX_RATIO: Final = 200
RATIO_FREE_BYTES: Final = 1_048_576
GZIP_MAGIC: Final = b"\x1f\x8b"
# Of a frame, and of one that is to be skipped, whose first byte is 0x50 to 0x5f (RFC 8878, 3.1).
ZSTD_MAGIC, ZSTD_SKIPPABLE = b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
GZIP_BITS, ZLIB_BITS, RAW_BITS = 31, 15, -15
CHECKSUM_BYTES: Final = 8  # of gzip, with the length; zlib's has 4

DECODE_ERRORS: Final = (zlib.error, brotli.error, ZstdError)


class Decoder(Protocol):
    """One body's decoder.  Both methods may raise DECODE_ERRORS or DecodeFailed."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what *data* decodes to, in bounded pieces (some may be empty)."""

    def end(self) -> None:
        """No more comes.  Raises DecodeFailed when more should have."""


class Gzip:
    """gzip: one member or several (RFC 1952, 2.2).  What follows them and is none is ignored, as browsers do."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(GZIP_BITS)
        self._members = 1
        self._between = b""  # a first byte that may begin another
        self._ignores = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._ignores:
            if self._member.eof:
                data = self._begin(self._between + data)
            else:
                data = yield from _inflate(self._member, data)

    def end(self) -> None:
        _want(_is_whole(self._member))

    def _begin(self, data: bytes) -> bytes:
        """What is to be decoded of *data*, which stands where a member may begin."""
        self._between = data if len(data) < len(GZIP_MAGIC) else b""
        self._ignores = not GZIP_MAGIC.startswith(data[: len(GZIP_MAGIC)])
        if self._ignores or self._between:
            return b""
        self._members += 1
        if self._members > MAX_MEMBERS:
            raise DecodeFailed(f"the body has more than {MAX_MEMBERS} gzip members")
        self._member = zlib.decompressobj(GZIP_BITS)
        return data


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
        _want(self._stream is not None and _is_whole(self._stream))


class Brotli:
    """br (RFC 7932).  A little that follows it is ignored, as browsers do.  It gives nothing out before its window is
    full, which takes up to 16 MB and 0.4 s, for 11 bytes of input."""

    def __init__(self) -> None:
        self._stream = brotli.Decompressor()
        self._trailing = 0

    def feed(self, data: bytes) -> Iterator[bytes]:
        # Where it is given more than its end, what it decoded is lost; so what may be the end goes byte by byte.
        likely = max(0, len(data) - BROTLI_TRAILING_BYTES)
        at = 0
        while at < len(data) and not self._stream.is_finished():
            size = likely if at < likely else 1
            yield from self._process(data[at : at + size])
            at += size
        self._trailing += len(data) - at
        if self._trailing > BROTLI_TRAILING_BYTES:
            raise DecodeFailed("the compressed body is followed by something else")

    def end(self) -> None:
        _want(self._stream.is_finished())

    def _process(self, data: bytes) -> Iterator[bytes]:
        # It may say that it can take more input and still hold output back: only an empty piece ends it.
        while piece := self._stream.process(data, output_buffer_limit=BROTLI_LIMIT_BYTES):
            yield piece
            data = b""


class Zstd:
    """zstd (RFC 8878): one frame or several.  What follows them and is none is ignored, as browsers do."""

    def __init__(self) -> None:
        self._frame = _zstd_frame()
        self._frames = 1
        self._between = b""  # first bytes that may begin another
        self._ignores = False
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        while data and not self._ignores:
            if self._frame.eof:
                data = self._begin(self._between + data)
                continue
            # A frame that comes whole is judged otherwise than one that is cut (an empty last block and the frame's
            # declared size): its first byte alone makes all alike.
            taken, self._begun = TAKEN_BYTES if self._begun else 1, True
            yield self._frame.decompress(data[:taken], STEP_BYTES)
            while not (self._frame.eof or self._frame.needs_input):
                yield self._frame.decompress(b"", STEP_BYTES)
            data = (self._frame.unused_data if self._frame.eof else b"") + data[taken:]

    def end(self) -> None:
        _want(self._frame.eof)

    def _begin(self, data: bytes) -> bytes:
        """What is to be decoded of *data*, which stands where a frame may begin."""
        self._between = data if len(data) < len(ZSTD_MAGIC) else b""
        self._ignores = not _may_be_frame(data)
        if self._ignores or self._between:
            return b""
        self._frames += 1
        if self._frames > MAX_MEMBERS:
            raise DecodeFailed(f"the body has more than {MAX_MEMBERS} zstd frames")
        self._frame, self._begun = _zstd_frame(), False
        return data


CODINGS: Final[dict[str, Callable[[], Decoder]]] = {
    "gzip": Gzip,
    "x-gzip": Gzip,  # the same (RFC 9110, 8.4.1.3)
    "deflate": Deflate,
    "br": Brotli,
    "zstd": Zstd,
}
ACCEPT_ENCODING: Final = "gzip, deflate, br, zstd"
# What servers say that mean none: the word, a transfer encoding of mail, a charset.  Browsers take no notice of it.
_NO_CODING: Final = re.compile(
    r"identity|none|binary|[78]bit|utf-?(?:8|16|16le|16be)|(?:us-)?ascii|latin-?1|(?:iso|windows|cp|koi8)[-_a-z0-9]{1,16}"
)


def decoder_for(headers: Iterable[str]) -> Decoder | None:
    """The decoder that the ``Content-Encoding`` *headers* ask for; None for a plain body, whatever else they call it.

    Raises DecodeFailed for an unknown coding and for more than one: nobody sends
    two but to multiply what a bomb does (CVE-2025-66418).
    """
    named = [name.strip().lower() for header in headers for name in header.split(",")]
    codings = [name for name in named if name and not _NO_CODING.fullmatch(name)]
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


def _may_be_frame(data: bytes) -> bool:
    """Whether *data*, one byte or more, begins a frame of zstd as far as it goes."""
    skippable = 0x50 <= data[0] <= 0x5F and ZSTD_SKIPPABLE.startswith(data[1 : len(ZSTD_MAGIC)])
    return skippable or ZSTD_MAGIC.startswith(data[: len(ZSTD_MAGIC)])


def _inflate(stream: zlib._Decompress, data: bytes) -> Generator[bytes, None, bytes]:
    """Yield what *data* decodes to; returns what of it stands behind the stream's end."""
    more = True
    while data or more:
        taken, data = data[:TAKEN_BYTES], data[TAKEN_BYTES:]
        piece = stream.decompress(taken, STEP_BYTES)
        yield piece
        if stream.eof:
            return stream.unused_data + data
        data = stream.unconsumed_tail + data
        # A full piece may have left output behind although all input was taken.
        more = len(piece) == STEP_BYTES
    return b""


def _is_whole(stream: zlib._Decompress) -> bool:
    """Whether all of its content is there; the checksum behind it may be missing, as servers that crash leave it.

    A stream at its checksum says of bytes of zeros, and of ones, that they are a wrong one.  Within its content one
    of both leads elsewhere: the code for the end (RFC 1951, 3.2.3) cannot be read out of both.
    """
    return stream.eof or all(_wants_checksum(stream.copy(), fill) for fill in (b"\x00", b"\xff"))


def _wants_checksum(stream: zlib._Decompress, fill: bytes) -> bool:
    try:
        for _ in range(CHECKSUM_BYTES):
            if stream.decompress(fill):
                return False  # a byte of a stored block
    except zlib.error as error:
        return str(error).endswith(("incorrect data check", "incorrect length check"))
    return stream.eof


def _want(finished: bool) -> None:
    if not finished:
        raise DecodeFailed("the compressed body ends early")
