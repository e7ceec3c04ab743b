"""Matrix products of C-contiguous arrays over SciPy's BLAS, cut into panels for the library's own threads.

A panel is one BLAS call, or a few, or one of a kernel for few rows. BLAS itself must be held to one thread
(``process.one_pool``) by whoever starts the job: the values are right without it, but two pools then fight for the cores,
and the bits may follow BLAS's thread count.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.limits cimport INT_MAX
from libc.string cimport memcpy, memset
from scipy.linalg.cython_blas cimport dgemm, sgemm

from optcore._native.arrays cimport IN, OUT, checked, disjoint, dtype_of, same_dtype
from optcore._native.c cimport OC_F32
from optcore._native.core cimport kernels
from optcore._native.threads cimport num_threads

import ctypes

from scipy.linalg import cython_blas

cnp.import_array()

cdef enum:
    # A panel's side is a multiple of STEP, the tile of the widest BLAS kernels, and is not cut below SIDE.
    STEP = 16
    SIDE = 64
    LINE = 64  # bytes
    # Rows that a transposition reads at a time: few enough for one set of a cache, where they may all fall.
    TILE = 8
    # One core multiplies and adds this many pairs while an update rule moves one element.
    PAIRS_PER_ELEMENT = 32
    # What OpenBLAS's kernels for small products take: multiplications, and for a, b^T elements of the product and terms of a
    # sum. They win with panels of ROWS rows, up to DEEP terms in the products whose operand b is read across.
    SMALL_KERNEL = 1000000
    SMALL_OUTPUT = 1200
    SHALLOW = 32
    DEEP = 512
    ROWS = 32
    TURNED = 131072  # bytes of a panel's rows of a, turned on the stack
    THIN = 96        # bytes of a row of a, in a^T, b, that has few elements
    NARROW = 32      # and of one of b that has too few
    FEW = 48         # bytes of a column of a, in the other forms, that has few elements
    LONG = 512       # and of a row of a and b that are long enough for a, b^T
# Multiplications. Every panel packs its own operands: four panels cost 5 to 15 % of the speed of one, two half of that.
# So a product is cut in two, but never below SMALL (some 10 microseconds of one core, against 1 for a thread that waits
# for work), in four from MIDDLE on, and in more only where each is still LARGE. Up to TILED the kernels for small products,
# which pack nothing, are faster: by 1.1 to 1.8.
cdef double SMALL = 2.2e6
cdef double TILED = 3e7
cdef double MIDDLE = 5e7
cdef double LARGE = 1.4e8

# OpenBLAS's core types with kernels for small products: those of AVX-512.
cdef tuple SMALL_KERNELS = ("SkylakeX", "Cooperlake", "SapphireRapids")


def core_type():
    """The kernels that SciPy's OpenBLAS has chosen, or None for another BLAS."""
    library = ctypes.CDLL(cython_blas.__file__)     # looks in what the module is linked to, too
    for name in ("scipy_openblas_get_corename", "openblas_get_corename"):
        if hasattr(library, name):
            core = getattr(library, name)
            core.restype = ctypes.c_char_p
            return core().decode()
    return None


cdef bint has_small_kernels = core_type() in SMALL_KERNELS


def use_small_kernels(bint use):
    """Cut products for kernels that BLAS may not have, or not for those that it has; return what was in force."""
    global has_small_kernels
    before, has_small_kernels = has_small_kernels, use
    return before


