cdef class Reader:
    """One reader of a stream, as far as every delivery touches it: a position in the journal, and where its bytes go.

    What one delivery needs lies in one object, since with thousands of readers it
    is the memory that costs.  What happens seldom its subclass does: catching up
    with what was evicted, and windows.
    """

    cdef readonly Journal journal
    cdef readonly BackpressureHandler backpressure
    cdef readonly SentCounts counts
    cdef public object encoder
    cdef public object pipeline         # the stream: told what was read
    cdef public object dropping         # None: it is waited for, however slow it is
    cdef object _sink
    cdef Outlet outlet                  # the sink, where it is one
    cdef public long long next_seq      # the frames before it were written here, or named by a gap
    cdef public long long offset        # bytes of text before the position, ever
    cdef public long long gap_from      # the frames from here to the position were left out, untold; else 0
    cdef public long long sent_frames
    cdef public long long sent_bytes    # framed
    cdef public long long missed_frames # that a gap named
    cdef readonly double attached_at    # seconds
    cdef public double last_sent_at
    cdef long long told                 # of the journal's news
    cdef readonly bint returning        # it came with a position
    cdef public bint waited_for         # what it reads makes room
    cdef public bint held_back          # its window kept the stream from going on, since it last grew

    # *after* is the last frame that the reader has from before; None for one that is new.
    def __init__(self, pipeline, Journal journal not None, encoder, BackpressureHandler backpressure not None,
                 sink, SentCounts counts not None, dropping, after):
        self.pipeline = pipeline
        self.journal = journal
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
        self.waited_for = self.held_back = False
        self.told = 0

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
        return not self._sink.paused and self.next_seq < self.journal.ring.first + self.journal.ring.used

    def serve(self, Py_ssize_t max_bytes, bytes head not None=b""):
        """Write *head* and about *max_bytes* of what is unread, tell the stream of the room; return bytes written.

        The sink is told when there is more.
        """
        return self.deliver(max_bytes, head)

    cdef Py_ssize_t deliver(self, Py_ssize_t max_bytes, bytes head) except -1:
        cdef Journal journal = self.journal
        cdef RingBuffer ring = journal.ring
        cdef SentCounts counts = self.counts
        cdef long long seq, end, last
        cdef Py_ssize_t text, written
        cdef double now, waited
        cdef bint complete
        cdef bytes data
        if self.next_seq < ring.first or self.gap_from:
            head += self.catch_up()
        seq = self.next_seq
        last = ring.first + ring.used - 1
        if seq > last:
            return self.say(head)
        data = journal.frames(self.encoder, seq, max_bytes, &end, &text)
        self.next_seq = end
        self.offset += text
        now = self.last_sent_at = journal.clock()
        waited = self.backpressure.took(ring, seq, end, now)
        complete = end > last and journal.sealed
        if complete:
            data = head + data + self.encoder.end()
        elif head:
            data = head + data
        if self.told < journal.told and end > last and not journal.sealed:
            self.told = journal.told
            data += self.encoder.note(journal.news)
            self.pipeline.told(self, "progress")
        written = PyBytes_GET_SIZE(data)
        self.sent_bytes += written
        self.sent_frames += end - seq
        counts.bytes += written
        counts.results += end - seq
        counts.send_latency.observe(waited)
        if self.dropping is not None:
            self.dropping.sent(end - seq)
            if end > last:
                self.dropping.caught_up()
        if seq <= journal.last_other:
            self.pipeline.count_others(counts, seq, end)
        if self.waited_for:
            self.pipeline.read(self, seq, end)
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

    cdef Py_ssize_t say(self, bytes head) except -1:
        """Nothing is unread: write the *head* alone."""
        if head:
            self.sent_bytes += len(head)
            self.counts.bytes += len(head)
            self.write(head)
        if self.waited_for:
            self.pipeline.room()
        return len(head)

    cdef int write(self, bytes data) except -1:
        if self.outlet is not None:
            self.outlet.put(data)
        else:
            self._sink.write(data)
        return 0

    cdef int wake(self) except -1:
        if self.outlet is not None:
            self.outlet.enqueue()
        else:
            self._sink.ready()
        return 0


def wake(list readers not None):
    """There is something to read for all of *readers*."""
    cdef Reader reader
    for reader in readers:
        reader.wake()


def overdue(list readers not None, double now):
    """What waits for any of *readers* longer than it should counts as slow at *now*, in seconds."""
    cdef Reader reader
    cdef RingBuffer ring
    cdef long long seq
    for reader in readers:
        ring = reader.journal.ring
        seq = max(reader.next_seq, ring.first)
        if seq < ring.first + ring.used:
            reader.backpressure.wait(ring, seq, now)


def silent(list readers not None, double since):
    """Those of *readers* that have all there is, and heard nothing since *since*, in seconds."""
    cdef Reader reader
    cdef list found = []
    for reader in readers:
        if (reader.last_sent_at <= since and not reader.journal.sealed
                and reader.next_seq == reader.journal.ring.first + reader.journal.ring.used):
            found.append(reader)
    return found
