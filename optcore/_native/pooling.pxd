# The drivers of pools and of dropout, for others that have checked their arguments.
from libc.stdint cimport int32_t, uint64_t

from optcore._native.c cimport oc_window

cdef struct pool:
    oc_window w         # of one image
    int dtype
    Py_ssize_t images

cdef void run_max_pool(const pool *p, const char *x, char *y, int32_t *argmax) noexcept nogil
cdef void run_max_pool_backward(const pool *p, const char *dy, const int32_t *argmax, char *dx) noexcept nogil
cdef void run_average_pool(const pool *p, const char *x, char *y) noexcept nogil
cdef void run_average_pool_backward(const pool *p, const char *dy, char *dx) noexcept nogil
