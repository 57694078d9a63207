"""A stream and its readers as ``GET /streams`` shows them."""

from __future__ import annotations

from typing import Any

from fastmesh.events import rfc3339
from fastmesh.streaming.pipeline import StreamingPipeline


def described(pipeline: StreamingPipeline) -> dict[str, Any]:
    """A stream as GET /streams shows it."""
    successful, failed = pipeline.results
    return {
        "stream_id": pipeline.id,
        "stream_type": pipeline.opening.stream_type,
        "request_id": pipeline.opening.request_id,
        "state": pipeline.state,
        "status": pipeline.status or None,
        "opened_at": rfc3339(pipeline.opened_wall),
        "detached": pipeline.opening.detached,
        "total_urls": pipeline.opening.total_urls,
        "successful": successful,
        "failed": failed,
        "first_seq": pipeline.journal.ring.first,
        "last_seq": pipeline.journal.last_seq,
        "kept_bytes": pipeline.journal.ring.allocated,
        "pacer": pipeline.pacer.place,
        "subscribers": [
            {
                "protocol": reader.encoder.protocol,
                "pacer": reader is pipeline.pacer.holder,
                "paused": reader.sink.paused,
                "capacity_frames": reader.buffer.capacity_frames,
                "capacity_bytes": reader.buffer.capacity_bytes,
                "sent_seq": reader.next_seq - 1,
                "unread_frames": reader.unread_frames,
                "unread_bytes": reader.unread_bytes,
                "sent_frames": reader.sent_frames,
                "sent_bytes": reader.sent_bytes,
                "missed_frames": reader.missed_frames,
            }
            for reader in pipeline.audience.attached
        ],
    }
