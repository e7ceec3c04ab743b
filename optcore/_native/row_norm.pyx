"""Layer norm and RMS norm: the argument checks, and the OpenMP partition of rows.

x is read as [rows, groups, columns]; each (row, group) is normalised by itself, with `groups` rows of parameters. Layer
norm has one group; group norm of features without positions is the rest.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.string cimport memset
from optcore._native.arrays cimport IN, dtype_of
from optcore._native.c cimport OC_F32, OC_F64, OC_SHORT, oc_add_fn, oc_row_norm_kernels, oc_rows, oc_rows_fn
from optcore._native.core cimport kernels
from optcore._native.norm_job cimport store, vector
from optcore._native.norm_arrays cimport (
    CACHES, LINE, apart, at_least_zero, checked_values, copied, doubles, input_like, output_like, parameter, statistic, stored,
)
from optcore._native.shares cimport each
from optcore._native.threads cimport num_threads

import numpy as np

cnp.import_array()

cdef enum:
    BLOCKS = 64     # at most so many blocks of rows: each has column sums of its own
    # Rows of a block of column sums, at least: to clear and join those costs as much as two rows. FEW, as many as the kernels
    # take at once, where there would not be TASKS blocks.
    TOGETHER = 16
    FEW = 4
    TASKS = 8
    PIECE = 4096    # columns of the blocks' sums that are joined in one task


# ------------------------------------------------------------------------------------------------------ the partition
# It depends on the shape alone: up to BLOCKS blocks of rows, whose column sums a binary tree joins.
cdef struct Job:
    oc_rows p
    oc_rows_fn *f
    Py_ssize_t item, number     # bytes of an element and of a parameter, which bfloat16 keeps apart
    Py_ssize_t rows, groups, per_block, blocks
    double *sums        # [blocks][2][groups*columns]: dweight, dbias


cdef inline const void *_from(const void *a, Py_ssize_t bytes) noexcept nogil:
    if a == NULL:
        return NULL
    return <const char *>a + bytes


cdef inline double *_statistics_from(double *a, Py_ssize_t n) noexcept nogil:
    return NULL if a == NULL else a + n


cdef void _task(const void *of, Py_ssize_t task) noexcept nogil:
    """One group of one block of rows."""
    cdef const Job *job = <const Job *>of
    cdef oc_rows p = job.p
    cdef Py_ssize_t block = task // job.groups, group = task % job.groups
    cdef Py_ssize_t first = block * job.per_block
    cdef Py_ssize_t column = group * p.columns
    cdef Py_ssize_t element = (first * p.stride + column) * job.item, statistic = first * p.every + group
    p.rows = min(job.per_block, job.rows - first)
    p.x, p.dy = _from(p.x, element), _from(p.dy, element)
    p.rx, p.rdy = _from(p.rx, element), _from(p.rdy, element)
    p.out = <void *>_from(p.out, element)
    p.weight, p.bias = _from(p.weight, column * job.number), _from(p.bias, column * job.number)
    p.rweight, p.rbias = _from(p.rweight, column * job.number), _from(p.rbias, column * job.number)
    p.mean, p.rest = _statistics_from(p.mean, statistic), _statistics_from(p.rest, statistic)
    p.inv_std = _statistics_from(p.inv_std, statistic)
    p.rmean, p.rinv_std = _statistics_from(p.rmean, statistic), _statistics_from(p.rinv_std, statistic)
    if job.sums != NULL:
        p.dweight = job.sums + 2 * block * p.stride + column
        p.dbias = p.dweight + p.stride
    job.f(&p)


cdef void _join(const Job *job, Py_ssize_t piece) noexcept nogil:
    """Add the blocks' sums of some columns pairwise into the first block's."""
    cdef Py_ssize_t width = 2 * job.p.stride, first = piece * PIECE, step = 1, b
    cdef Py_ssize_t n = min(<Py_ssize_t>PIECE, width - first)
    cdef oc_add_fn *add = kernels().add_sums
    while step < job.blocks:
        b = 0
        while b + step < job.blocks:
            add(n, job.sums + b * width + first, job.sums + (b + step) * width + first)
            b += 2 * step
        step *= 2


cdef void _run(Job *job) noexcept nogil:
    cdef Py_ssize_t piece, pieces = (2 * job.p.stride + PIECE - 1) // PIECE
    each(_task, job, job.blocks * job.groups, job.rows * job.p.stride)
    if job.sums != NULL:
        for piece in prange(pieces, schedule="static", num_threads=num_threads(job.rows * job.p.stride)):
            _join(job, piece)


cdef void _part(Job *job, oc_rows_fn *f, void *out, int arrays, bint sums) noexcept nogil:
    """Set up a kernel that touches so many arrays like x; with `sums`, it gives column sums."""
    cdef Py_ssize_t least = max(<Py_ssize_t>FEW, min(<Py_ssize_t>TOGETHER, job.rows // TASKS)) if sums else 1
    job.f, job.p.out = f, out
    job.p.past_caches = arrays * job.rows * job.p.stride * job.item > CACHES
    job.per_block = max(least, (job.rows + BLOCKS - 1) // BLOCKS)
    job.blocks = (job.rows + job.per_block - 1) // job.per_block if job.p.stride else 0


# ------------------------------------------------------------------------------------------------ for other drivers

cdef Job _job_of(const row_norm *n, Py_ssize_t rows, const char *x, double *saved) noexcept nogil:
    cdef Job job
    memset(&job, 0, sizeof(Job))
    job.item = job.number = 4 if n.dtype == OC_F32 else 8
    job.rows, job.groups = rows, n.groups
    job.p.stride, job.p.columns, job.p.every = n.columns, n.columns // n.groups, n.groups
    job.p.centred, job.p.eps, job.p.x = n.centred, n.eps, x
    job.p.mean, job.p.rest, job.p.inv_std = saved, saved + rows * n.groups, saved + 2 * rows * n.groups
    return job


cdef const char *_parameter(const row_norm *n, const char *given, double otherwise, double *room) noexcept nogil:
    cdef Py_ssize_t i
    if given != NULL:
        return given
    for i in range(n.columns):
        if n.dtype == OC_F32:
            (<float *>room)[i] = <float>otherwise
        else:
            room[i] = otherwise
    return <const char *>room


cdef Py_ssize_t row_norm_room(const row_norm *n, Py_ssize_t rows) noexcept nogil:
    return 2 * n.columns * (1 + BLOCKS)


cdef void run_row_norm(const row_norm *n, Py_ssize_t rows, const char *x, const char *weight, const char *bias, char *y,
                       double *saved, double *room) noexcept nogil:
    cdef Job job = _job_of(n, rows, x, saved)
    job.p.weight, job.p.bias = _parameter(n, weight, 1, room), _parameter(n, bias, 0, room + n.columns)
    _part(&job, kernels().row_norm[n.dtype].forward, y, 2, False)
    _run(&job)


cdef void run_row_norm_backward(const row_norm *n, Py_ssize_t rows, const char *dy, const char *x, const char *weight,
                                double *saved, char *dweight, char *dbias, char *dx, double *room) noexcept nogil:
    cdef Job job = _job_of(n, rows, x, saved)
    job.p.dy, job.p.weight, job.sums = dy, _parameter(n, weight, 1, room), room + 2 * n.columns
    _part(&job, kernels().row_norm[n.dtype].backward, dx, 3, True)
    _run(&job)
    if dweight != NULL:
        store(vector(dweight, n.dtype), job.sums, n.columns)
    if dbias != NULL:
        store(vector(dbias, n.dtype), job.sums + n.columns, n.columns)


# ---------------------------------------------------------------------------------------------------------- the calls
cdef class _Call:
    """A job under construction, and the memory that it points into."""
    cdef Job job
    cdef cnp.ndarray x, sums
    cdef tuple shape
    cdef list kept

    def __cinit__(self, cnp.ndarray x, tuple shape, Py_ssize_t groups, bint centred):
        cdef Job *job = &self.job
        memset(job, 0, sizeof(Job))
        self.x, self.shape, self.kept = x, shape, []
        job.item, job.number, job.groups = cnp.PyArray_ITEMSIZE(x), 8 if dtype_of(x) == OC_F64 else 4, groups
        job.p.stride = 1
        for n in shape:
            job.p.stride *= n
        job.p.columns, job.p.every = job.p.stride // groups, groups
        job.rows = cnp.PyArray_SIZE(x) // max(<Py_ssize_t>1, job.p.stride)
        job.p.centred = centred
        job.p.x = cnp.PyArray_DATA(x)

    cdef const oc_row_norm_kernels *kernels(self) noexcept:
        return &kernels().row_norm[dtype_of(self.x)]

    cdef Py_ssize_t statistics_size(self) except -1:
        return self.job.rows * self.job.groups if self.job.p.stride else self.empty_rows()

    cdef Py_ssize_t empty_rows(self) except -1:
        """How many rows of no columns x has."""
        cdef Py_ssize_t i, n = 1
        for i in range(cnp.PyArray_NDIM(self.x) - <Py_ssize_t>len(self.shape)):
            n *= cnp.PyArray_DIM(self.x, i)
        return n * self.job.groups

    cdef const void *coefficients(self, cnp.ndarray a, double otherwise, cnp.ndarray out):
        """A parameter in the arithmetic dtype: it lies to the cache lines as `out` where that is taken by lines, else on one."""
        cdef Py_ssize_t n = self.job.p.stride
        cdef cnp.ndarray room = np.empty(n * self.job.number + LINE, np.uint8)
        cdef char *to = <char *>cnp.PyArray_DATA(room)
        cdef bint by_lines = self.job.p.columns >= OC_SHORT and n * self.job.item % LINE == 0
        cdef size_t start = <size_t>cnp.PyArray_DATA(out) * (self.job.number // self.job.item) if by_lines else 0
        to += (start - <size_t>to) % LINE
        copied(to, dtype_of(self.x), a, otherwise, n)
        self.kept.append(room)
        return to

    cdef int saved(self, object saved) except -1:
        cdef Py_ssize_t n = self.statistics_size()
        self.job.p.mean = statistic(saved.mean, "saved.mean", n)
        self.job.p.rest = statistic(saved.mean_rest, "saved.mean_rest", n)
        self.job.p.inv_std = statistic(saved.inv_std, "saved.inv_std", n)
        return 0

    cdef void run(self, oc_rows_fn *f, cnp.ndarray out, int arrays, bint sums):
        """Run a kernel that touches so many arrays like x; with `sums`, keep the column sums."""
        cdef Job *job = &self.job
        _part(job, f, cnp.PyArray_DATA(out), arrays, sums)
        if sums:
            self.sums = np.empty(2 * job.p.stride * job.blocks) if job.blocks else np.zeros(2 * job.p.stride)
            job.sums = doubles(self.sums)
        if job.blocks:
            with nogil:
                _run(job)

    cdef tuple parameters(self, cnp.ndarray weight):
        """(dweight, dbias)."""
        return (stored(self.job.sums, weight, self.shape, self.x),
                stored(self.job.sums + self.job.p.stride, weight, self.shape, self.x))


cdef tuple _new_statistics(_Call call, int n):
    """For the kernels to fill, which do not see rows of no columns."""
    new = np.empty if call.job.p.stride else np.zeros
    return tuple([new(call.statistics_size()) for _ in range(n)])


def forward(x, weight, bias, shape, groups, eps, centred, out):
    """Return (y, mean, mean_rest, inv_std)."""
    cdef cnp.ndarray a = checked_values(x, "x", IN)
    cdef _Call call = _Call(a, shape, groups, centred)
    cdef cnp.ndarray w = parameter(weight, "weight", shape, "column")
    cdef cnp.ndarray b = parameter(bias, "bias", shape, "column")
    cdef oc_rows *p = &call.job.p
    p.eps = at_least_zero(eps, "eps")
    cdef cnp.ndarray y = output_like(out, a)
    apart(y, [("x", a), ("weight", w), ("bias", b)])
    mean, rest, inv_std = _new_statistics(call, 3)
    p.mean, p.rest, p.inv_std = doubles(mean), doubles(rest), doubles(inv_std)
    p.weight, p.bias = call.coefficients(w, 1, y), call.coefficients(b, 0, y)
    call.run(call.kernels().forward, y, 2, False)
    return y, mean, rest, inv_std


def backward(dy, x, weight, saved, shape, groups, centred, out):
    """Return (dx, dweight, dbias)."""
    cdef cnp.ndarray a = checked_values(x, "x", IN)
    cdef cnp.ndarray g = input_like(dy, "dy", a)
    cdef _Call call = _Call(a, shape, groups, centred)
    cdef cnp.ndarray w = parameter(weight, "weight", shape, "column")
    cdef oc_rows *p = &call.job.p
    call.saved(saved)
    cdef cnp.ndarray dx = output_like(out, a)
    apart(dx, [("x", a), ("dy", g), ("weight", w)])
    p.dy, p.weight = cnp.PyArray_DATA(g), call.coefficients(w, 1, dx)
    call.run(call.kernels().backward, dx, 3, True)
    return dx, *call.parameters(w)


def jvp(x, weight, saved, rx, rweight, rbias, shape, groups, centred):
    """Return (ry, rmean, rinv_std)."""
    cdef cnp.ndarray a = checked_values(x, "x", IN)
    cdef cnp.ndarray r = input_like(rx, "rx", a)
    cdef _Call call = _Call(a, shape, groups, centred)
    cdef cnp.ndarray w = parameter(weight, "weight", shape, "column")
    cdef cnp.ndarray rw = parameter(rweight, "rweight", shape, "column")
    cdef cnp.ndarray rb = parameter(rbias, "rbias", shape, "column")
    cdef oc_rows *p = &call.job.p
    call.saved(saved)
    cdef cnp.ndarray ry = output_like(None, a)
    rmean, rinv_std = _new_statistics(call, 2)
    p.rx, p.rmean, p.rinv_std = cnp.PyArray_DATA(r), doubles(rmean), doubles(rinv_std)
    p.weight, p.rweight = call.coefficients(w, 1, ry), call.coefficients(rw, 0, ry)
    p.rbias = call.coefficients(rb, 0, ry)
    call.run(call.kernels().jvp, ry, 3, False)
    return ry, rmean, rinv_std


def backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved, shape, groups, centred):
    """Return (rdx, rdweight, rdbias)."""
    cdef cnp.ndarray a = checked_values(x, "x", IN)
    cdef cnp.ndarray g = input_like(dy, "dy", a)
    cdef cnp.ndarray rg = input_like(rdy, "rdy", a)
    cdef cnp.ndarray r = input_like(rx, "rx", a)
    cdef _Call call = _Call(a, shape, groups, centred)
    cdef cnp.ndarray w = parameter(weight, "weight", shape, "column")
    cdef cnp.ndarray rw = parameter(rweight, "rweight", shape, "column")
    cdef oc_rows *p = &call.job.p
    call.saved(saved)
    p.rmean = statistic(rsaved.mean, "rsaved.mean", call.statistics_size())
    p.rinv_std = statistic(rsaved.inv_std, "rsaved.inv_std", call.statistics_size())
    cdef cnp.ndarray rdx = output_like(None, a)
    p.dy, p.rdy, p.rx = cnp.PyArray_DATA(g), cnp.PyArray_DATA(rg), cnp.PyArray_DATA(r)
    p.weight, p.rweight = call.coefficients(w, 1, rdx), call.coefficients(rw, 0, rdx)
    call.run(call.kernels().backward_jvp, rdx, 5, True)
    return rdx, *call.parameters(w)
