cdef enum:
    MOST_BOUNDS = 16


@cython.final
cdef class Buckets:
    """A histogram of plain numbers: how many were at or under each of *bounds* (ascending, at most 16)."""

    cdef readonly tuple bounds
    cdef readonly double total          # of all that was observed
    cdef double limits[MOST_BOUNDS]
    cdef Py_ssize_t counted[MOST_BOUNDS + 1]
    cdef int size

    def __cinit__(self, tuple bounds not None):
        self.size = len(bounds)
        if self.size > MOST_BOUNDS:
            raise ValueError(f"{self.size} bounds are too many: want {MOST_BOUNDS} at most")
        self.bounds = bounds
        self.total = 0
        for at, bound in enumerate(bounds):
            self.limits[at] = bound
        for at in range(MOST_BOUNDS + 1):
            self.counted[at] = 0

    @property
    def counts(self):
        """How many lie in each bucket, above the bound before it and not above its own; the last has no bound."""
        return [self.counted[at] for at in range(self.size + 1)]

    def observe(self, double value):
        """Count *value* into its bucket, whose upper bound is part of it."""
        self.enter(value)

    cdef inline void enter(self, double value) noexcept:
        cdef int at = 0
        while at < self.size and value > self.limits[at]:
            at += 1
        self.counted[at] += 1
        self.total += value


cdef class SentCounts:
    """What is counted each time a reader is served, of one protocol."""

    cdef public Py_ssize_t bytes        # framed
    cdef public Py_ssize_t results      # frames
    cdef readonly Buckets send_latency  # seconds, of the oldest frame in a write

    def __cinit__(self, tuple bounds not None):
        self.bytes = self.results = 0
        self.send_latency = Buckets(bounds)
