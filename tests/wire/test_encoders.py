"""A batch in one go."""

from __future__ import annotations

import httptools
from hypothesis import given
from hypothesis import strategies as st

from fastmesh.wire.encoders import ChunkedNdjsonEncoder, NdjsonEncoder

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
BATCH = st.lists(st.binary(min_size=1).filter(lambda frame: b"\n" not in frame), min_size=1)


@given(BATCH)
def test_ndjson_is_one_frame_a_line(batch: list[bytes]) -> None:
    data = NdjsonEncoder().frame(batch, sum(map(len, batch)))
    assert data.split(b"\n") == [*batch, b""]


@given(BATCH)
def test_a_chunk_holds_a_whole_batch(batch: list[bytes]) -> None:
    """RFC 9112, section 7.1: size in hexadecimal, CR LF, so many bytes, CR LF."""
    size, _, rest = ChunkedNdjsonEncoder().frame(batch, sum(map(len, batch))).partition(b"\r\n")
    assert rest[int(size, 16) :] == b"\r\n"
    assert rest[: int(size, 16)].split(b"\n") == [*batch, b""]


def test_the_end() -> None:
    assert ChunkedNdjsonEncoder().end() == b"0\r\n\r\n"
    assert NdjsonEncoder().end() == b""


class Client:
    """What a client's parser sees of a response."""

    def __init__(self, data: bytes) -> None:
        self.chunks: list[bytes] = []
        self.complete = False
        httptools.HttpResponseParser(self).feed_data(data)

    def on_chunk_header(self) -> None:
        self.chunks.append(b"")

    def on_body(self, body: bytes) -> None:
        self.chunks[-1] += body

    def on_message_complete(self) -> None:
        self.complete = True


@given(st.lists(BATCH, max_size=5))
def test_a_client_reads_a_chunk_a_batch_and_then_the_end(batches: list[list[bytes]]) -> None:
    encoder = ChunkedNdjsonEncoder()
    body = b"".join(encoder.frame(batch, sum(map(len, batch))) for batch in batches)
    lines = [b"".join(frame + b"\n" for frame in batch) for batch in batches]
    unended = Client(HEAD + body)
    assert (unended.chunks, unended.complete) == (lines, False)
    ended = Client(HEAD + body + encoder.end())
    assert (ended.chunks, ended.complete) == ([*lines, b""], True)
