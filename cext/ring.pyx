from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

# The block of a bytes object: 33 bytes beside its text, rounded up to the allocator's 16.
cdef inline Py_ssize_t block_size(Py_ssize_t length) noexcept:
    return (length + 48) & ~<Py_ssize_t>15


cdef enum:
    FEWEST_SLOTS = 8
    KEPT_SLOTS = 256    # 4 KiB: a ring that runs empty every turn of the loop does not allocate anew each time


cdef struct Slot:
    PyObject* frame     # owned: a bytes object of exactly its text's size
    double entered      # seconds, the loop's clock


cdef class MemoryTotal:
    """How many bytes all rings hold, as allocated; calls `over` when that reaches `alarm`."""

    cdef readonly long long held
    cdef public long long alarm
    cdef public object over

    def __cinit__(self, long long alarm, over):
        self.held = 0
        self.alarm = alarm
        self.over = over

    cpdef add(self, long long count):
        """*count* bytes more are held, or less."""
        self.held += count
        if count > 0 and self.held >= self.alarm:
            self.over()


cdef class RingBuffer:
    """The frames of a stream by sequence number: from `first` up to `next`, `next` excluded.

    Each frame is one bytes object that every reader shares.  Slots are
    allocated with the first frame, doubled when they are full and, beyond a few,
    given back when the ring runs empty; how many frames it holds is the window's affair,
    not the ring's.  As it grows it counts itself into *total*; what is freed its owner
    takes off again.
    """

    cdef Slot* slots
    cdef Py_ssize_t capacity            # a power of two, or 0
    cdef Py_ssize_t used
    cdef Py_ssize_t head                # the slot of `first`
    cdef readonly long long first       # sequence number of the oldest frame held
    cdef readonly long long appended_bytes   # of text, ever
    cdef readonly long long evicted_bytes    # of text, ever
    cdef readonly Py_ssize_t allocated  # bytes held now, slots included
    cdef MemoryTotal total

    def __cinit__(self, MemoryTotal total=None):
        self.total = total
        self.slots = NULL
        self.capacity = self.used = self.head = 0
        self.first = 1
        self.appended_bytes = self.evicted_bytes = 0
        self.allocated = 0

    def __dealloc__(self):
        self.drop(self.used)
        PyMem_Free(self.slots)

    def __len__(self):
        return self.used

    @property
    def next(self):
        """The sequence number that the next frame gets."""
        return self.first + self.used

    def append(self, bytes text not None, double entered):
        """Copy *text* into the ring; return its sequence number.

        Copied, because what orjson.dumps returns keeps a block of 4 KB however
        short its text is.
        """
        cdef Py_ssize_t length = PyBytes_GET_SIZE(text)
        cdef Py_ssize_t before = self.allocated
        cdef long long seq
        cdef bytes frame
        cdef Slot* slot
        if self.used == self.capacity:
            self.grow()
        frame = PyBytes_FromStringAndSize(PyBytes_AS_STRING(text), length)
        slot = &self.slots[(self.head + self.used) & (self.capacity - 1)]
        Py_INCREF(frame)
        slot.frame = <PyObject*>frame
        slot.entered = entered
        self.used += 1
        self.appended_bytes += length
        self.allocated += block_size(length)
        seq = self.first + self.used - 1
        if self.total is not None:
            self.total.add(self.allocated - before)  # last: who is told may evict
        return seq

    def read(self, long long seq, Py_ssize_t max_bytes):
        """Return ([frame, …], bytes of text) from *seq* on: as many as fit into *max_bytes*, but at least one if there is one.

        Raises IndexError when *seq* is not between `first` and `next`.
        """
        cdef Py_ssize_t at = self.place(seq)
        cdef Py_ssize_t taken = 0
        cdef Py_ssize_t length
        cdef bytes frame
        cdef list frames = []
        while at < self.used:
            frame = <bytes>self.slots[(self.head + at) & (self.capacity - 1)].frame
            length = PyBytes_GET_SIZE(frame)
            if taken and taken + length > max_bytes:
                break
            frames.append(frame)
            taken += length
            at += 1
        return frames, taken

    def entered(self, long long seq):
        """When the frame *seq* entered, in seconds.  Raises IndexError when it is not held."""
        cdef Py_ssize_t at = self.place(seq)
        if at == self.used:
            raise IndexError(f"frame {seq} is not there yet, the last is {self.first + self.used - 1}")
        return self.slots[(self.head + at) & (self.capacity - 1)].entered

    def offset(self, long long seq):
        """How many bytes of text were ever appended before the frame *seq*.  Raises IndexError when it is not held."""
        cdef Py_ssize_t count = self.place(seq)
        cdef long long offset = self.evicted_bytes
        for at in range(count):
            offset += PyBytes_GET_SIZE(<bytes>self.slots[(self.head + at) & (self.capacity - 1)].frame)
        return offset

    def evict(self, long long seq):
        """Let go of all frames before *seq*; return how many bytes that freed."""
        cdef Py_ssize_t before = self.allocated
        self.drop(self.place(seq))
        return before - self.allocated

    def trim(self, long long seq, long long offset):
        """Let go of frames before *seq*, oldest first, until `evicted_bytes` reaches *offset*; return how many bytes that freed."""
        cdef Py_ssize_t before, count, most
        cdef long long evicted = self.evicted_bytes
        if evicted >= offset:
            return 0
        before = self.allocated
        most = self.place(seq)
        count = 0
        while count < most and evicted < offset:
            evicted += PyBytes_GET_SIZE(<bytes>self.slots[(self.head + count) & (self.capacity - 1)].frame)
            count += 1
        self.drop(count)
        return before - self.allocated

    cdef Py_ssize_t place(self, long long seq) except -1:
        """How many frames lie before *seq*."""
        if not self.first <= seq <= self.first + self.used:
            raise IndexError(f"frame {seq} is not held: there are {self.first} to {self.first + self.used - 1}")
        return <Py_ssize_t>(seq - self.first)

    cdef void drop(self, Py_ssize_t count) noexcept:
        cdef PyObject* frame
        cdef Py_ssize_t length
        for _ in range(count):
            frame = self.slots[self.head].frame
            length = PyBytes_GET_SIZE(<bytes>frame)
            self.allocated -= block_size(length)
            self.evicted_bytes += length
            Py_DECREF(<bytes>frame)
            self.head = (self.head + 1) & (self.capacity - 1)
        self.used -= count
        self.first += count
        if self.used == 0 and self.capacity > KEPT_SLOTS:
            PyMem_Free(self.slots)
            self.slots = NULL
            self.allocated -= self.capacity * sizeof(Slot)
            self.capacity = self.head = 0

    cdef int grow(self) except -1:
        cdef Py_ssize_t capacity = self.capacity * 2 if self.capacity else FEWEST_SLOTS
        cdef Slot* slots = <Slot*>PyMem_Realloc(self.slots, capacity * sizeof(Slot))
        if slots == NULL:
            raise MemoryError(f"no room for a ring of {capacity} frames")
        # What had wrapped round to the front goes behind the old end.
        for at in range(self.head):
            slots[self.capacity + at] = slots[at]
        self.allocated += (capacity - self.capacity) * sizeof(Slot)
        self.slots = slots
        self.capacity = capacity
        return 0
