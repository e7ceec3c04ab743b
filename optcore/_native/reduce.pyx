"""Reductions of contiguous arrays: fixed blocks, double partial results, a fixed tree; and projections on rows."""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport INFINITY, frexp, ldexp, sqrt
from libc.string cimport memcpy

from optcore._native.arrays cimport IN, OUT, checked, disjoint, dtype_of, same_dtype, same_shape
from optcore._native.c cimport OC_BLOCK, OC_F32, oc_reduce_kernels
from optcore._native.core cimport kernels, tree_sum
from optcore._native.threads cimport num_threads

cnp.import_array()

cdef enum Reduction:
    SUM_SQUARES
    DOT
    ABS_MAX
    COUNT_NONFINITE


cdef cnp.ndarray _blocks(Reduction what, cnp.ndarray a, cnp.ndarray other):
    """The reduction of each block of OC_BLOCK elements."""
    cdef Py_ssize_t n = cnp.PyArray_SIZE(a), step = OC_BLOCK * cnp.PyArray_ITEMSIZE(a), b, m
    cdef const oc_reduce_kernels *k = &kernels().reduce[dtype_of(a)]
    cdef const char *x = <const char *>cnp.PyArray_DATA(a)
    cdef const char *y = <const char *>cnp.PyArray_DATA(other)
    cdef cnp.npy_intp n_blocks = (n + OC_BLOCK - 1) // OC_BLOCK
    cdef cnp.ndarray partial = cnp.PyArray_EMPTY(1, &n_blocks, cnp.NPY_FLOAT64, 0)
    cdef double *part = <double *>cnp.PyArray_DATA(partial)
    for b in prange(n_blocks, nogil=True, schedule="static", num_threads=num_threads(n)):
        m = min(<Py_ssize_t>OC_BLOCK, n - b * OC_BLOCK)
        if what == SUM_SQUARES:
            part[b] = k.sum_squares(m, x + b * step, 1.0)
        elif what == DOT:
            part[b] = k.dot(m, x + b * step, y + b * step)
        elif what == ABS_MAX:
            part[b] = k.abs_max(m, x + b * step)
        else:
            part[b] = <double>k.count_nonfinite(m, x + b * step)
    return partial


cdef double _reduce(Reduction what, cnp.ndarray a, cnp.ndarray other) except? -1:
    cdef cnp.ndarray partial = _blocks(what, a, other)
    cdef Py_ssize_t n_blocks = cnp.PyArray_SIZE(partial), b
    cdef double *part = <double *>cnp.PyArray_DATA(partial)
    cdef double largest = 0
    if what != ABS_MAX:
        return tree_sum(n_blocks, part)
    for b in range(n_blocks):
        if part[b] != part[b]:
            return part[b]
        largest = max(largest, part[b])
    return largest


cdef bint squares_are_safe(double squares) noexcept nogil:
    # Above that bound, about 2^-900, the squares that underflowed are too small to be seen in the sum.
    return 1.2e-271 <= squares < INFINITY


cdef double square_scale(double largest) noexcept nogil:
    cdef int exponent
    frexp(largest, &exponent)
    return ldexp(1.0, -max(-1000, min(1000, exponent)))  # exact, and it and its inverse are finite


cdef double norm_of_blocks(int dtype, Py_ssize_t n, const char *x, double *partial) noexcept nogil:
    cdef const oc_reduce_kernels *k = &kernels().reduce[dtype]
    cdef Py_ssize_t n_blocks = (n + OC_BLOCK - 1) // OC_BLOCK, b
    cdef size_t itemsize = sizeof(float) if dtype == OC_F32 else sizeof(double)
    cdef double plain = tree_sum(n_blocks, partial), largest, scale
    if squares_are_safe(plain):
        return sqrt(plain)
    largest = k.abs_max(n, x)
    if not 0 < largest < INFINITY:
        return largest
    scale = square_scale(largest)
    for b in range(n_blocks):
        partial[b] = k.sum_squares(min(<Py_ssize_t>OC_BLOCK, n - b * OC_BLOCK), x + b * OC_BLOCK * itemsize, scale)
    return sqrt(tree_sum(n_blocks, partial)) / scale


def sum_squares(x):
    """Sum of x_i^2, in double."""
    cdef cnp.ndarray a = checked(x, "x", IN)
    return _reduce(SUM_SQUARES, a, a)


def norm(x):
    """2-norm of x as a flat vector, in double; neither overflows nor underflows on the way."""
    cdef cnp.ndarray a = checked(x, "x", IN)
    cdef cnp.ndarray partial = _blocks(SUM_SQUARES, a, a)
    return norm_of_blocks(dtype_of(a), cnp.PyArray_SIZE(a), cnp.PyArray_BYTES(a), <double *>cnp.PyArray_DATA(partial))


def dot(x, y):
    """Sum of x_i y_i, in double, of two arrays of one shape and dtype."""
    cdef cnp.ndarray a = checked(x, "x", IN), b = checked(y, "y", IN)
    same_dtype(b, "y", a, "x")
    same_shape(b, "y", a, "x")
    return _reduce(DOT, a, b)


