"""fastmesh._core: the parts of the hot path that a profile asked to be C.

One extension out of several files: they see each other's C members without a
.pxd, which Cython would ignore in a folder that is no package.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from libc.string cimport memchr, memcmp, memcpy
from orjson import dumps

cdef class Outlet   # each knows the other
cdef class Pump

include "batch.pyx"
include "ring.pyx"
include "counts.pyx"
include "backpressure.pyx"
include "journal.pyx"
include "reader.pyx"
include "pump.pyx"
include "frames.pyx"
