# The argument checks that the normalizations share, over those of arrays.pyx.
cimport numpy as cnp

cdef enum:
    LINE = 64  # bytes of a cache line
    # Bytes of all arrays that a pass touches from which what it writes would push out of a third-level cache what is read
    # again, or not be found there itself. The result then goes past the caches.
    CACHES = 20 << 20

cdef cnp.ndarray checked_values(object a, str name, int intent)  # x, y and their kin: float32, float64 or bfloat16
cdef cnp.ndarray like(object a, str name, cnp.ndarray x, int intent)  # an array of the dtype and shape of x
cdef cnp.ndarray input_like(object a, str name, cnp.ndarray x)     # an input of the dtype and shape of x
cdef cnp.ndarray output_like(object out, cnp.ndarray x)            # `out`, or a new array, like x
cdef cnp.ndarray parameter(object a, str name, tuple shape, str per)  # of either dtype; None stays None
cdef double *statistic(object a, str name, Py_ssize_t n) except NULL  # n values of a saved array of float64
cdef int apart(cnp.ndarray out, list read) except -1               # out overlaps none of [(name, array or None)]
cdef double real_number(object value, str name) except? -1         # no bool
cpdef cnp.ndarray float_array(object a, str name, bint written=*)    # float32 or float64, of any shape
cdef double at_least_zero(object value, str name) except? -1
cdef Py_ssize_t integer(object value, str name) except? -1        # no bool
# n values of a parameter of either dtype, in `dtype`; `otherwise` each where it is None.
cdef void copied(void *to, int dtype, cnp.ndarray a, double otherwise, Py_ssize_t n) noexcept
# A new array of this shape in the dtype of `like`, of x where that is None.
cdef cnp.ndarray stored(const double *values, cnp.ndarray like, object shape, cnp.ndarray x)
cdef double *doubles(cnp.ndarray a) noexcept