def abs_max(x):
    """Largest |x_i|; 0 for an empty array, NaN if any is NaN."""
    cdef cnp.ndarray a = checked(x, "x", IN)
    return _reduce(ABS_MAX, a, a)


def count_nonfinite(x):
    """Number of elements that are NaN or infinite."""
    cdef cnp.ndarray a = checked(x, "x", IN)
    return int(_reduce(COUNT_NONFINITE, a, a))


cdef cnp.ndarray _rows(object rows, cnp.ndarray x, str name, int ndim):
    cdef cnp.ndarray a = checked(rows, "rows", IN)
    same_dtype(a, "rows", x, name)
    if cnp.PyArray_NDIM(x) != ndim:
        raise ValueError(f"{name}: expected {ndim} dimensions, got shape {tuple((<object>x).shape)}")
    if cnp.PyArray_NDIM(a) != 2 or cnp.PyArray_DIM(a, 1) != cnp.PyArray_DIM(x, ndim - 1):
        raise ValueError(f"rows: expected shape (rows, {cnp.PyArray_DIM(x, ndim - 1)}) for {name} of shape "
                         f"{tuple((<object>x).shape)}, got {tuple((<object>a).shape)}")
    return a


cdef const double *_factors(object factors, tuple shape) except? NULL:
    cdef cnp.ndarray f = checked(factors, "factors", IN)
    if cnp.PyArray_TYPE(f) != cnp.NPY_FLOAT64:
        raise TypeError(f"factors: expected float64, got {(<object>f).dtype}")
    if tuple((<object>f).shape) != shape:
        raise ValueError(f"factors: expected shape {shape}, one value per row, got {tuple((<object>f).shape)}")
    return <const double *>cnp.PyArray_DATA(f)


cdef cnp.ndarray _row_sums(cnp.ndarray partial):
    """The sum of each row of what the blocks gave, as a tree."""
    cdef cnp.npy_intp *shape = cnp.PyArray_DIMS(partial)
    cdef cnp.ndarray result = cnp.PyArray_EMPTY(1, shape, cnp.NPY_FLOAT64, 0)
    cdef double *part = <double *>cnp.PyArray_DATA(partial)
    cdef double *to = <double *>cnp.PyArray_DATA(result)
    cdef Py_ssize_t i
    for i in range(shape[0]):
        to[i] = tree_sum(shape[1], part + i * shape[1])
    return result


def components(rows, x):
    """``rows @ x`` in double, rows [m, n]: a block of x is read once for all rows."""
    cdef cnp.ndarray v = checked(x, "x", IN)
    cdef cnp.ndarray a = _rows(rows, v, "x", 1)
    cdef Py_ssize_t m = cnp.PyArray_DIM(a, 0), n = cnp.PyArray_DIM(a, 1), item = cnp.PyArray_ITEMSIZE(a), b, size
    cdef Py_ssize_t n_blocks = (n + OC_BLOCK - 1) // OC_BLOCK
    cdef cnp.npy_intp *shape = [m, n_blocks]
    cdef cnp.ndarray partial = cnp.PyArray_EMPTY(2, shape, cnp.NPY_FLOAT64, 0)
    cdef double *part = <double *>cnp.PyArray_DATA(partial)
    cdef const char *p = cnp.PyArray_BYTES(a)
    cdef const char *q = cnp.PyArray_BYTES(v)
    cdef const oc_reduce_kernels *k = &kernels().reduce[dtype_of(a)]
    for b in prange(n_blocks, nogil=True, schedule="static", num_threads=num_threads(m * n)):
        size = min(<Py_ssize_t>OC_BLOCK, n - b * OC_BLOCK)
        k.dots(size, m, n, p + b * OC_BLOCK * item, q + b * OC_BLOCK * item, n_blocks, part + b)
    return _row_sums(partial)


