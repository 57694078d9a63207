"""Reading a body: counted, decoded and given back to the loop in small steps."""

from __future__ import annotations

import asyncio
import io
from typing import Final

from aiohttp import ClientResponse

from fastmesh.crawl.body_budget import BodyShare
from fastmesh.crawl.decode import DECODE_ERRORS, decoder_for, hold_ratio
from fastmesh.errors import DecodeFailed, TooLarge

READ_BYTES: Final = 65_536
# What one read brings: aiohttp lets twice READ_BYTES come and what uvloop has read by then, 256 KiB at once.
MAX_READ_BYTES: Final = 2 * READ_BYTES + 262_144


async def read_body(response: ClientResponse, limit: int, share: BodyShare, *, cut: bool = False) -> tuple[bytes, int]:
    """The decoded body, and the bytes that were received for it.

    At most *limit* bytes either way.  Between any two reads and any two decoded pieces
    the loop runs, and no more than *limit*, what one read brings and one piece is ever held.  *share*
    counts them, and lets the reading wait while there are too many.  With *cut* what is
    over the limit is left out.  Raises TooLarge, DecodeFailed, and what aiohttp raises for a broken connection.
    """
    if not cut and (response.content_length or 0) > limit:
        raise TooLarge(f"the body has {response.content_length} bytes, over the limit of {limit}")
    decoder = decoder_for(response.headers.getall("Content-Encoding", ()))
    # Its value is handed out without a copy: 20 MB are not held twice, and the loop is not held for copying.
    body = io.BytesIO()
    received = 0
    try:
        # All that has come, uncut: so the next read waits for the network, and the loop has its turn.
        while data := await response.content.readany():
            # Bytes that decode to nothing (empty gzip members, endless blocks) count as well.
            _hold(received if cut else received + len(data), limit)
            received += len(data)
            for piece in (data,) if decoder is None else decoder.feed(data):
                if cut and body.tell() + len(piece) > limit:
                    body.write(piece[: limit - body.tell()])
                    share.whole()
                    return body.getvalue(), received
                _hold(body.tell() + len(piece), limit)
                body.write(piece)
                share.add(len(piece))
                if decoder is not None:
                    hold_ratio(received, body.tell())
                    await asyncio.sleep(0)
                await share.room()
        if decoder is not None and received:
            decoder.end()
        share.whole()
    except DECODE_ERRORS:
        raise DecodeFailed("the compressed body is broken") from None
    return body.getvalue(), received


def _hold(size: int, limit: int) -> None:
    if size > limit:
        raise TooLarge(f"the body is over the limit of {limit} bytes")
