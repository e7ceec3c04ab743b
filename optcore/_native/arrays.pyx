"""Argument checks of the compiled layer: nothing is copied, cast or repaired silently."""
cimport numpy as cnp
from optcore._native.c cimport OC_BF16, OC_F32, OC_F64

import numpy as np

cnp.import_array()


cdef str _describe(cnp.ndarray a):
    return f"{a.dtype} of shape {tuple((<object>a).shape)}"


cdef cnp.ndarray laid_out(object a, str name, int intent):
    if not cnp.PyArray_Check(a) or (not cnp.PyArray_CheckExact(a) and isinstance(a, (np.ma.MaskedArray, np.matrix))):
        raise TypeError(f"{name}: expected a NumPy array, got {type(a).__name__}")
    cdef cnp.ndarray x = <cnp.ndarray>a
    if not cnp.PyArray_ISNOTSWAPPED(x):
        raise TypeError(f"{name}: expected native byte order, got dtype {x.dtype.str}")
    if not cnp.PyArray_IS_C_CONTIGUOUS(x):
        raise ValueError(f"{name}: expected a C-contiguous array, got strides {(<object>x).strides} "
                         f"for {_describe(x)}")
    if not cnp.PyArray_ISALIGNED(x):
        raise ValueError(f"{name}: expected memory aligned to its elements, got {_describe(x)} at an odd address")
    if intent == OUT and not cnp.PyArray_ISWRITEABLE(x):
        raise ValueError(f"{name}: expected a writable array, got a read-only one")
    return x


cdef cnp.ndarray checked(object a, str name, int intent):
    cdef cnp.ndarray x
    if cnp.PyArray_Check(a):
        x = <cnp.ndarray>a
        if cnp.PyArray_TYPE(x) != cnp.NPY_FLOAT32 and cnp.PyArray_TYPE(x) != cnp.NPY_FLOAT64:
            raise TypeError(f"{name}: expected dtype float32 or float64, got {x.dtype}")
    return laid_out(a, name, intent)


cdef bint is_bf16(cnp.ndarray a) except -1:
    return cnp.PyArray_ITEMSIZE(a) == 2 and a.dtype.name == "bfloat16"  # of ml_dtypes, which need not be here


cdef cnp.ndarray checked_index(object a, str name):
    # long and long long are two types of NumPy, and on most platforms both int64.
    if cnp.PyArray_Check(a) and not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(<cnp.ndarray>a), cnp.NPY_INT64):
        raise TypeError(f"{name}: expected dtype int64, got {a.dtype}")
    return laid_out(a, name, IN)


cdef int dtype_of(cnp.ndarray a) noexcept:
    cdef int typenum = cnp.PyArray_TYPE(a)
    return OC_F32 if typenum == cnp.NPY_FLOAT32 else OC_F64 if typenum == cnp.NPY_FLOAT64 else OC_BF16


cdef int type_of_numbers(cnp.ndarray a) noexcept:
    return cnp.NPY_FLOAT64 if cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT64 else cnp.NPY_FLOAT32


cdef int same_dtype(cnp.ndarray a, str name, cnp.ndarray like, str like_name) except -1:
    if cnp.PyArray_TYPE(a) != cnp.PyArray_TYPE(like):
        raise TypeError(f"{name}: expected the dtype of {like_name}, {like.dtype}, got {a.dtype}")
    return 0


cdef int same_shape(cnp.ndarray a, str name, cnp.ndarray like, str like_name) except -1:
    if not cnp.PyArray_SAMESHAPE(a, like):
        raise ValueError(f"{name}: expected the shape of {like_name}, {tuple((<object>like).shape)}, "
                         f"got {tuple((<object>a).shape)}")
    return 0


cdef int has_size(cnp.ndarray a, str name, Py_ssize_t n, str what) except -1:
    if cnp.PyArray_NDIM(a) != 1 or cnp.PyArray_DIM(a, 0) != n:
        raise ValueError(f"{name}: expected shape ({n},), one value per {what}, got {tuple((<object>a).shape)}")
    return 0


cdef bint overlap(cnp.ndarray a, cnp.ndarray b) noexcept:
    cdef char *x = <char *>cnp.PyArray_DATA(a)
    cdef char *y = <char *>cnp.PyArray_DATA(b)
    cdef Py_ssize_t n = cnp.PyArray_NBYTES(a), m = cnp.PyArray_NBYTES(b)
    return n and m and x < y + m and y < x + n


cdef int disjoint(cnp.ndarray a, str name, cnp.ndarray b, str other) except -1:
    if overlap(a, b):
        raise ValueError(f"{name}: expected memory of its own, got an array that overlaps {other}")
    return 0
