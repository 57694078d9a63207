@cython.final
cdef class Journal:
    """A stream's frames in order: gives each its number, serialises it once, keeps it.

    Readers are positions in the journal; what lies behind them is let go.  A frame's bytes exist once however many read
    it, and what was framed for one reader serves all that stand at the same place.  *clock* gives seconds; it stamps
    each frame's entry.
    """

    cdef readonly RingBuffer ring
    cdef readonly bytes stream_id
    cdef bytes first                    # the metadata, which is never let go; None while a packed ring has it
    cdef readonly bint sealed           # no frame follows
    cdef public Py_ssize_t last_other   # the last frame that is no result
    cdef readonly bytes news            # for each reader that has all there is; the newest only
    cdef readonly Py_ssize_t published  # how many there were
    cdef object clock
    cdef bint is_shared
    # What was framed last, and for whom it is right.
    cdef bytes framed
    cdef object framed_by
    cdef Py_ssize_t framed_seq, framed_last, framed_end
    cdef Py_ssize_t framed_max, framed_text

    def __cinit__(self, MemoryTotal total not None, clock, bytes stream_id not None):
        if not callable(clock):
            raise TypeError(f"want a clock to call, got {type(clock).__name__}")
        self.ring = RingBuffer(total)
        self.clock = clock
        self.stream_id = stream_id
        self.first = b""
        self.sealed = self.is_shared = False
        self.last_other = self.published = 0
        self.news = None
        self.framed = None

    @property
    def last_seq(self):
        """The number of the newest frame, 0 before the first."""
        return self.ring.first + self.ring.used - 1

    @property
    def shared(self):
        """Whether more than one reader is attached: then what is framed is kept for the next."""
        return self.is_shared

    @shared.setter
    def shared(self, bint shared):
        self.is_shared = shared
        self.framed = None

    @cython.nonecheck(False)
    cpdef append(self, dict event):
        """Number *event*, encode it, keep it; return its seq.

        The number is used up once the frame is there: an event that cannot be encoded leaves no hole.  Raises TypeError
        for such a one, RuntimeError for one whose encoding appends another.
        """
        cdef double now = self.clock()
        cdef Py_ssize_t seq = self.ring.first + self.ring.used
        cdef bytes text
        event["seq"] = seq
        text = dumps(event)
        if self.ring.first + self.ring.used != seq:
            raise RuntimeError(f"another frame was appended while {seq} was encoded")
        return self.ring.append(text, now)

    def begin(self, dict event not None):
        """Append the metadata, which is never let go."""
        self.append(event)
        (self.first,), _ = self.ring.read(1, 0)

    @property
    def metadata(self):
        """The first frame, which is never let go."""
        return self.ring.read(1, 0)[0][0] if self.first is None else self.first

    def publish(self, dict event not None):
        """From now on *event* is the news, which each reader gets once, as soon as it has read all."""
        self.news = dumps(event)
        self.published += 1

    def seal(self):
        """No frame follows: the newest is never evicted, so that every reader comes to an end."""
        self.sealed = True

    def pack(self):
        """Sealed, it is read seldom, if ever: take no more memory than the frames need."""
        self.news = self.framed = None
        if self.ring.first == 1 and self.ring.used:
            self.first = None
        self.ring.pack()

    cpdef trim(self, Py_ssize_t seq, Py_ssize_t offset):
        """Let go of frames before *seq*, oldest first, as long as their text ended before *offset*.  As pack() and
        close() it raises BufferError when it is called by an encoder that frames them."""
        if self.first is None and offset > 0:
            self.first = self.metadata
        self.ring.trim(self.kept(seq), offset)

    def close(self):
        """Let go of all."""
        self.ring.clear()
        self.framed = None

    cdef Py_ssize_t kept(self, Py_ssize_t seq) noexcept:
        cdef Py_ssize_t last = self.ring.first + self.ring.used - 1
        return last if self.sealed and last < seq else seq

    @cython.nonecheck(False)    # a journal has its ring from the first
    cdef bytes frames(self, object encoder, Py_ssize_t seq, Py_ssize_t max_bytes, Py_ssize_t* end, Py_ssize_t* text):
        """The frames from *seq* on as *encoder* frames them; *end* is the first after them, *text* their own bytes."""
        cdef RingBuffer ring
        cdef Py_ssize_t last = self.ring.first + self.ring.used - 1
        cdef bytes framed = self.framed
        cdef Batch batch
        if not (framed is not None and self.framed_seq == seq and self.framed_by is encoder
                and self.framed_last == last and self.framed_max == max_bytes):
            ring = self.ring
            batch = ring.lend(seq, max_bytes)
            end[0], text[0] = seq + batch.count, batch.text_bytes
            try:
                framed = encoder.frame(batch, self.stream_id, seq)
            finally:
                ring.take_back(batch)
            if framed is None:
                raise TypeError("an encoder frames bytes, not None")
            if self.is_shared:
                self.framed, self.framed_by = framed, encoder
                self.framed_seq, self.framed_last, self.framed_max = seq, last, max_bytes
                self.framed_end, self.framed_text = end[0], text[0]
        else:
            end[0], text[0] = self.framed_end, self.framed_text
        return framed
