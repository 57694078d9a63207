cdef enum:
    OPEN = 0    # the life of an outlet in which it may write; what comes after is its owner's


@cython.trashcan(True)  # the queue is a chain, which would be freed as deep as it is long
cdef class Outlet:
    """A socket's writing end: what the pump serves, and a reader's sink.  It carries one reader, or serves several in a
    way of its own."""

    cdef public Reader reader           # while it carries one
    cdef public object transport        # None when it is gone
    cdef public Py_ssize_t life                # 0 while it may write
    cdef public bint paused             # the transport has enough
    cdef public Py_ssize_t written      # bytes, ever
    cdef Pump pump
    cdef bint queued
    cdef Outlet behind                  # the next in the pump's queue

    def __init__(self, Pump pump not None):
        if self.pump is not None:
            raise RuntimeError("an outlet begins once")
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

    @cython.final
    @cython.nonecheck(False)    # *data* is none of the arguments that can be None
    cdef inline int put(self, bytes data) except -1:
        if self.transport is not None and self.life == OPEN:
            self.written += PyBytes_GET_SIZE(data)
            self.transport.write(data)
        return 0

    @cython.final
    cdef inline int enqueue(self) except -1:
        if not self.queued and not self.paused and self.life == OPEN:
            self.pump.push(self)
        return 0

    @cython.final
    @cython.nonecheck(False)
    cdef Py_ssize_t turn(self, Py_ssize_t max_bytes) except -1:
        cdef Reader reader = self.reader    # which its sink may let go of while it is served
        if self.life != OPEN:  # since it was queued: what is written to it goes nowhere, and counts as read
            return 0
        if reader is None:
            return max(<Py_ssize_t>self.serve(max_bytes), 0)    # -1 would say that it raised
        if self.paused:
            return 0
        try:
            return reader.deliver(max_bytes, b"")
        except Exception as error:
            self.failed(error)
            return 0


@cython.final
cdef class Pump:
    """Who writes when: serves the ready ones round robin, by bytes.

    Everybody who has something to write gets *quantum_bytes* in turn, and the loop gets its turn after *turn_bytes*: a
    hundred greedy streams share it fairly, and none holds up a new request for longer than it takes to move so much.  A
    write costs a system call however small it is: it counts as *least_bytes* at least.
    """

    cdef object call_soon
    cdef Py_ssize_t quantum_bytes, turn_bytes, least_bytes
    cdef Outlet first, last
    cdef Py_ssize_t waiting
    cdef bint scheduled

    def __cinit__(self, call_soon, *, Py_ssize_t quantum_bytes, Py_ssize_t turn_bytes, Py_ssize_t least_bytes):
        if not callable(call_soon):
            raise TypeError(f"want what calls soon, got {type(call_soon).__name__}")
        if quantum_bytes < 1 or turn_bytes < 1 or least_bytes < 0:
            raise ValueError(f"a turn must move something, got {quantum_bytes}, {turn_bytes} and {least_bytes} bytes")
        self.call_soon = call_soon
        self.quantum_bytes = quantum_bytes
        self.turn_bytes = turn_bytes
        self.least_bytes = least_bytes
        self.waiting = 0
        self.scheduled = False

    @cython.nonecheck(False)
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
            self.schedule()
        return 0

    cdef int schedule(self) except -1:
        cdef bint asked = False
        self.scheduled = True   # before: it may be called at once
        try:
            self.call_soon(self.turn)
            asked = True
        finally:
            if not asked:
                self.scheduled = False
        return 0

    @cython.nonecheck(False)    # somebody waits
    cdef inline Outlet pop(self):
        cdef Outlet outlet = self.first
        self.first, outlet.behind = outlet.behind, None
        if self.first is None:
            self.last = None
        self.waiting -= 1
        outlet.queued = False
        return outlet

    @cython.nonecheck(False)
    def turn(self):
        """Serve those who wait, until so many bytes are moved."""
        cdef Py_ssize_t left = self.turn_bytes
        # Counted, since one that writes nothing costs no bytes but may queue again at once.
        cdef Py_ssize_t count = self.waiting
        cdef Outlet outlet
        try:
            while count and left > 0 and self.waiting:  # who is served may call a turn of its own
                outlet = self.pop()
                left -= max(outlet.turn(self.quantum_bytes), self.least_bytes)
                count -= 1
        finally:
            self.scheduled = False
            if self.waiting:
                self.schedule()
