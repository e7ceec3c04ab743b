# The driver of dropout, for others that have checked their arguments.
from libc.stdint cimport int32_t, int64_t, uint64_t

cdef struct dropout_call:
    int dtype
    Py_ssize_t n        # elements
    int32_t drop        # as in oc_dropout_fn, as the two after it
    double scale
    uint64_t key

# A call whose random numbers are a function of seed and step.
cdef dropout_call dropout_at(int dtype, Py_ssize_t n, double p, int64_t seed, int64_t step) noexcept nogil
cdef void run_dropout(const dropout_call *c, const char *x, char *y) noexcept nogil  # y may be x
