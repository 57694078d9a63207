"""fastmesh._core: the parts of the hot path that a profile asked to be C.

One extension out of several files: they see each other's C members without a
.pxd, which Cython would ignore in a folder that is no package.

What keeps it from crashing, whoever calls it with whatever, from wherever:

- Numbers are Py_ssize_t: what is no integer is refused, where a `Py_ssize_t` would take 1.5 for 1.
- A typed argument or member may be None, for all that C knows.  The compiler checks each use (setup.py); a
  function that is `nonecheck(False)` says by itself what cannot be None.
- Whoever is called from here may do anything: evict, close, detach, call back in.  So the caller holds a
  reference of its own to each object whose C method it calls, state is right before each call, and frames that
  are handed out by pointer are lent: their ring lets none go until they are back.
- Pointers last as long as one call: a Batch of a ring's is empty when that returns or raises.

tests/core/test_hostile.py tries all that the stub names.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.string cimport memchr, memcmp, memcpy
from orjson import dumps

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX

cdef class Outlet   # each knows the other
cdef class Pump

include "batch.pyx"
include "total.pyx"
include "blocks.pyx"
include "ring.pyx"
include "counts.pyx"
include "backpressure.pyx"
include "journal.pyx"
include "reader.pyx"
include "pump.pyx"
include "frames.pyx"
