"""A batch in one go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastmesh.wire.encoders import ChunkedNdjsonEncoder, NdjsonEncoder

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
