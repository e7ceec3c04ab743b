# The driver of the penalties, for others that have checked their arguments.
cimport numpy as cnp
from libc.stdint cimport int64_t

cdef struct penalty_call:
    double l1, l2
    Py_ssize_t n, n_blocks      # weights, and the blocks that they are cut into
    const int64_t *blocks       # (begin in theta, elements) of each

cdef class Penalty:
    cdef penalty_call call
    cdef cnp.ndarray blocks     # held: the call points into it

cpdef list blocks_of(spans)
# Adds the gradient to `grad` unless that is NULL; `room` has a double for each block.
cdef double run_penalty(const penalty_call *p, int dtype, const char *theta, char *grad, double *room) noexcept nogil