def subtract_rows(rows, factors, x):
    """``x -= factors @ rows`` in place, rows [m, n] one after the other; factors [m] float64, rounded to x's dtype."""
    cdef cnp.ndarray v = checked(x, "x", OUT)
    cdef cnp.ndarray a = _rows(rows, v, "x", 1)
    cdef Py_ssize_t m = cnp.PyArray_DIM(a, 0), n = cnp.PyArray_DIM(a, 1), item = cnp.PyArray_ITEMSIZE(a), b, size
    cdef const double *factor = _factors(factors, (m,))
    disjoint(v, "x", a, "rows")
    cdef const char *p = cnp.PyArray_BYTES(a)
    cdef char *q = cnp.PyArray_BYTES(v)
    cdef const oc_reduce_kernels *k = &kernels().reduce[dtype_of(a)]
    for b in prange((n + OC_BLOCK - 1) // OC_BLOCK, nogil=True, schedule="static", num_threads=num_threads(m * n)):
        size = min(<Py_ssize_t>OC_BLOCK, n - b * OC_BLOCK)
        k.subtract(size, m, n, factor, p + b * OC_BLOCK * item, q + b * OC_BLOCK * item)


def recur(rows, double beta, product, x):
    """Write ``product - beta rows[0] - alpha rows[1]`` to x, alpha = dot(rows[1], product); return alpha and x's norm.

    rows [2, n], or [1, n] for no row before the last; product [at most n]: the rest of x stays as it is.
    """
    cdef cnp.ndarray v = checked(x, "x", OUT), p = checked(product, "product", IN)
    cdef cnp.ndarray a = _rows(rows, v, "x", 1)
    cdef Py_ssize_t m = cnp.PyArray_DIM(a, 0), width = cnp.PyArray_DIM(a, 1), n = cnp.PyArray_SIZE(p)
    cdef Py_ssize_t item = cnp.PyArray_ITEMSIZE(a), b, size, at
    same_dtype(p, "product", v, "x")
    if not 1 <= m <= 2:
        raise ValueError(f"rows: expected one or two, got {m}")
    if cnp.PyArray_NDIM(p) != 1 or n > width:
        raise ValueError(f"product: expected at most {width} numbers, got shape {tuple((<object>p).shape)}")
    disjoint(v, "x", a, "rows")
    disjoint(v, "x", p, "product")
    cdef cnp.npy_intp n_blocks = (n + OC_BLOCK - 1) // OC_BLOCK
    cdef cnp.ndarray partial = cnp.PyArray_EMPTY(1, &n_blocks, cnp.NPY_FLOAT64, 0)
    cdef double *part = <double *>cnp.PyArray_DATA(partial)
    cdef const char *row = cnp.PyArray_BYTES(a)
    cdef const char *last = row + (m - 1) * width * item
    cdef const char *begin = cnp.PyArray_BYTES(p)
    cdef char *to = cnp.PyArray_BYTES(v)
    cdef int dtype = dtype_of(a)
    cdef const oc_reduce_kernels *k = &kernels().reduce[dtype]
    cdef double[2] factors = [beta, 0]
    cdef double length
    with nogil:
        for b in prange(n_blocks, schedule="static", num_threads=num_threads(n)):
            at = b * OC_BLOCK * item
            part[b] = k.dot(min(<Py_ssize_t>OC_BLOCK, n - b * OC_BLOCK), last + at, begin + at)
        factors[m - 1] = tree_sum(n_blocks, part)
        for b in prange(n_blocks, schedule="static", num_threads=num_threads(n)):
            at = b * OC_BLOCK * item
            size = min(<Py_ssize_t>OC_BLOCK, n - b * OC_BLOCK)
            memcpy(to + at, begin + at, size * item)
            k.subtract(size, m, width, factors, row + at, to + at)
            part[b] = k.sum_squares(size, to + at, 1.0)
        length = norm_of_blocks(dtype, n, to, part)
    return factors[m - 1], length


def sweep(rows, factors, vectors):
    """``vectors -= factors @ rows`` in place, then return ``vectors[2:] @ rows.T``: in one reading of the rows [m, n].

    Three or four vectors [2 + fresh, n]; factors [2 + fresh, m] float64; a block's sums are of the dtype. A vector meets
    up to four rows at a time: what it loses to later ones is not in the components along earlier ones, which is nothing
    where rows are orthogonal.
    """
    cdef cnp.ndarray v = checked(vectors, "vectors", OUT)
    cdef cnp.ndarray a = _rows(rows, v, "vectors", 2)
    cdef Py_ssize_t m = cnp.PyArray_DIM(a, 0), n = cnp.PyArray_DIM(a, 1), item = cnp.PyArray_ITEMSIZE(a), b, at
    cdef Py_ssize_t n_blocks = (n + OC_BLOCK - 1) // OC_BLOCK
    cdef int fresh = <int>cnp.PyArray_DIM(v, 0) - 2
    if not 1 <= fresh <= 2:
        raise ValueError(f"vectors: expected three or four, got shape {tuple((<object>v).shape)}")
    cdef const double *f = _factors(factors, (fresh + 2, m))
    disjoint(v, "vectors", a, "rows")
    cdef cnp.npy_intp *shape = [fresh * m, n_blocks]
    cdef cnp.ndarray partial = cnp.PyArray_EMPTY(2, shape, cnp.NPY_FLOAT64, 0)
    cdef double *part = <double *>cnp.PyArray_DATA(partial)
    cdef const char *p = cnp.PyArray_BYTES(a)
    cdef char *q = cnp.PyArray_BYTES(v)
    cdef const oc_reduce_kernels *k = &kernels().reduce[dtype_of(a)]
    for b in prange(n_blocks, nogil=True, schedule="static", num_threads=num_threads(m * n)):
        at = b * OC_BLOCK * item
        k.sweep(min(<Py_ssize_t>OC_BLOCK, n - b * OC_BLOCK), m, n, p + at, fresh, f, q + at, n_blocks, part + b)
    return _row_sums(partial).reshape(fresh, m)
