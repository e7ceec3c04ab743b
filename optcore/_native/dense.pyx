"""What a dense layer needs beside its matrix products: the gradient of the bias, and arrays turned."""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdlib cimport free, malloc

from optcore._native.arrays cimport IN, OUT, checked, disjoint, dtype_of, has_size, same_dtype
from optcore._native.c cimport OC_F32, oc_column_sums_fn
from optcore._native.core cimport kernels
from optcore._native.threads cimport num_threads

cnp.import_array()

cdef enum:
    BLOCK = 16384  # elements of a block of rows


cdef void _tree(Py_ssize_t blocks, Py_ssize_t columns, double *sums) noexcept nogil:
    """Add the rows of sums[blocks][columns] pairwise into the first."""
    cdef Py_ssize_t step = 1, b, i
    while step < blocks:
        b = 0
        while b + step < blocks:
            for i in range(columns):
                sums[b * columns + i] = sums[b * columns + i] + sums[(b + step) * columns + i]
            b += 2 * step
        step *= 2


cdef Py_ssize_t _block_rows(Py_ssize_t columns) noexcept nogil:
    return max(<Py_ssize_t>1, BLOCK // max(<Py_ssize_t>1, columns))


cdef Py_ssize_t _blocks(Py_ssize_t n, Py_ssize_t columns) noexcept nogil:
    return max(<Py_ssize_t>1, (n + _block_rows(columns) - 1) // _block_rows(columns))


cdef Py_ssize_t sum_columns_room(Py_ssize_t n, Py_ssize_t columns) noexcept nogil:
    return _blocks(n, columns) * columns


cdef void sum_columns(int dtype, Py_ssize_t n, Py_ssize_t columns, const char *x, char *sums,
                      double *room) noexcept nogil:
    cdef oc_column_sums_fn *sums_of = kernels().column_sums[dtype]
    cdef Py_ssize_t rows = _block_rows(columns), blocks = _blocks(n, columns), b, i
    cdef Py_ssize_t row = columns * (4 if dtype == OC_F32 else 8)
    if blocks == 1:  # a parallel region, even of one thread, takes a quarter of a microsecond
        sums_of(n, columns, x, room)
    else:
        for b in prange(blocks, schedule="static", num_threads=num_threads(n * columns)):
            sums_of(min(rows, n - b * rows), columns, x + b * rows * row, room + b * columns)
        _tree(blocks, columns, room)
    for i in range(columns):
        if dtype == OC_F32:
            (<float *>sums)[i] = <float>room[i]
        else:
            (<double *>sums)[i] = room[i]


def column_sums(x, out):
    """Write the sum of each column: summed in double over fixed blocks of rows and a fixed tree over blocks.

    Parameters
    ----------
    x : ndarray [N, C], float32 or float64
    out : ndarray [C]
        Written, in the dtype of x; zeros for N = 0.

    Raises
    ------
    TypeError, ValueError
        An argument is not of that kind; see `optcore._native.arrays`.
    """
    cdef cnp.ndarray a = _matrix(x), s = checked(out, "out", OUT)
    cdef Py_ssize_t n = cnp.PyArray_DIM(a, 0), columns = cnp.PyArray_DIM(a, 1)
    same_dtype(s, "out", a, "x")
    has_size(s, "out", columns, "column")
    disjoint(s, "out", a, "x")
    if columns == 0:
        return
    cdef double *room = <double *>malloc(sum_columns_room(n, columns) * sizeof(double))
    if room == NULL:
        raise MemoryError("column_sums: no memory for the blocks' sums")
    cdef int dtype = dtype_of(a)
    with nogil:
        sum_columns(dtype, n, columns, cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(s), room)
        free(room)


cdef cnp.ndarray _matrix(object x):
    cdef cnp.ndarray a = checked(x, "x", IN)
    if cnp.PyArray_NDIM(a) != 2:
        raise ValueError(f"x: expected 2 dimensions, got shape {tuple((<object>a).shape)}")
    return a


def turned(x):
    """Return an array [C, N] with the columns of x [N, C], float32 or float64, as rows: a copy."""
    cdef cnp.ndarray a = _matrix(x)
    cdef cnp.npy_intp *shape = [cnp.PyArray_DIM(a, 1), cnp.PyArray_DIM(a, 0)]
    cdef cnp.ndarray out = cnp.PyArray_EMPTY(2, shape, cnp.PyArray_TYPE(a), 0)
    cdef int dtype = dtype_of(a)
    with nogil:
        kernels().turn[dtype](shape[1], shape[0], cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(out))
    return out
