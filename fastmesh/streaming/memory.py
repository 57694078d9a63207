"""How much memory all streams hold together, and which of them wait for room.  BufferManager also lends each reader its
window.  It is given facts and owns neither task nor clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastmesh._core import MemoryTotal
from fastmesh.config import BufferSettings
from fastmesh.streaming.window import DynamicBuffer, WindowBounds

UNLIMITED = 1 << 62
LEAST_BEHIND = 4096
LEAST_BYTES: Final = 1 << 24  # to give back to the system: for fewer the loop stands still in vain, 6 ms for 75 MiB

Wake = Callable[[], None]
Waiting = dict[Wake, None]


class BufferManager:
    """Counts the memory of all journals, as allocated, and lends each reader its window.

    Over the total it asks for text that nobody waits for to be let go; when that is not
    enough no further URL is started and no stream opened.  Delivering needs no room, so readers bring it down again.

    Counting calls nobody: streams that wait are woken in a turn of the loop of its own, handed to *call_soon*.  Until
    that turn the total is passed by what is appended in this one: results of URLs that were running, and, as soon as it
    is passed, one frame of each stream that appends as it is read.
    """

    def __init__(self, settings: BufferSettings, call_soon: Callable[[Callable[[], None]], object]) -> None:
        self._initial_frames = {
            "ndjson": settings.initial_frames_ndjson,
            "sse": settings.initial_frames_sse,
            "websocket": settings.initial_frames_websocket,
        }
        # A window that begins below the least is its own least.
        self._bounds = {
            protocol: WindowBounds(
                min(settings.min_frames, frames), settings.max_frames, settings.initial_bytes, settings.max_bytes
            )
            for protocol, frames in self._initial_frames.items()
        }
        self._initial_bytes = settings.initial_bytes
        self.total_bytes = settings.total_bytes
        self.total = MemoryTotal(self.total_bytes, call_soon, self._react)  # counted in C, once a frame
        self.behind_limit = UNLIMITED  # of text that a stream keeps behind its reader, while memory is short
        self.unsent_bytes = 0  # of text that detached streams hold and no reader was sent
        self.reclaim: Callable[[int], None] = lambda wanted: None  # lets go of so many bytes, if it can
        self._waiting: Waiting = {}  # for room in the total, the longest first
        self._waiting_unsent: Waiting = {}  # for room among the unsent bytes
        self._lowered = False  # the limit of text behind readers, since relax() looked

    def lend(self, protocol: str) -> DynamicBuffer:
        """A window for a new reader by *protocol*."""
        return DynamicBuffer(self._initial_frames[protocol], self._initial_bytes, self._bounds[protocol])

    @property
    def held_bytes(self) -> int:
        """What all journals hold."""
        return self.total.held

    def count_unsent(self, count: int) -> None:
        """Detached streams hold *count* bytes more (or less) that no reader was sent."""
        self.unsent_bytes += count
        if self._waiting_unsent and self.has_room_unsent:
            self.total.look_soon()

    @property
    def has_room(self) -> bool:
        """Whether the journals together are below the total."""
        return self.total.held < self.total_bytes

    @property
    def has_room_unsent(self) -> bool:
        """Whether detached streams may hold more that no reader was sent: half of the total at most."""
        return self.unsent_bytes * 2 < self.total_bytes

    def wait(self, wake: Wake) -> None:
        """Have *wake* called once, when there is room again."""
        self._waiting[wake] = None
        self.total.awaited = True

    def wait_unsent(self, wake: Wake) -> None:
        """Have *wake* called once, when detached streams may hold more again."""
        self._waiting_unsent[wake] = None

    def forget(self, wake: Wake) -> None:
        """*wake* no longer waits."""
        self._waiting.pop(wake, None)
        self._waiting_unsent.pop(wake, None)

    def keep_behind(self, limit: int) -> None:
        """Memory is short: from now on streams keep *limit* bytes of text behind their readers."""
        self.behind_limit = limit
        self._lowered = True

    def relax(self) -> None:
        """To be called now and then: where there is room, and memory was not short since, streams keep more again."""
        lowered, self._lowered = self._lowered, False
        if self.has_room and not lowered:
            self.behind_limit = min(UNLIMITED, max(self.behind_limit, LEAST_BEHIND) * 2)

    def make_room(self) -> bool:
        """Have text let go of that nobody waits for, if the total is passed; return whether there is room then.

        It asks for an eighth to be free.  The total itself asks again only when it has grown by a 64th, or had
        room in between: to look through all streams for each frame would be too dear.
        """
        if not self.has_room:
            self.reclaim(self.held_bytes - self.total_bytes + self.total_bytes // 8)
            if not self.has_room:
                self.total.alarm = self.held_bytes + self.total_bytes // 64
        return self.has_room

    def _react(self) -> None:
        """The total is passed, or there is room again, in it or among the unsent bytes."""
        self.make_room()
        self._wake(self._waiting, lambda: self.has_room)
        self._wake(self._waiting_unsent, lambda: self.has_room_unsent)
        self.total.awaited = bool(self._waiting)

    def _wake(self, waiting: Waiting, has_room: Callable[[], bool]) -> None:
        """Wake streams, the longest waiting first, as long as there is room; one that finds too little waits again."""
        for wake in list(waiting):
            if not has_room():
                return
            if wake in waiting:
                del waiting[wake]
                try:
                    wake()
                except BaseException:
                    self.total.look_soon()  # for the others
                    raise


class Ebb:
    """When so much less memory is held than before that the allocator should give some back to the system."""

    def __init__(self) -> None:
        self._most = 0  # as of each look

    def has_set_in(self, held: int) -> bool:
        """Whether *held* bytes are less than half of the most that were held since memory was given back."""
        self._most = max(self._most, held)
        if self._most - held < max(held, LEAST_BYTES):
            return False
        self._most = held
        return True
