from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

# The block of a bytes object: 33 bytes beside its text, rounded up to the allocator's 16.
cdef inline Py_ssize_t block_size(Py_ssize_t length) noexcept:
    return (length + 48) & ~<Py_ssize_t>15


cdef enum:
    FEWEST_SLOTS = 8
    KEPT_SLOTS = 64     # 1 KiB: a ring that runs empty every turn of the loop does not allocate anew each time


cdef struct Slot:
    PyObject* frame     # owned: a bytes object of exactly its text's size
    double entered      # seconds, the loop's clock


@cython.final
cdef class MemoryTotal:
    """How many bytes all rings hold, as allocated.

    It calls *over* when that grows to `alarm`, which is *bound* at first, and *under*
    when it falls below the bound while that is `awaited`.
    """

    cdef readonly long long held
    cdef readonly long long bound
    cdef public long long alarm
    cdef public bint awaited
    cdef object over, under

    def __cinit__(self, long long bound, over, under):
        self.held = 0
        self.bound = self.alarm = bound
        self.over, self.under = over, under
        self.awaited = False

    cpdef add(self, long long count):
        """*count* bytes more are held, or less."""
        self.held += count
        if count > 0:
            if self.held >= self.alarm:
                self.over()
        elif self.awaited and self.held < self.bound:
            self.under()


@cython.final
cdef class RingBuffer:
    """The frames of a stream by sequence number: from `first` up to `next`, `next` excluded.

    Each frame is one bytes object that every reader shares.  Slots are
    allocated with the first frame, doubled when they are full and, beyond a few,
    fewer when three in four are empty; how many frames it holds is the window's
    affair, not the ring's.  As it grows it counts itself into *total*; what is freed its owner
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

    cpdef append(self, bytes text, double entered):
        """Copy *text* into the ring; return its sequence number.

        Copied, because what orjson.dumps returns keeps a block of 4 KB however
        short its text is.
        """
        cdef Py_ssize_t length, before = self.allocated
        cdef long long seq
        cdef bytes frame
        cdef Slot* slot
        if text is None:
            raise TypeError("a frame is bytes, not None")
        length = PyBytes_GET_SIZE(text)
        if self.used == self.capacity:
            self.grow()
        frame = PyBytes_FromStringAndSize(PyBytes_AS_STRING(text), length)
        slot = self.slot(self.used)
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

    cpdef read(self, long long seq, Py_ssize_t max_bytes):
        """Return ([frame, …], bytes of text) from *seq* on: as many as fit into *max_bytes*, but at least one if there is one.

        Raises IndexError when *seq* is not between `first` and `next`.
        """
        cdef Py_ssize_t at = self.place(seq)
        cdef Py_ssize_t taken = 0
        cdef Py_ssize_t length
        cdef bytes frame
        cdef list frames = []
        while at < self.used:
            frame = <bytes>self.slot(at).frame
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
        return self.slot(at).entered

    def offset(self, long long seq):
        """How many bytes of text were ever appended before the frame *seq*.  Raises IndexError when it is not held."""
        cdef Py_ssize_t count = self.place(seq)
        cdef long long offset = self.evicted_bytes
        for at in range(count):
            offset += PyBytes_GET_SIZE(<bytes>self.slot(at).frame)
        return offset

    cpdef evict(self, long long seq):
        """Let go of all frames before *seq*; return how many bytes that freed."""
        cdef Py_ssize_t before = self.allocated
        self.drop(self.place(seq))
        return before - self.allocated

    cpdef trim(self, long long seq, long long offset):
        """Let go of frames before *seq*, oldest first, until `evicted_bytes` reaches *offset*; return how many bytes that freed."""
        cdef Py_ssize_t before, count, most
        cdef long long evicted = self.evicted_bytes
        if evicted >= offset:
            return 0
        before = self.allocated
        most = self.place(seq)
        count = 0
        while count < most and evicted < offset:
            evicted += PyBytes_GET_SIZE(<bytes>self.slot(count).frame)
            count += 1
        self.drop(count)
        return before - self.allocated

    cdef inline Slot* slot(self, Py_ssize_t place) noexcept:
        """The slot of the frame before which *place* others lie."""
        return &self.slots[(self.head + place) & (self.capacity - 1)]

    cdef Py_ssize_t place(self, long long seq) except -1:
        """How many frames lie before *seq*."""
        if not self.first <= seq <= self.first + self.used:
            raise IndexError(f"frame {seq} is not held: there are {self.first} to {self.first + self.used - 1}")
        return <Py_ssize_t>(seq - self.first)

    def clear(self):
        """Let go of everything, the slots included; return how many bytes that freed."""
        cdef Py_ssize_t before = self.allocated
        self.drop(self.used)
        self.resize(0)
        return before

    cdef void drop(self, Py_ssize_t count) noexcept:
        """Let go of the oldest *count*, and of slots that are far too many."""
        cdef PyObject* frame
        cdef Py_ssize_t length, capacity
        for _ in range(count):
            frame = self.slots[self.head].frame
            length = PyBytes_GET_SIZE(<bytes>frame)
            self.allocated -= block_size(length)
            self.evicted_bytes += length
            Py_DECREF(<bytes>frame)
            self.head = (self.head + 1) & (self.capacity - 1)
        self.used -= count
        self.first += count
        if self.capacity > KEPT_SLOTS and self.used * 4 <= self.capacity:
            capacity = KEPT_SLOTS
            while capacity < self.used * 2:
                capacity *= 2
            self.resize(capacity)  # without memory for that the slots stay as they are

    cdef int grow(self) except -1:
        cdef Py_ssize_t capacity = self.capacity * 2 if self.capacity else FEWEST_SLOTS
        if not self.resize(capacity):
            raise MemoryError(f"no room for a ring of {capacity} frames")
        return 0

    cdef bint resize(self, Py_ssize_t capacity) noexcept:
        """Lay the frames into *capacity* slots; return whether there was memory for them."""
        cdef Slot* slots = NULL
        if capacity:
            slots = <Slot*>PyMem_Malloc(capacity * sizeof(Slot))
            if slots == NULL:
                return False
            for at in range(self.used):
                slots[at] = self.slot(at)[0]
        PyMem_Free(self.slots)
        self.allocated += (capacity - self.capacity) * <Py_ssize_t>sizeof(Slot)
        self.slots = slots
        self.capacity = capacity
        self.head = 0
        return True
