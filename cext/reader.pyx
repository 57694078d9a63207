@cython.trashcan(True)
cdef class Reader:
    """One reader of a stream, as far as every delivery touches it: a position in the journal, and where its bytes go.

    What one delivery needs lies in one object, since with thousands of readers it is the memory that costs.  What
    happens seldom its subclass does, in methods that raise NotImplementedError here.
    """

    cdef readonly Journal journal
    cdef readonly BackpressureHandler backpressure
    cdef readonly SentCounts counts
    cdef public object encoder
    cdef public object pipeline         # the stream, a Source: is called for what was read
    cdef public object dropping         # None: it is waited for, however slow it is
    cdef object _sink
    cdef Outlet outlet                  # the sink, where it is one
    cdef public Py_ssize_t next_seq     # the frames before it were written here, or named by a gap
    cdef public Py_ssize_t offset       # bytes of text before the position, ever
    cdef public Py_ssize_t gap_from     # the frames from here to the position were left out, and no gap has named them; else 0
    cdef public Py_ssize_t sent_frames
    cdef public Py_ssize_t sent_bytes   # framed
    cdef public Py_ssize_t missed_frames # that a gap named
    cdef readonly double attached_at    # seconds
    cdef public double last_sent_at
    cdef Py_ssize_t news_seen           # of what the journal published
    cdef readonly bint returning        # it came with a position
    cdef public bint waited_for         # what it reads makes room
    cdef public bint loading            # what comes next is on its way from the store: nothing is written before
    cdef public bint held_back          # its window kept the stream from going on, since it last grew

    # *after* is the last frame that the reader has from before; None for one that is new.
    def __init__(self, pipeline, Journal journal not None, encoder, BackpressureHandler backpressure not None,
                 sink, SentCounts counts not None, dropping, after):
        if self.journal is not None:
            raise RuntimeError("a reader begins once")
        if after is not None and after < 0:
            raise ValueError(f"want a frame's number to go on after, got {after}")
        self.pipeline = pipeline
        self.encoder = encoder
        self.backpressure = backpressure
        self.counts = counts
        self.dropping = dropping
        self.sink = sink
        self.returning = after is not None
        self.next_seq = (after or 0) + 1
        self.offset = journal.ring.offset(max(self.next_seq, journal.ring.first))
        self.gap_from = self.sent_frames = self.sent_bytes = self.missed_frames = 0
        self.attached_at = self.last_sent_at = journal.clock()
        self.waited_for = self.held_back = self.loading = False
        self.news_seen = 0
        self.journal = journal  # last: who has one has all

    @property
    def sink(self):
        """Where its bytes go."""
        return self._sink

    @sink.setter
    def sink(self, sink):
        self._sink = sink
        self.outlet = sink if isinstance(sink, Outlet) else None

    @property
    def unread_frames(self):
        """Frames in the journal that the sink has not taken."""
        return self.journal.ring.first + self.journal.ring.used - self.next_seq

    @property
    def unread_bytes(self):
        """Their text."""
        return self.journal.ring.appended_bytes - self.offset

    @property
    def wants_service(self):
        """Whether serving it would write something."""
        return not self.loading and not self._sink.paused and self.next_seq < self.journal.ring.first + self.journal.ring.used

    def serve(self, Py_ssize_t max_bytes, bytes head not None=b""):
        """Write *head* and about *max_bytes* of what is unread; return bytes written.

        The stream is called for the room that this makes, the sink when there is more.  Raises RuntimeError when
        what is called from here serves the reader, too.
        """
        return self.deliver(max_bytes, head)

    @cython.final
    @cython.nonecheck(False)
    cdef Py_ssize_t deliver(self, Py_ssize_t max_bytes, bytes head) except -1:
        cdef Journal journal = self.journal
        cdef Py_ssize_t seq, end, last, sent
        cdef Py_ssize_t text, written
        cdef double now, waited
        cdef bint complete
        cdef bytes data
        if journal is None:
            raise TypeError("a reader that never began")
        cdef RingBuffer ring = journal.ring
        cdef SentCounts counts = self.counts
        seq = self.next_seq
        if seq < ring.first or self.gap_from:
            data = None if self.loading else self.catch_up()
            if data is None:
                return self.say(head)
            head += data
            if seq < self.next_seq < ring.first:    # the rest takes another turn
                written = self.say(head)
                self.wake()
                return written
            seq = self.next_seq
        if seq >= ring.first + ring.used:
            return self.say(head)
        sent = self.sent_frames
        data = journal.frames(self.encoder, seq, max_bytes, &end, &text)
        if self.sent_frames != sent:
            return self.served_again()
        last = ring.first + ring.used - 1
        self.next_seq = end
        self.offset += text
        now = self.last_sent_at = journal.clock()
        waited = self.backpressure.took(ring, seq, end, now)
        complete = end > last and journal.sealed
        if complete:
            data = head + data + self.encoder.end()
        elif head:
            data = head + data
        if self.news_seen < journal.published and end > last and not journal.sealed:
            self.news_seen = journal.published
            data += self.encoder.note(journal.news)
            self.count_news()
        written = PyBytes_GET_SIZE(data)
        self.sent_bytes += written
        sent += end - seq
        self.sent_frames = sent
        counts.bytes += written
        counts.results += end - seq
        counts.send_latency.enter(waited)
        if self.dropping is not None:
            self.dropping.sent(end - seq)
            if end > last:
                self.dropping.caught_up()
        if seq <= journal.last_other:
            self.count_others(seq, end)
        if self.waited_for:
            self.pipeline.read(seq, end, self.offset)
        if self.sent_frames != sent:
            return self.served_again()
        self.write(data)
        if complete:
            self._sink.end()
            return written
        if self.waited_for:
            if self.held_back and end > last and not self._sink.paused:
                self.grow()
            self.pipeline.room()
        if self.next_seq < ring.first + ring.used:
            self.wake()
        return written

    # ── what happens seldom, in Python ───────────────────────────────────────────────────

    def catch_up(self):
        """What comes next was evicted or left out: move on; return what that makes to write.  None: it is `loading`,
        and the sink is made ready when it can go on."""
        raise NotImplementedError("catch_up")

    def grow(self):
        """All was read, and the window is what held the stream back."""
        raise NotImplementedError("grow")

    def count_others(self, Py_ssize_t seq, Py_ssize_t end):
        """Frames from *seq* to *end* (excluded) were written and counted as results; some of them are none."""
        raise NotImplementedError("count_others")

    def count_news(self):
        """The journal's news were written."""
        raise NotImplementedError("count_news")

    # ── the rest of a delivery ───────────────────────────────────────────────────────────

    @cython.final
    cdef Py_ssize_t served_again(self) except -1:
        raise RuntimeError("a reader was served by whom it called: its frames would be out of order")

    @cython.final
    cdef Py_ssize_t say(self, bytes head) except -1:
        """Nothing is unread: write the *head* alone."""
        if head:
            self.sent_bytes += len(head)
            self.counts.bytes += len(head)
            self.write(head)
        if self.waited_for:
            self.pipeline.room()
        return len(head)

    @cython.final
    @cython.nonecheck(False)
    cdef inline int write(self, bytes data) except -1:
        cdef Outlet outlet = self.outlet    # who is called may let go of it
        if outlet is not None:
            outlet.put(data)
        else:
            self._sink.write(data)
        return 0

    @cython.final
    @cython.nonecheck(False)
    cdef inline int wake(self) except -1:
        cdef Outlet outlet = self.outlet
        if self.loading:
            return 0
        if outlet is not None:
            outlet.enqueue()
        else:
            self._sink.ready()
        return 0


