cdef enum:
    FEWEST_SLOTS = 8
    KEPT_SLOTS = 64     # 2 KiB: a ring that runs empty every turn of the loop does not allocate anew each time


cdef struct Slot:
    const char* text
    Py_ssize_t length
    Block* block
    double entered      # seconds, the loop's clock


@cython.final
@cython.no_gc_clear     # what the collector had cleared could not be given back to the total
cdef class RingBuffer:
    """The frames of a stream by sequence number: from `first` up to `next`, `next` excluded.

    Each frame's text lies once, in a block of memory that it shares with those before and after it.  Slots are
    allocated with the first frame, doubled when they are full and, beyond a few, fewer when three in four are empty;
    how many frames it holds is the window's affair, not the ring's.  What it takes and gives back it counts into
    *total* itself.
    """

    cdef Slot* slots
    cdef Py_ssize_t capacity            # a power of two, or 0
    cdef Py_ssize_t used
    cdef Py_ssize_t head                # the slot of `first`
    cdef Blocks blocks
    cdef readonly Py_ssize_t first      # sequence number of the oldest frame held
    cdef readonly Py_ssize_t appended_bytes  # of text, ever
    cdef readonly Py_ssize_t evicted_bytes   # of text, ever
    cdef Py_ssize_t counted             # of the bytes held now, in the total
    cdef int lent                       # batches that point into it
    cdef MemoryTotal total

    def __cinit__(self, MemoryTotal total=None):
        self.total = total
        self.slots = NULL
        self.blocks.open = NULL
        self.blocks.next_size = LEAST_BLOCK
        self.blocks.allocated = 0
        self.capacity = self.used = self.head = 0
        self.first = 1
        self.appended_bytes = self.evicted_bytes = 0
        self.counted = 0
        self.lent = 0

    def __dealloc__(self):
        self.let_go()
        if self.total is not None:
            self.total.held -= self.counted  # and nothing is called from here

    def __len__(self):
        return self.used

    @property
    def allocated(self):
        """Bytes held now, slots included."""
        return self.size()

    @property
    def next(self):
        """The sequence number that the next frame gets."""
        return self.first + self.used

    cpdef append(self, bytes text, double entered):
        """Copy *text* into the ring; return its sequence number.  Copied, because what orjson.dumps returns keeps a
        block of 4 KB however short its text is."""
        cdef Py_ssize_t length
        cdef Py_ssize_t seq
        cdef Block* block
        cdef Slot* slot
        if text is None:
            raise TypeError("a frame is bytes, not None")
        length = PyBytes_GET_SIZE(text)
        if self.used == self.capacity:
            self.grow()
        block = block_for(&self.blocks, length)
        slot = self.slot(self.used)
        slot.text = put_text(block, PyBytes_AS_STRING(text), length)
        slot.length = length
        slot.block = block
        slot.entered = entered
        self.used += 1
        self.appended_bytes += length
        seq = self.first + self.used - 1
        if self.size() != self.counted:
            self.count()    # last: it may call
        return seq

    def read(self, Py_ssize_t seq, Py_ssize_t max_bytes):
        """Return ([frame, …], bytes of text) from *seq* on: as many as fit into *max_bytes*, but at least one if there
        is one.  Raises IndexError when *seq* is not between `first` and `next`."""
        cdef Batch batch = self.lend(seq, max_bytes)
        try:
            return list(batch), batch.text_bytes
        finally:
            self.take_back(batch)

    @cython.nonecheck(False)    # its batch is its own
    cdef Batch lend(self, Py_ssize_t seq, Py_ssize_t max_bytes):
        """Frames from *seq* on, as read() has them, but in place: until they are taken back none is let go."""
        cdef Py_ssize_t at = self.place(seq)
        cdef Batch batch = Batch.__new__(Batch, NO_FRAMES)
        cdef Slot* slot
        while at < self.used:
            slot = self.slot(at)
            if batch.text_bytes and batch.text_bytes + slot.length > max_bytes:
                break
            batch.put(slot.text, slot.length)
            at += 1
        self.lent += 1
        return batch

    cdef void take_back(self, Batch batch) noexcept:
        batch.count = batch.text_bytes = 0
        self.lent -= 1

    def entered(self, Py_ssize_t seq):
        """When the frame *seq* entered, in seconds.  Raises IndexError when it is not held."""
        cdef Py_ssize_t at = self.place(seq)
        if at == self.used:
            raise IndexError(f"frame {seq} is not there yet, the last is {self.first + self.used - 1}")
        return self.slot(at).entered

    def offset(self, Py_ssize_t seq):
        """How many bytes of text were ever appended before the frame *seq*.  Raises IndexError when it is not held."""
        cdef Py_ssize_t count = self.place(seq)
        cdef Py_ssize_t offset = self.evicted_bytes
        for at in range(count):
            offset += self.slot(at).length
        return offset

    def length(self, Py_ssize_t seq):
        """How many bytes the frame *seq* has.  Raises IndexError when it is not held."""
        cdef Py_ssize_t at = self.place(seq)
        if at == self.used:
            raise IndexError(f"frame {seq} is not there yet, the last is {self.first + self.used - 1}")
        return self.slot(at).length

    cpdef trim(self, Py_ssize_t seq, Py_ssize_t offset):
        """Let go of frames before *seq*, oldest first, until `evicted_bytes` reaches *offset*; return how many bytes
        that freed.  Raises IndexError when *seq* is not held, BufferError while frames are lent."""
        cdef Py_ssize_t before, count, most
        cdef Py_ssize_t evicted = self.evicted_bytes
        if evicted >= offset:
            return 0
        before = self.size()
        most = self.place(seq)
        count = 0
        while count < most and evicted < offset:
            evicted += self.slot(count).length
            count += 1
        self.drop(count)
        self.count()
        return before - self.size()

    cpdef clear(self):
        """Let go of everything, the slots included; return how many bytes that freed.  Raises BufferError while frames are lent."""
        cdef Py_ssize_t before = self.size()
        if self.lent:
            self.keep_lent()
        self.let_go()
        self.count()
        return before

    cpdef pack(self):
        """No frame follows: take no more memory than those need that are held; return how many bytes that freed.
        Frames that make more than the largest block stay where they are: it is little that they could give."""
        cdef Py_ssize_t before = self.size(), text = <Py_ssize_t>(self.appended_bytes - self.evicted_bytes)
        cdef Py_ssize_t capacity = 1
        if self.lent:
            self.keep_lent()
        if not self.used:
            return self.clear()
        if text <= MOST_BLOCK and text + <Py_ssize_t>sizeof(Block) < before - self.capacity * <Py_ssize_t>sizeof(Slot):
            self.move(new_block(&self.blocks, text))
        while capacity < self.used:
            capacity *= 2
        self.resize(capacity)  # without memory for that the slots stay as they are
        self.count()
        return before - self.size()

    cdef void move(self, Block* into) noexcept:
        """Lay the text of all frames into one block."""
        cdef Slot* slot
        cdef Block* block
        for at in range(self.used):
            slot = self.slot(at)
            block = slot.block
            slot.text = put_text(into, slot.text, slot.length)
            slot.block = into
            take_frame(&self.blocks, block)
        if self.blocks.open != NULL:  # it holds no frame
            free_block(&self.blocks, self.blocks.open)

    cdef int count(self) except -1:
        """Count into the total what was taken or given back since the last time."""
        cdef Py_ssize_t size = self.size(), change = size - self.counted
        if change and self.total is not None:
            self.counted = size
            self.total.add(change)
        return 0

    cdef int keep_lent(self) except -1:
        raise BufferError("frames that are being framed are not let go")

    cdef inline int drop(self, Py_ssize_t count) except -1:
        if self.lent:
            self.keep_lent()
        self.take(count)
        return 0

    cdef void let_go(self) noexcept:
        self.take(self.used)
        if self.blocks.open != NULL:
            free_block(&self.blocks, self.blocks.open)
        self.resize(0)

    cdef inline Py_ssize_t size(self) noexcept:
        return self.blocks.allocated + self.capacity * <Py_ssize_t>sizeof(Slot)

    cdef inline Slot* slot(self, Py_ssize_t place) noexcept:
        """The slot of the frame before which *place* others lie."""
        return &self.slots[(self.head + place) & (self.capacity - 1)]

    cdef inline Py_ssize_t place(self, Py_ssize_t seq) except -1:
        """How many frames lie before *seq*."""
        if not self.first <= seq <= self.first + self.used:
            self.not_held(seq)
        return <Py_ssize_t>(seq - self.first)

    cdef int not_held(self, Py_ssize_t seq) except -1:
        raise IndexError(f"frame {seq} is not held: there are {self.first} to {self.first + self.used - 1}")

    cdef void take(self, Py_ssize_t count) noexcept:
        """Let go of the oldest *count*, and of slots that are far too many."""
        cdef Slot* slot
        cdef Py_ssize_t capacity
        for _ in range(count):
            slot = &self.slots[self.head]
            self.evicted_bytes += slot.length
            take_frame(&self.blocks, slot.block)
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
        self.slots = slots
        self.capacity = capacity
        self.head = 0
        return True
