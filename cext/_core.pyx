"""fastmesh._core: the parts of the hot path that a profile asked to be C.

One extension out of several files: they see each other's C members without a
.pxd, which Cython would ignore in a folder that is no package.
"""

include "ring.pyx"
include "window.pyx"
include "frames.pyx"
