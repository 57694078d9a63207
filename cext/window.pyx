cdef enum:
    WINDOW_SIZE = 50


cdef class SendWindow:
    """The last 50 sends of one subscriber, each quick or slow; those older than a second do not count.

    It is told when; it never asks the time.
    """

    cdef double at[WINDOW_SIZE]         # seconds
    cdef bint was_slow[WINDOW_SIZE]
    cdef int head                       # the oldest entry
    cdef int used
    cdef readonly int slow              # slow ones among the entries
    cdef readonly long long slow_total  # slow ones ever

    def __cinit__(self):
        self.head = self.used = self.slow = 0
        self.slow_total = 0

    def __len__(self):
        return self.used

    cpdef record(self, double now, bint slow):
        """Enter one send at *now* seconds."""
        cdef int at
        if self.used == WINDOW_SIZE:
            self.leave()
        at = (self.head + self.used) % WINDOW_SIZE
        self.at[at] = now
        self.was_slow[at] = slow
        self.used += 1
        self.slow += slow
        self.slow_total += slow

    def took(self, RingBuffer ring not None, long long seq, long long end, double now, double slow_s):
        """Enter the frames *seq* to *end*, *end* excluded, which the transport took at *now*; return the longest wait in seconds."""
        cdef double waited, longest = 0
        cdef Py_ssize_t place = ring.place(seq)
        ring.place(end)
        while seq < end:
            waited = now - ring.slots[(ring.head + place) & (ring.capacity - 1)].entered
            self.record(now, waited > slow_s)
            longest = max(longest, waited)
            place += 1
            seq += 1
        return longest

    def overdue(self, RingBuffer ring not None, long long seq, double now, double slow_s):
        """Enter as slow what waits at *now* for longer than *slow_s*, from *seq* on; return the first that does not."""
        cdef Py_ssize_t place = ring.place(seq)
        while place < ring.used and now - ring.slots[(ring.head + place) & (ring.capacity - 1)].entered > slow_s:
            self.record(now, True)
            place += 1
        return ring.first + place

    def expire(self, double before):
        """Forget the entries older than *before* seconds."""
        while self.used and self.at[self.head] < before:
            self.leave()

    cdef void leave(self) noexcept:
        self.slow -= self.was_slow[self.head]
        self.head = (self.head + 1) % WINDOW_SIZE
        self.used -= 1
