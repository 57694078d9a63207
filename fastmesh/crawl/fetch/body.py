"""Reading a body: counted as it comes, and decoded beside the loop in small steps."""

from __future__ import annotations

import io
import time
from collections.abc import Hashable, Iterator
from functools import partial
from sys import getsizeof
from typing import Final

from aiohttp import ClientResponse

from fastmesh.crawl.fairness.steps import Aside
from fastmesh.crawl.fetch.body_budget import BodyShare
from fastmesh.crawl.fetch.decode import DECODE_ERRORS, STEP_BYTES, decoder_for, hold_ratio
from fastmesh.errors import DecodeFailed, TooLarge

# What is decoded in one go has so much time, and what it is at when that is over.
STEP_S: Final = 0.005


async def read_body(
    response: ClientResponse, limit: int, share: BodyShare, aside: Aside, client: Hashable = None, *, cut: bool = False
) -> tuple[bytes, int]:
    """The decoded body, and the bytes that were received for it.

    At most *limit* bytes either way.  Between any two reads the loop runs; decoding takes *client*'s turns *aside*.  No
    more than *limit*, what one read brings and twice STEP_BYTES is ever held.  *share*
    counts them, and lets the reading wait while there are too many.  With *cut* what is
    over the limit is left out.  Raises TooLarge, DecodeFailed, and what aiohttp raises for a broken connection.
    """
    if not cut and (response.content_length or 0) > limit:
        raise TooLarge(f"the body has {response.content_length} bytes, over the limit of {limit}")
    decoder = decoder_for(response.headers.getall("Content-Encoding", ()))
    body = _Body(limit, share, cut=cut)
    received = 0
    try:
        # All that has come, uncut: so the next read waits for the network, and the loop has its turn.
        while not body.full and (data := await _next(response, share)):
            # Bytes that decode to nothing (empty gzip members, endless blocks) count as well.
            _hold(received if cut else received + len(data), limit)
            received += len(data)
            if decoder is None:
                body.take(data)
                del data  # it is not held beside its copy while the next is waited for
                continue
            steps, more = decoder.feed(data), True
            del data
            while more and not body.full:
                pieces, more = await aside.do(partial(_step, steps), client)
                for piece in pieces:
                    body.take(piece)
                    hold_ratio(received, body.size)
                del pieces
                if more and not share.has_room:
                    await _room(response, share)
            del steps
        if decoder is not None and received and not body.full:
            decoder.end()
        share.whole()
    except DECODE_ERRORS:
        raise DecodeFailed("the compressed body is broken") from None
    return body.whole(), received


async def _next(response: ClientResponse, share: BodyShare) -> bytes:
    """What comes next, once there is room for it; empty at the end."""
    if not share.has_room:
        await _room(response, share)
    share.listens = True
    data = await response.content.readany()
    share.listens = False
    return data


async def _room(response: ClientResponse, share: BodyShare) -> None:
    """Wait for room.  Nothing is read meanwhile: what one read brings would be held beside the budget."""
    connection = response.connection
    protocol = None if connection is None else connection.protocol
    if protocol is not None and protocol.is_connected():  # one that is gone cannot be paused; what it said is here
        protocol.pause_reading()
    await share.room()
    if protocol is not None and protocol.is_connected():
        protocol.resume_reading()


class _Body:
    """What of a body is here."""

    __slots__ = ("_bytes", "_cut", "_limit", "_share", "full", "size")

    def __init__(self, limit: int, share: BodyShare, *, cut: bool) -> None:
        self._limit = limit
        self._share = share
        self._cut = cut
        # Its value is handed out without a copy: 20 MB are not held twice, and the loop is not held for copying.
        # It is counted as allocated, an eighth more than it holds.
        self._bytes = io.BytesIO()
        self.size = 0
        self.full = False  # it was cut: no more of it is wanted

    def take(self, piece: bytes) -> None:
        """*piece* comes next.  Raises TooLarge."""
        if self._cut and self.size + len(piece) > self._limit:
            piece, self.full = piece[: self._limit - self.size], True
        _hold(self.size + len(piece), self._limit)
        self._bytes.write(piece)
        self.size += len(piece)
        self._share.add(getsizeof(self._bytes) - self._share.bytes)

    def whole(self) -> bytes:
        """All of it."""
        return self._bytes.getvalue()


def _step(steps: Iterator[bytes]) -> tuple[list[bytes], bool]:
    """The next of a decoder's pieces, and whether there may be more."""
    pieces, size = [], 0
    until = time.perf_counter() + STEP_S
    for piece in steps:
        pieces.append(piece)
        size += len(piece)
        if size >= STEP_BYTES or time.perf_counter() > until:
            return pieces, True
    return pieces, False


def _hold(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"the body is over the limit of {limit} bytes")
