cdef extern from *:
    """
    #ifdef __GLIBC__
    #include <malloc.h>
    #else
    #define malloc_trim(keep) 0
    #define mallopt(what, value) 0
    #define M_MMAP_THRESHOLD 0
    #endif
    """
    int malloc_trim(size_t keep)
    int mallopt(int what, int value)
    int M_MMAP_THRESHOLD


def keep_large_apart():
    """From now on what has 128 KiB or more is taken from the system by itself, and goes back when it is freed.

    glibc begins so, but raises the size whenever such a piece is freed, up to 32 MiB: after one large page
    all others lie among small things, which keep their memory.
    """
    mallopt(M_MMAP_THRESHOLD, 1 << 17)


def give_back():
    """Freed memory goes back to the system; the allocator by itself keeps it when anything above it is still used."""
    malloc_trim(0)


@cython.final
cdef class MemoryTotal:
    """How many bytes all rings hold, as allocated.

    It only counts, so that whoever takes or lets go is never called back in the middle of that.  What follows from the
    count happens in a turn of the loop of its own: *react* is handed to *call_soon* when the count reaches `alarm`,
    which is *bound* again as soon as there is room, or falls below the bound while that is `awaited`.
    """

    cdef readonly Py_ssize_t held
    cdef readonly Py_ssize_t bound
    cdef public Py_ssize_t alarm
    cdef public bint awaited
    cdef bint scheduled
    cdef object call_soon, react

    def __cinit__(self, Py_ssize_t bound, call_soon, react):
        if not (callable(call_soon) and callable(react)):
            raise TypeError(f"want two to call, got {type(call_soon).__name__} and {type(react).__name__}")
        self.held = 0
        self.bound = self.alarm = bound
        self.call_soon, self.react = call_soon, react
        self.awaited = self.scheduled = False

    cpdef add(self, Py_ssize_t count):
        """*count* bytes more are held, or less."""
        self.held += count
        if count > 0:
            if self.held >= self.alarm:
                self.look_soon()
        elif self.held < self.bound:
            self.alarm = self.bound
            if self.awaited:
                self.look_soon()

    cpdef look_soon(self):
        """Have *react* called in a turn of its own, once however often this is said before."""
        cdef bint asked = False
        if self.scheduled:
            return
        self.scheduled = True   # before: it may be called at once
        try:
            self.call_soon(self.look)
            asked = True
        finally:
            if not asked:
                self.scheduled = False

    def look(self):
        """That turn."""
        self.scheduled = False
        self.react()
