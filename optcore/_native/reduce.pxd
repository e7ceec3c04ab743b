# How a sum of squares in double is kept from overflow and underflow, for one array or many.
# Whether a plain sum of squares lost nothing that could be seen in it.
cdef bint squares_are_safe(double squares) noexcept nogil
# The power of two by which to multiply before squaring; `largest` is the largest magnitude, positive and finite.
cdef double square_scale(double largest) noexcept nogil
# The 2-norm of an array of n elements of the dtype; `partial` holds the sum of squares of each of its blocks of
# OC_BLOCK, and is overwritten.
cdef double norm_of_blocks(int dtype, Py_ssize_t n, const char *x, double *partial) noexcept nogil
