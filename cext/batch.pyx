cdef enum:
    FEW_TEXTS = 32      # at first

cdef list NO_FRAMES = []


cdef struct Text:
    const char* at
    Py_ssize_t length


@cython.final
cdef class Batch:
    """Frames in a row, wherever they lie: what is framed in one go.

    Made of a list of bytes it keeps them alive.  One that a ring lends is right while it is framed and empty
    afterwards; Python sees its frames as bytes, each made when it is asked for.
    """

    cdef Text* texts
    cdef Py_ssize_t room
    cdef Py_ssize_t count
    cdef readonly Py_ssize_t text_bytes
    cdef tuple owner                    # not the list: that may change

    def __cinit__(self, list frames not None):
        cdef bytes frame
        self.texts = NULL
        self.room = self.count = self.text_bytes = 0
        if not frames:
            return
        self.owner = tuple(frames)
        for frame in self.owner:
            if frame is None:
                raise TypeError("a frame is bytes, not None")
            self.put(PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame))

    def __dealloc__(self):
        PyMem_Free(self.texts)

    def __len__(self):
        return self.count

    def __iter__(self):
        return iter([PyBytes_FromStringAndSize(self.texts[at].at, self.texts[at].length) for at in range(self.count)])

    cdef int put(self, const char* text, Py_ssize_t length) except -1:
        cdef Py_ssize_t room
        cdef Text* texts
        if self.count == self.room:
            room = self.room * 2 if self.room else FEW_TEXTS
            texts = <Text*>PyMem_Realloc(self.texts, room * sizeof(Text))
            if texts == NULL:
                raise MemoryError(f"no room for a batch of {room} frames")
            self.texts, self.room = texts, room
        self.texts[self.count].at = text
        self.texts[self.count].length = length
        self.count += 1
        self.text_bytes += length
        return 0
