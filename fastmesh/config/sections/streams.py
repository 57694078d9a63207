"""Streams, and how far each may run ahead of its reader."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from fastmesh.config.declare import Section, live, setting


class StreamSettings(Section):
    """How many streams there may be, and how large and how long."""

    max_concurrent: int = live(1000, "streams", "that are not closed; over it 503", ge=1)
    max_per_client: int = live(
        100, "streams", "of one client; over it 429; without tokens, loopback and Unix sockets have no limit", ge=1
    )
    rate_limit_rps: float = live(
        0, "1/s", "new streams of one client, told apart as for MAX_PER_CLIENT; over it 429; 0 is off", ge=0
    )
    rate_limit_burst: int = live(20, "streams", "so many at once after a pause", ge=1)
    max_urls: int = live(1000, "URLs", "in one request", ge=1)
    heartbeat_s: float = live(15, "s", "after so long without a frame, a heartbeat (NDJSON, SSE)", gt=0)
    sse_retry_ms: int = setting(5000, "ms", "how long a browser waits before it reconnects", ge=0)
    ws_ping_s: float = live(25, "s", "a WebSocket that sent nothing for so long is pinged", gt=0)
    ws_pong_timeout_s: float = live(20, "s", "and closed after so long without a byte", gt=0)
    ws_max_message_bytes: int = live(1_048_576, "bytes", "a larger message closes with 1009", ge=1024)
    ws_deflate: bool = live(False, "", "permessage-deflate for clients that offer it")
    deadline_s: float = live(3600, "s", "a whole stream, waiting included", gt=0)
    resume_window_s: float = live(120, "s", "how long an abandoned or a closed stream can be resumed", ge=0)
    journal_bytes: int = live(1_048_576, "bytes", "kept of a stream behind its reader, for resume", ge=0)
    detached_bytes: int = live(67_108_864, "bytes", "held of a detached stream that nobody reads yet", ge=4096)
    max_frame_bytes: int = setting(4_194_304, "bytes", "a larger document is shortened", ge=4096)


class BufferSettings(Section):
    """How far a stream may run ahead of its reader."""

    initial_frames_ndjson: int = setting(256, "frames", "window of an NDJSON reader", ge=1)
    initial_frames_sse: int = setting(128, "frames", "of an SSE reader", ge=1)
    initial_frames_websocket: int = setting(64, "frames", "of a WebSocket subscription", ge=1)
    min_frames: int = setting(64, "frames", "a window shrinks to this for a slow reader", ge=1)
    max_frames: int = setting(2048, "frames", "and grows to this for a fast one", ge=1)
    initial_bytes: int = setting(65_536, "bytes", "the same window in bytes, at first and at least", ge=1)
    max_bytes: int = setting(1_048_576, "bytes", "and at most", ge=1)
    slow_ms: float = setting(100, "ms", "a frame that waits longer for the transport is a slow one", gt=0)
    drop_threshold: int = setting(1000, "frames", "with on_slow drop a stuck reader lags by no more", ge=1)
    high_water_bytes: int = setting(65_536, "bytes", "the transport pauses its writer above this", ge=1, le=1 << 30)
    low_water_bytes: int = setting(16_384, "bytes", "and resumes it at this", ge=0, le=1 << 30)
    total_bytes: int = setting(
        268_435_456, "bytes", "all journals together, as allocated, and the URLs of open streams", ge=1
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (
            ("low_water_bytes", "high_water_bytes"),
            ("min_frames", "max_frames"),
            ("initial_frames_ndjson", "max_frames"),
            ("initial_frames_sse", "max_frames"),
            ("initial_frames_websocket", "max_frames"),
            ("initial_bytes", "max_bytes"),
        ):
            if (less := getattr(self, low)) > (more := getattr(self, high)):
                raise ValueError(f"want BUFFER__{low.upper()} <= BUFFER__{high.upper()}, got {less} and {more}")
        return self


class FirehoseSettings(Section):
    """The stream that measures the core without the network."""

    enabled: bool = setting(False, "", "/firehose/stream, /firehose/sse and /firehose/ws are there")
