"""What is known of a stream when it is opened, and how much of its text it may keep."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Literal

from fastmesh.telemetry.trace import Trace


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of a stream when it is opened."""

    stream_type: str
    request_id: str
    client: str | None  # whose it is, and whom it is counted for; None: this machine's, and nobody
    total_urls: int | None
    deadline_s: float
    detached: bool = False  # nobody is waited for
    on_slow: Literal["block", "drop", "disconnect"] = "block"  # what a slow reader in the pacer's place means
    progress: bool = False  # now and then its readers get news of how far it is
    kept: bool = True  # its journal can be read after its end
    connection: int = 0  # the number of the one that it was asked for on; 0: none
    trace: Trace = field(default_factory=Trace.begin)

    @property
    def asker(self) -> Hashable:
        """Whom its turns count for: its client; of this machine's, who have no token, each connection is one."""
        return self.connection if self.client is None else self.client


@dataclass(frozen=True, slots=True)
class JournalBounds:
    """How much of its text a stream keeps, in bytes."""

    behind: int  # behind who has the pacer's place
    detached: int  # in all, when it is detached
    ahead: int  # of a place that it does not wait for, or whose holder has left
