cdef enum:
    WINDOW_SIZE = 50    # operations that are judged
    FEWEST = 25         # fewer of them say nothing
    FIRST_ROOM = 4      # entries: most readers are idle and have sent one or two frames

cdef double FORGET_S = 1.0  # entries older than this leave: a client that reads again is not held to its past


@cython.final
cdef class BackpressureHandler:
    """Judges one subscriber by its last 50 sends, each quick or slow (docs/protocol.md, *Who waits for whom*).

    A policy: it is told what the transport took and what still waits, always with the time in seconds, and says whether
    there is backpressure.  It owns no queue, starts no task and never asks the time.
    """

    cdef double* at                     # when, a ring of `room`
    cdef unsigned long long was_slow    # a bit for each place of the ring
    cdef int room                       # 0, 4, 8, 16, 32, 64
    cdef int head                       # the oldest entry
    cdef int used
    cdef readonly int slow              # slow ones among the entries
    cdef readonly Py_ssize_t slow_total  # slow ones ever
    cdef double slow_s
    cdef Py_ssize_t entered             # frames before this one are in the window already

    def __cinit__(self, double slow_ms):
        self.at = NULL
        self.room = self.head = self.used = self.slow = 0
        self.was_slow = 0
        self.slow_total = 0
        self.slow_s = slow_ms / 1000
        self.entered = 1

    def __dealloc__(self):
        PyMem_Free(self.at)

    def __len__(self):
        return self.used

    cdef int record(self, double now, bint slow) except -1:
        """Enter one send at *now*."""
        cdef int at
        if self.used == WINDOW_SIZE:
            self.leave()
        elif self.used == self.room:
            self.grow()
        at = (self.head + self.used) & (self.room - 1)
        self.at[at] = now
        self.was_slow &= ~(1ULL << at)
        self.was_slow |= <unsigned long long>slow << at
        self.used += 1
        self.slow += slow
        self.slow_total += slow
        return 0

    @cython.nonecheck(False)
    cpdef double took(self, RingBuffer ring, Py_ssize_t seq, Py_ssize_t end, double now) except -1:
        """The transport took the frames *seq* to *end*, *end* excluded; return the longest wait in seconds.  Raises
        IndexError when *ring* does not hold them."""
        cdef Py_ssize_t place, last, judged
        cdef double waited, longest = 0
        if ring is None:
            raise TypeError("want the ring that holds the frames, not None")
        place, last = ring.place(seq), ring.place(end)
        judged = place + max(<Py_ssize_t>(min(self.entered, end) - seq), 0)
        while place < last:
            waited = now - ring.slot(place).entered
            if place >= judged:
                self.record(now, waited > self.slow_s)
            longest = max(longest, waited)
            place += 1
        self.entered = max(self.entered, end)
        return longest

    cdef int wait(self, RingBuffer ring, Py_ssize_t seq, double now) except -1:
        """The frames from *seq* on wait still: those whose time is over are slow now, not first when they are sent."""
        cdef Py_ssize_t place
        ring.place(seq)
        place = ring.place(max(seq, self.entered))
        while place < ring.used and now - ring.slot(place).entered > self.slow_s:
            self.record(now, True)
            place += 1
        self.entered = ring.first + place
        return 0

    def under_backpressure(self, double now):
        """Whether more than half of at least 25 recent sends were slow."""
        while self.used and self.at[self.head] < now - FORGET_S:
            self.leave()
        return self.used >= FEWEST and self.slow * 2 > self.used

    @property
    def mostly_slow(self):
        """Whether most of what it remembers was slow, however little that is."""
        return self.slow * 2 > self.used

    cdef inline void leave(self) noexcept:
        self.slow -= (self.was_slow >> self.head) & 1
        self.head = (self.head + 1) & (self.room - 1)
        self.used -= 1

    cdef int grow(self) except -1:
        """Twice the room; what had wrapped round to the front goes behind the old end."""
        cdef int room = self.room * 2 if self.room else FIRST_ROOM
        cdef double* at = <double*>PyMem_Realloc(self.at, room * sizeof(double))
        if at == NULL:
            raise MemoryError("no room for a window of sends")
        for place in range(self.head):
            at[self.room + place] = at[place]
        self.was_slow |= (self.was_slow & ((1ULL << self.head) - 1)) << self.room
        self.at = at
        self.room = room
        return 0
