cdef enum:
    OPEN = 0    # the life of an outlet in which it may write; what comes after is its owner's


cdef class Outlet:
    """A socket's writing end: what the pump serves, and a reader's sink.

    It carries one reader, or serves several in a way of its own.
    """

    cdef public Reader reader           # while it carries one
    cdef public object transport        # None when it is gone
    cdef public int life                # 0 while it may write
    cdef public bint paused             # the transport has enough
    cdef public long long written       # bytes, ever
    cdef Pump pump
    cdef bint queued
    cdef Outlet behind                  # the next in the pump's queue

    def __init__(self, Pump pump not None):
        self.pump = pump
        self.life = OPEN
        self.paused = self.queued = False
        self.written = 0

    def send(self, bytes data not None):
        """Write *data*; `paused` says when it is enough.  A transport takes writes after its close, without a bound: no more then."""
        self.put(data)

    def ready(self):
        """There is something to serve."""
        self.enqueue()

    def serve(self, Py_ssize_t max_bytes):
        """The pump's turn for one that carries no reader: write about *max_bytes*; return what was written."""
        return 0

    def failed(self, error):
        """Serving its reader raised *error*, which is a bug."""
        raise error

    cdef int put(self, bytes data) except -1:
        if self.transport is not None and self.life == OPEN:
            self.written += PyBytes_GET_SIZE(data)
            self.transport.write(data)
        return 0

    cdef int enqueue(self) except -1:
        if not self.queued and not self.paused and self.life == OPEN:
            self.pump.push(self)
        return 0

    cdef Py_ssize_t turn(self, Py_ssize_t max_bytes) except -1:
        if self.life != OPEN:  # since it was queued: what is written to it goes nowhere, and counts as read
            return 0
        if self.reader is None:
            return self.serve(max_bytes)
        if self.paused:
            return 0
        try:
            return self.reader.deliver(max_bytes, b"")
        except Exception as error:
            self.failed(error)
            return 0


@cython.final
cdef class Pump:
    """Who writes when: serves the ready ones round robin, by bytes.

    Everybody who has something to write gets *quantum_bytes* in turn, and the
    loop gets its turn after *turn_bytes*: a hundred greedy streams share it fairly,
    and none holds up a new request for longer than it takes to move so much.
    A write costs a system call however small it is: it counts as *least_bytes* at least.
    """

    cdef object call_soon
    cdef Py_ssize_t quantum_bytes, turn_bytes, least_bytes
    cdef Outlet first, last
    cdef Py_ssize_t waiting
    cdef bint scheduled

    def __cinit__(self, call_soon, *, Py_ssize_t quantum_bytes, Py_ssize_t turn_bytes, Py_ssize_t least_bytes):
        self.call_soon = call_soon
        self.quantum_bytes = quantum_bytes
        self.turn_bytes = turn_bytes
        self.least_bytes = least_bytes
        self.waiting = 0
        self.scheduled = False

    cdef int push(self, Outlet outlet) except -1:
        """*outlet* has something to write; it is called back, never at once."""
        outlet.queued = True
        if self.last is None:
            self.first = outlet
        else:
            self.last.behind = outlet
        self.last = outlet
        self.waiting += 1
        if not self.scheduled:
            self.scheduled = True
            self.call_soon(self.turn)
        return 0

    cdef Outlet pop(self):
        cdef Outlet outlet = self.first
        self.first, outlet.behind = outlet.behind, None
        if self.first is None:
            self.last = None
        self.waiting -= 1
        outlet.queued = False
        return outlet

    def turn(self):
        """Serve those who wait, until so many bytes are moved."""
        cdef Py_ssize_t left = self.turn_bytes
        # Counted, since one that writes nothing costs no bytes but may queue again at once.
        cdef Py_ssize_t count = self.waiting
        try:
            while count and left > 0:
                left -= max(self.pop().turn(self.quantum_bytes), self.least_bytes)
                count -= 1
        finally:
            self.scheduled = self.first is not None
            if self.scheduled:
                self.call_soon(self.turn)
