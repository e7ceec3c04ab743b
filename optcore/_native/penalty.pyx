"""L1 and L2 penalties of the weights among the parameters: value, gradient, Hessian-vector product."""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdint cimport int64_t

from optcore._native.arrays cimport IN, OUT, checked, dtype_of, same_dtype, same_shape
from optcore._native.c cimport OC_BLOCK, OC_F32
from optcore._native.core cimport kernels, tree_sum
from optcore._native.threads cimport num_threads

import numpy as np

cnp.import_array()


cpdef list blocks_of(spans):
    """(begin, elements) of each block of the spans (start, stop) of theta."""
    return [(i, min(<Py_ssize_t>OC_BLOCK, stop - i)) for start, stop in spans for i in range(start, stop, OC_BLOCK)]


cdef double run_penalty(const penalty_call *p, int dtype, const char *theta, char *grad, double *room) noexcept nogil:
    cdef Py_ssize_t b, at, item = 4 if dtype == OC_F32 else 8
    for b in prange(p.n_blocks, schedule="static", num_threads=num_threads(p.n)):
        at = p.blocks[2 * b] * item
        room[b] = kernels().penalty[dtype](p.blocks[2 * b + 1], p.l1, p.l2, theta + at,
                                           NULL if grad == NULL else grad + at)
    return tree_sum(p.n_blocks, room)


cdef double _run(const penalty_call *p, cnp.ndarray theta, cnp.ndarray grad):
    cdef cnp.ndarray room = np.empty(p.n_blocks)
    cdef char *g = NULL if grad is None else cnp.PyArray_BYTES(grad)
    cdef int dtype = dtype_of(theta)
    cdef double value
    with nogil:
        value = run_penalty(p, dtype, cnp.PyArray_BYTES(theta), g, <double *>cnp.PyArray_DATA(room))
    return value


cdef class Penalty:
    """The sum of l1*|w| + l2*w^2/2 over the elements of theta within ``spans``, a sequence of (start, stop).

    Immutable: several threads may work with one. Arrays that are shorter than the spans reach are not recognised:
    `optcore.nn` has checked them.
    """

    def __init__(self, spans, double l1, double l2):
        self.blocks = np.array(blocks_of(spans), np.int64).reshape(-1, 2)
        self.call.l1, self.call.l2 = l1, l2
        self.call.n, self.call.n_blocks = int(self.blocks[:, 1].sum()), len(self.blocks)
        self.call.blocks = <const int64_t *>cnp.PyArray_DATA(self.blocks)

    def value(self, theta):
        """Return the penalty at theta, in double."""
        return _run(&self.call, checked(theta, "theta", IN), None)

    def add_gradient(self, theta, grad):
        """Return the penalty at theta after adding its gradient to ``grad``."""
        cdef cnp.ndarray t = checked(theta, "theta", IN), g = checked(grad, "grad", OUT)
        same_dtype(g, "grad", t, "theta")
        same_shape(g, "grad", t, "theta")
        return _run(&self.call, t, g)

    def add_product(self, v, out):
        """Add the Hessian times v to ``out``: l2*v, for l1*|w| has no curvature away from 0."""
        cdef cnp.ndarray d = checked(v, "v", IN), o = checked(out, "out", OUT)
        cdef penalty_call squares = self.call
        same_dtype(o, "out", d, "v")
        same_shape(o, "out", d, "v")
        squares.l1 = 0
        _run(&squares, d, o)
