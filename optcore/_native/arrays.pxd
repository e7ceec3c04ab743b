# The argument checks: every array that a user passes goes through these before the GIL is released.
cimport numpy as cnp

cdef enum:
    IN = 0   # read
    OUT = 1  # written (OUT, INOUT)

# The array itself, never a copy. TypeError: not an ndarray, not float32/float64 of native byte order.
# ValueError: not C-contiguous or aligned; OUT and read-only.
cdef cnp.ndarray checked(object a, str name, int intent)
# The same of any dtype of native byte order.
cdef cnp.ndarray laid_out(object a, str name, int intent)
# The same for an int64 index array.
cdef cnp.ndarray checked_index(object a, str name)
cdef bint is_bf16(cnp.ndarray a) except -1
cdef int dtype_of(cnp.ndarray a) noexcept          # OC_F32 or OC_F64 of an array that `checked` has passed; OC_BF16 of another
cdef int type_of_numbers(cnp.ndarray a) noexcept   # NPY_FLOAT64 or NPY_FLOAT32: what is computed with
cdef int same_dtype(cnp.ndarray a, str name, cnp.ndarray like, str like_name) except -1
cdef int same_shape(cnp.ndarray a, str name, cnp.ndarray like, str like_name) except -1
cdef int has_size(cnp.ndarray a, str name, Py_ssize_t n, str what) except -1
cdef bint overlap(cnp.ndarray a, cnp.ndarray b) noexcept
cdef int disjoint(cnp.ndarray a, str name, cnp.ndarray b, str other) except -1