@cython.nonecheck(False)
def wake(list readers not None):
    """There is something to read for all of *readers*.  Each is made ready, whoever leaves or raises meanwhile; what
    the first raised is raised in the end."""
    cdef Reader reader
    cdef Py_ssize_t at = 0
    cdef bint copied = False
    try:
        while at < len(readers):
            reader = readers[at]
            at += 1
            if reader is None:
                raise TypeError("want readers, got None")
            if reader.outlet is None and not copied:    # an outlet is queued; another sink is called and may leave
                readers, copied = readers[:], True
            reader.wake()
    finally:
        if at < len(readers):
            wake_rest(readers[at:])


cdef wake_rest(list readers):
    """One raised, and that error is raised in the end: of the others' none is."""
    cdef Reader reader
    for reader in readers:
        try:
            reader.wake()
        except Exception:
            pass


def overdue(list readers not None, double now):
    """What waits for any of *readers* longer than it should counts as slow at *now*, in seconds."""
    cdef Reader reader
    cdef RingBuffer ring
    cdef Py_ssize_t seq
    for reader in readers:
        ring = reader.journal.ring
        seq = max(reader.next_seq, ring.first)
        if not reader.loading and seq < ring.first + ring.used:
            reader.backpressure.wait(ring, seq, now)


def silent(list readers not None, double since):
    """Those of *readers* that wait for the stream or for what is loaded, and heard nothing since *since*, in seconds."""
    cdef Reader reader
    cdef list found = []
    for reader in readers:
        if reader.last_sent_at <= since and (reader.loading or (not reader.journal.sealed
                and reader.next_seq == reader.journal.ring.first + reader.journal.ring.used)):
            found.append(reader)
    return found