cdef Py_ssize_t _up(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef Py_ssize_t _part(Py_ssize_t side, Py_ssize_t parts) noexcept nogil:
    return _up(_up(side, parts), STEP) * STEP


cdef inline Py_ssize_t _item(const product *p) noexcept nogil:
    return 4 if p.dtype == OC_F32 else 8


cdef bint _for_small_kernels(const product *p, double work) noexcept nogil:
    """Whether panels of ROWS rows are faster than large ones. For a, b^T, the forward pass of a dense layer, the kernels take
    sums one by one: they win where those are as long as a has rows, which a large panel would share."""
    if not has_small_kernels or work > TILED or p.k < SHALLOW:
        return False
    if not p.transpose_b:
        return work > SMALL_KERNEL and p.k <= DEEP
    return not p.transpose_a and p.k <= SMALL_KERNEL // (ROWS * STEP) and (p.n < STEP or p.m <= p.k)


cdef bint _turns(const product *p, double work) noexcept nogil:
    """Whether a, b^T is faster with panels of a turned first, by 1.1 to 1.7: the kernels for small products then add
    vectors, not within one. They want whole vectors of rows, and the turning wants enough columns."""
    return (has_small_kernels and work <= TILED and p.transpose_b and not p.transpose_a
            and p.m % STEP == 0 and p.m <= 2 * p.k and p.n >= ROWS
            and SHALLOW <= p.k <= TURNED // (ROWS * _item(p)))


cdef bint _is_thin(const product *p) noexcept nogil:
    """Whether there are so few rows, as in the gradient of the weights of a layer with few outputs, that a kernel which packs
    nothing takes a tenth to all of the time of BLAS with AVX2; unless BLAS has such itself."""
    cdef Py_ssize_t item = _item(p)
    if has_small_kernels or p.m * item > THIN or p.alpha != 1 or not (p.beta == 0 or p.beta == 1):
        return False
    if p.transpose_a:
        return not p.transpose_b and p.n * item >= NARROW
    if p.m * item > FEW:
        return False
    return (p.m > 1 and p.k * item >= LONG) if p.transpose_b else p.n * item >= NARROW


cdef void _cut_small(product *p) noexcept nogil:
    cdef Py_ssize_t most
    p.rows = min(p.m, <Py_ssize_t>ROWS)
    most = SMALL_KERNEL // (p.rows * p.k)
    if p.transpose_b:
        most = min(most, SMALL_OUTPUT // p.rows)
    p.cols = min(p.n, _part(p.n, _up(p.n, most // STEP * STEP)))


cdef void _cut(product *p) noexcept nogil:
    """Choose the panel from the shapes alone: halve a side while the panel is large. The longer one packs the least; without
    a^T BLAS is faster with rows in one piece. k is never cut: partial sums would have to be combined."""
    cdef double work = <double>p.m * p.n * p.k
    cdef double limit = min(max(work / (3 if work > MIDDLE else 1.5), SMALL), LARGE)
    p.turned, p.thin = _turns(p, work), _is_thin(p)
    if p.turned:
        p.rows, p.cols = min(p.m, <Py_ssize_t>ROWS), p.n if work <= SMALL else _part(p.n, 2)
        return
    if _for_small_kernels(p, work):
        _cut_small(p)
        return
    p.rows, p.cols = p.m, p.n
    while <double>p.rows * p.cols * p.k > limit and max(p.rows, p.cols) >= 2 * SIDE:
        if p.cols < 2 * SIDE or p.rows >= p.cols * (1 if p.transpose_a else 2):
            p.rows = _part(p.rows, 2)
        else:
            p.cols = _part(p.cols, 2)


cdef void _begin_with_bias(const product *p, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t col,
                           Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t item = _item(p), i
    for i in range(row, row + rows):
        memcpy(p.out + (i * p.n + col) * item, p.bias + col * item, cols * item)


cdef void gemm(int dtype, bint transpose_a, bint transpose_b, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t k, double alpha,
               const char *a, Py_ssize_t of_a, const char *b, Py_ssize_t of_b, double beta, char *out,
               Py_ssize_t of_out) noexcept nogil:
    # BLAS is column-major: it sees each operand transposed, so out^T = op(b)^T op(a)^T.
    cdef int m = <int>rows, n = <int>cols, depth = <int>k, lda = <int>of_a, ldb = <int>of_b, ldc = <int>of_out
    cdef char ta = b"T" if transpose_a else b"N"
    cdef char tb = b"T" if transpose_b else b"N"
    cdef float alpha_f = <float>alpha, beta_f = <float>beta
    if dtype == OC_F32:
        sgemm(&tb, &ta, &n, &m, &depth, &alpha_f, <float *>b, &ldb, <float *>a, &lda, &beta_f, <float *>out, &ldc)
    else:
        dgemm(&tb, &ta, &n, &m, &depth, &alpha, <double *>b, &ldb, <double *>a, &lda, &beta, <double *>out, &ldc)


cdef void _turned_panel(const product *p, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t col,
                        Py_ssize_t cols) noexcept nogil:
    """Turn these rows of a once for all columns, of which a BLAS call takes what its kernels for small products do."""
    cdef char room[TURNED + LINE]
    cdef char *a = room + (LINE - <size_t>room % LINE)
    cdef Py_ssize_t item = _item(p), strip = SMALL_KERNEL // (rows * p.k) // STEP * STEP, at = 0
    kernels().turn[p.dtype](rows, p.k, p.a + row * p.k * item, a)
    while at < cols:
        gemm(p.dtype, True, True, rows, min(strip, cols - at), p.k, p.alpha, a, rows, p.b + (col + at) * p.k * item, p.k,
             p.beta, p.out + (row * p.n + col + at) * item, p.n)
        at += strip


cdef void _thin_panel(const product *p, Py_ssize_t m, Py_ssize_t n, const char *a, const char *b, char *out) noexcept nogil:
    if p.transpose_b:
        kernels().thin_dots[p.dtype](m, n, p.k, a, p.k, b, p.k, p.beta == 1, out, p.n)
    else:
        kernels().thin[p.dtype](m, n, p.k, a, 1 if p.transpose_a else p.k, p.m if p.transpose_a else 1, b, p.n,
                                p.beta == 1, out, p.n)


cdef void _panel(const product *p, Py_ssize_t row, Py_ssize_t col) noexcept nogil:
    cdef Py_ssize_t m = min(p.rows, p.m - row), n = min(p.cols, p.n - col), item = _item(p)
    cdef Py_ssize_t a = row if p.transpose_a else row * p.k
    cdef Py_ssize_t b = col * p.k if p.transpose_b else col
    if p.bias != NULL:
        _begin_with_bias(p, row, m, col, n)
    if p.turned:
        _turned_panel(p, row, m, col, n)
        return
    if p.thin:
        _thin_panel(p, m, n, p.a + a * item, p.b + b * item, p.out + (row * p.n + col) * item)
        return
    gemm(p.dtype, p.transpose_a, p.transpose_b, m, n, p.k, p.alpha, p.a + a * item, p.m if p.transpose_a else p.k,
         p.b + b * item, p.k if p.transpose_b else p.n, p.beta, p.out + (row * p.n + col) * item, p.n)


cdef bint _is_below(const product *p, Py_ssize_t row, Py_ssize_t col) noexcept nogil:
    # Then its mirror image is in panels that are not.
    return col + p.cols <= row


cdef void _transpose(floating *x, Py_ssize_t n, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t col,
                     Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t i, j, tile, begin
    for tile in range((cols + TILE - 1) // TILE):
        begin = col + tile * TILE
        for i in range(row, row + rows):
            for j in range(begin, min(begin + TILE, col + cols)):
                x[i * n + j] = x[j * n + i]


cdef void _mirror(const product *p, Py_ssize_t row, Py_ssize_t col) noexcept nogil:
    cdef Py_ssize_t rows = min(p.rows, p.m - row), cols = min(p.cols, p.n - col)
    if p.dtype == OC_F32:
        _transpose(<float *>p.out, p.n, row, rows, col, cols)
    else:
        _transpose(<double *>p.out, p.n, row, rows, col, cols)


cdef void _compute_or_copy(const product *p, Py_ssize_t row, Py_ssize_t col, bint copies) noexcept nogil:
    """Multiply a panel, or copy its mirror image, if that is what it is for."""
    if (p.symmetric and _is_below(p, row, col)) != copies:
        return
    if copies:
        _mirror(p, row, col)
    else:
        _panel(p, row, col)


cdef Py_ssize_t elements_of_work(double pairs) noexcept nogil:
    return <Py_ssize_t>min(pairs / PAIRS_PER_ELEMENT, <double>INT_MAX)


cdef void _panel_at(const product *p, Py_ssize_t i, bint copies) noexcept nogil:
    """The i-th panel, in the order of a layer's units: rows of the gradient of its weights, columns of its outputs. Those are
    cut as an update cuts the weights, and a thread finds in its cache what it wrote."""
    cdef Py_ssize_t across = _up(p.n, p.cols), down = _up(p.m, p.rows)
    if p.transpose_a:
        _compute_or_copy(p, i // across * p.rows, i % across * p.cols, copies)
    else:
        _compute_or_copy(p, i % down * p.rows, i // down * p.cols, copies)


cdef void multiply(product *p) noexcept nogil:
    if p.m == 0 or p.n == 0:
        return
    _cut(p)
    cdef double work = <double>p.m * p.n * p.k
    cdef Py_ssize_t panels = _up(p.m, p.rows) * _up(p.n, p.cols), i
    cdef int threads = num_threads(elements_of_work(work)) if work > SMALL else 1
    cdef Py_ssize_t run = 1 if p.symmetric else _up(panels, threads)  # those of one column or row are not the same work
    cdef int copies
    for copies in range(2 if p.symmetric else 1):
        if threads == 1:  # a parallel region, even of one thread, costs more than a small product
            for i in range(panels):
                _panel_at(p, i, copies)
        else:
            for i in prange(panels, schedule="static", chunksize=run, num_threads=threads):
                _panel_at(p, i, copies)


cdef cnp.ndarray _matrix(object x, str name, int intent):
    cdef cnp.ndarray a = checked(x, name, intent)
    if cnp.PyArray_NDIM(a) != 2:
        raise ValueError(f"{name}: expected 2 dimensions, got shape {tuple((<object>a).shape)}")
    if cnp.PyArray_DIM(a, 1) > INT_MAX:
        raise ValueError(f"{name}: expected at most {INT_MAX} columns, the limit of BLAS, "
                         f"got {cnp.PyArray_DIM(a, 1)}")
    return a


cdef product _operands(object a, object b, object out, bint transpose_a, bint transpose_b, bint accumulate,
                       str name_a, str name_b) except *:
    cdef cnp.ndarray x = _matrix(a, name_a, IN), y = _matrix(b, name_b, IN), z = _matrix(out, "out", OUT)
    cdef product p
    same_dtype(y, name_b, x, name_a)
    same_dtype(z, "out", x, name_a)
    p.dtype = dtype_of(x)
    p.transpose_a, p.transpose_b, p.symmetric, p.alpha, p.beta = transpose_a, transpose_b, False, 1, accumulate
    p.bias = NULL
    p.m, p.k = cnp.PyArray_DIM(x, transpose_a), cnp.PyArray_DIM(x, 1 - transpose_a)
    p.n = cnp.PyArray_DIM(y, 1 - transpose_b)
    if cnp.PyArray_DIM(y, transpose_b) != p.k:
        raise ValueError(f"{name_b}: expected {p.k} {'columns' if transpose_b else 'rows'}, as many as {name_a} has "
                         f"{'rows' if transpose_a else 'columns'}, got shape {y.shape[0], y.shape[1]}")
    if p.k > INT_MAX:
        raise ValueError(f"{name_b}: expected at most {INT_MAX} products to sum, the limit of BLAS, got {p.k}")
    if cnp.PyArray_DIM(z, 0) != p.m or cnp.PyArray_DIM(z, 1) != p.n:
        raise ValueError(f"out: expected shape {p.m, p.n}, got {z.shape[0], z.shape[1]}")
    disjoint(z, "out", x, name_a)
    disjoint(z, "out", y, name_b)
    p.a, p.b, p.out = cnp.PyArray_BYTES(x), cnp.PyArray_BYTES(y), cnp.PyArray_BYTES(z)
    return p


cdef void _write(product *p) noexcept nogil:
    if p.k > 0:
        multiply(p)
    elif p.beta == 0:
        memset(p.out, 0, p.m * p.n * _item(p))


def matmul(a, b, out, bint transpose_a=False, bint transpose_b=False, bint accumulate=False, plus=None):
    """``out = op(a) @ op(b)``, or ``out += op(a) @ op(b)``, where op transposes or does nothing.

    Parameters
    ----------
    a : ndarray [m, k], float32 or float64
        [k, m] with `transpose_a`.
    b : ndarray [k, n]
        [n, k] with `transpose_b`.
    out : ndarray [m, n]
        Written; may not overlap `a` or `b`. With k = 0 the product is zero.
    transpose_a, transpose_b : bool
    accumulate : bool
        Add to `out` instead of replacing it.
    plus : (ndarray, ndarray), optional
        Operands as `a` and `b` whose product is added, as by a second call.

    Raises
    ------
    TypeError
        An operand is not an array, or not of the dtype of `a`, float32 or float64 of native byte order.
    ValueError
        Shapes that do not fit; an array that is not C-contiguous, is read-only (`out`), overlaps, or has
        2**31 or more columns, which BLAS cannot address.
    """
    cdef product p = _operands(a, b, out, transpose_a, transpose_b, accumulate, "a", "b"), q
    cdef bint two = plus is not None
    if two:
        if not isinstance(plus, tuple) or len(plus) != 2:
            raise TypeError(f"plus: expected a pair of arrays, got {plus!r}")
        q = _operands(plus[0], plus[1], out, transpose_a, transpose_b, True, "plus[0]", "plus[1]")
    with nogil:
        _write(&p)
        if two:
            _write(&q)
