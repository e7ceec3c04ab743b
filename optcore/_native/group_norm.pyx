"""Group norm, and instance norm as its case of one channel a group: the argument checks and the OpenMP partition.

x is [examples, channels, positions] or [examples, positions, channels]. A task is some whole groups of one example: it
measures every channel, turns the channels' measures into the constants of the groups, and writes with them while the
values are in cache. How it is measured depends on the layout, the formulas do not.
"""
cimport numpy as cnp
from libc.math cimport sqrt
from libc.string cimport memset
from optcore._native.arrays cimport IN, dtype_of
from optcore._native.c cimport (
    OC_BF16, OC_F32, OC_F64, OC_MAX_INPUTS, OC_PAST_CACHES, OC_ROWS, OC_SEGMENTS, oc_all_safe, oc_channel_fn, oc_kernels,
)
from optcore._native.core cimport kernels
from optcore._native.factors cimport are_safe, take_powers
from optcore._native.norm_job cimport load, store, vector
from optcore._native.norm_arrays cimport (
    CACHES, LINE, apart, at_least_zero, checked_values, copied, doubles, input_like, output_like, parameter, statistic, stored,
)
from optcore._native.shares cimport each

import numpy as np

cdef extern from * nogil:
    """
    /* Asks for a run of memory, which need not exist, to be read or written soon, into the second-level cache: the first has
       no room for two tiles. A macro: gcc leaves out calls of a function that does nothing else. */
    #if defined(__GNUC__) || defined(__clang__)
    #define oc_ask_for_run(run, bytes)                                      \\
        do {                                                                \\
            for (Py_ssize_t at = 0; at < (bytes); at += 64)                 \\
                __builtin_prefetch((run) + at, 0, 2);                       \\
        } while (0)
    #else
    #define oc_ask_for_run(run, bytes) (void)(run)
    #endif
    """
    void oc_ask_for_run(const char *run, Py_ssize_t bytes)

cnp.import_array()

cdef enum:
    PANEL = 256    # channels of a task, about, where channels are last: few enough that N = 1 has several
    RUN = 4096     # values of it, about, where channels are runs: in the first-level cache
    TILE = 256     # channels whose constants are worked out at a time
    BLOCK = 65536  # values of a block of positions: in the second-level cache
    ROWS = 128     # positions of it, at least
    CONSTANTS = 10
    SUMS = 3       # pairs of sums, and (mean, rest, m2)

cdef struct Job:
    const oc_kernels *k
    int dtype, form, n_in, rows     # rows of constants
    Py_ssize_t item, examples, channels, positions, groups
    Py_ssize_t per_group, per_task, tasks      # channels of a group, groups of a task, tasks of an example
    void (*finish)(const Job *, Py_ssize_t, Py_ssize_t) noexcept nogil       # (example, group)
    void (*constants)(const Job *, Py_ssize_t, Py_ssize_t, double *) noexcept nogil  # of (example, channel)
    oc_channel_fn *apply
    bint moments
    int how                 # as in channels.pxd
    int n_sums
    const char *u[SUMS]     # the sums of u and of u*(v - centre) for each pair
    const char *v[SUMS]
    const double *about[SUMS]   # [examples, groups]: the centres
    const char *ins[4]
    char *out
    # [examples, groups]
    double *mean
    double *rest
    double *inv_std
    double *rmean
    double *rinv_std
    double *means           # [examples, groups, 5]: what finish leaves for constants
    # [examples, channels, 2] for each pair; for the moments [examples, channels, 3]
    double *sums[SUMS]
    # [channels]
    double *weight
    double *bias
    double *rweight
    double *rbias
    double *dweight         # [examples, channels]
    double *dbias
    double eps


# -------------------------------------------------------------------------------------------------------- the measures
cdef inline Py_ssize_t _offset(const Job *job, Py_ssize_t example, Py_ssize_t channel) noexcept nogil:
    """Bytes before the first value of a channel."""
    cdef Py_ssize_t base = example * job.channels * job.positions
    return (base + (channel if job.form == OC_ROWS else channel * job.positions)) * job.item


cdef void _moments_rows(const Job *job, const char *x, Py_ssize_t n, Py_ssize_t columns, double *out,
                        double *block) noexcept nogil:
    """The moments of n positions of some channels, three rows of `columns`, merged in order over blocks."""
    cdef Py_ssize_t run = max(<Py_ssize_t>ROWS, BLOCK // columns), at = 0
    cdef Py_ssize_t stride = job.channels, count
    while at < n:
        count = min(run, n - at)
        job.k.norm[job.dtype].moments[OC_ROWS](count, columns, stride, x + at * stride * job.item, block if at else out,
                                               job.how)
        if at:
            job.k.merge_moments(columns, at, out, columns, count, block, columns)
        at += count


cdef void _group_moments(const Job *job, Py_ssize_t example, Py_ssize_t group) noexcept nogil:
    """mean, rest and inv_std of a group."""
    cdef Py_ssize_t first = group * job.per_group, at = example * job.groups + group, c
    cdef double n = job.positions, k = job.per_group
    cdef double moments[3]
    cdef double shift, move = 0, m2 = 0, d, mean
    cdef const double *each
    if job.form == OC_SEGMENTS:  # a group is one run
        job.k.row_norm[job.dtype].moments(job.per_group * job.positions, job.v[0] + _offset(job, example, first), moments)
        shift, move, m2 = moments[0], moments[1], moments[2]
    else:  # from those of its channels, all of n values: m2 = sum(m2_c) + n*sum((mean_c - mean)^2)
        each = job.sums[0] + (example * job.channels + first) * 3
        shift = each[0]
        for c in range(job.per_group):
            move += ((each[3 * c] - shift) + each[3 * c + 1]) / k
        for c in range(job.per_group):
            d = (each[3 * c] - shift) + (each[3 * c + 1] - move)
            m2 += each[3 * c + 2] + n * (d * d)
    mean = shift + move
    job.mean[at] = mean
    job.rest[at] = move - (mean - shift)
    job.inv_std[at] = 1 / sqrt(m2 / (n * k) + job.eps)


cdef void _measure_rows(const Job *job, Py_ssize_t example, Py_ssize_t first, Py_ssize_t columns) noexcept nogil:
    """The measures of channels that lie side by side."""
    cdef double rows[3 * TILE]
    cdef double block[3 * TILE]
    cdef double about[TILE]
    cdef Py_ssize_t c, i, offset = _offset(job, example, first), at = example * job.channels + first
    if job.moments:
        _moments_rows(job, job.v[0] + offset, job.positions, columns, rows, block)
        for c in range(columns):
            for i in range(3):
                job.sums[0][3 * (at + c) + i] = rows[i * columns + c]
    for i in range(job.n_sums):
        for c in range(columns):
            about[c] = job.about[i][example * job.groups + (first + c) // job.per_group]
        job.k.norm[job.dtype].sums[OC_ROWS](job.positions, columns, job.channels, job.u[i] + offset, job.v[i] + offset,
                                            about, rows, job.how)
        for c in range(columns):
            job.sums[i][2 * (at + c)] = rows[c]
            job.sums[i][2 * (at + c) + 1] = rows[columns + c]


cdef void _measure(const Job *job, Py_ssize_t example, Py_ssize_t first, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t c = first, offset
    cdef int i
    if job.form == OC_ROWS:
        while c < first + channels:
            _measure_rows(job, example, c, min(<Py_ssize_t>TILE, first + channels - c))
            c += TILE
        return
    for c in range(first, first + channels):
        offset = _offset(job, example, c)
        for i in range(job.n_sums):
            job.k.row_norm[job.dtype].sums(
                job.positions, job.u[i] + offset, job.v[i] + offset,
                job.about[i][example * job.groups + c // job.per_group],
                job.sums[i] + 2 * (example * job.channels + c))


# ------------------------------------------------------------------------------------------------------- the constants
# In double. n is the number of a group's values, s its inv_std, x_hat = (x - mean)*s, w a channel's weight. All
# derivatives are made of the projection P v = s*(v - mean(v) - x_hat*mean(x_hat*v)) of src_c/row_norm.tmpl.h, with means
# over the group:
#     dx = P u,  rx_hat = P rx,  u = w*dy
#     rdx = P ru + (rs/s)*P u - s*mean(u*x_hat)*rx_hat - s*mean(u*rx_hat)*x_hat,  ru = rw*dy + w*rdy
cdef inline double _sum(const Job *job, int i, Py_ssize_t example, Py_ssize_t c) noexcept nogil:
    return job.sums[i][2 * (example * job.channels + c)]


cdef inline double _product(const Job *job, int i, Py_ssize_t example, Py_ssize_t c) noexcept nogil:
    """The sum of u*(v - centre) over a channel; the centre of x is mean + rest."""
    cdef double *both = job.sums[i] + 2 * (example * job.channels + c)
    if i == 2:
        return both[1]
    return both[1] - job.rest[example * job.groups + c // job.per_group] * both[0]


cdef inline double _held(const Job *job, double value) noexcept nogil:
    """The value as the dtype holds it."""
    return <double><float>value if job.dtype != OC_F64 else value


cdef inline double _low(const Job *job, Py_ssize_t at) noexcept nogil:
    """What the dtype's mean lacks of the mean."""
    return (job.mean[at] - _held(job, job.mean[at])) + job.rest[at]


cdef void _nothing(const Job *job, Py_ssize_t example, Py_ssize_t group) noexcept nogil:
    pass


cdef void _forward_constants(const Job *job, Py_ssize_t example, Py_ssize_t c, double *coef) noexcept nogil:
    """y = w*x_hat + b."""
    cdef Py_ssize_t at = example * job.groups + c // job.per_group
    coef[0] = job.mean[at]
    coef[1] = job.weight[c] * job.inv_std[at]
    coef[2] = job.bias[c] - coef[1] * _low(job, at)


cdef void _backward_finish(const Job *job, Py_ssize_t example, Py_ssize_t group) noexcept nogil:
    """mean(u), mean(u*x_hat)."""
    cdef Py_ssize_t c, at = example * job.groups + group, first = group * job.per_group
    cdef double n = <double>job.per_group * job.positions, s = job.inv_std[at]
    cdef double *m = job.means + 5 * at
    m[0] = m[1] = 0
    for c in range(first, first + job.per_group):
        m[0] += job.weight[c] * _sum(job, 0, example, c)
        m[1] += job.weight[c] * _product(job, 0, example, c)
        job.dbias[example * job.channels + c] = _sum(job, 0, example, c)
        job.dweight[example * job.channels + c] = s * _product(job, 0, example, c)
    m[0] /= n
    m[1] *= s / n


cdef inline void _x_hat(const Job *job, Py_ssize_t at, double b, double constant, double *coef) noexcept nogil:
    """The constants of b*x_hat + constant."""
    coef[0] = job.mean[at]
    coef[1] = job.inv_std[at]
    coef[2] = b
    coef[3] = constant - b * job.inv_std[at] * _low(job, at)


cdef void _backward_constants(const Job *job, Py_ssize_t example, Py_ssize_t c, double *coef) noexcept nogil:
    """dx = w*s*dy - s*mean(u) - s*mean(u*x_hat)*x_hat; dy is taken about its mean over the channel."""
    cdef Py_ssize_t at = example * job.groups + c // job.per_group
    cdef double s = job.inv_std[at], a = job.weight[c] * s
    cdef double m = _held(job, _sum(job, 0, example, c) / job.positions)
    _x_hat(job, at, -s * job.means[5 * at + 1], a * m - s * job.means[5 * at], coef)
    coef[4] = a
    coef[5] = m


cdef void _jvp_finish(const Job *job, Py_ssize_t example, Py_ssize_t group) noexcept nogil:
    """mean(rx), and R{s} = -s^2*mean(x_hat*rx)."""
    cdef Py_ssize_t c, at = example * job.groups + group, first = group * job.per_group
    cdef double n = <double>job.per_group * job.positions, s = job.inv_std[at]
    cdef double mean = 0, slope = 0
    for c in range(first, first + job.per_group):
        mean += _sum(job, 0, example, c)
        slope += _product(job, 0, example, c)
    job.rmean[at] = mean / n
    job.rinv_std[at] = -s * s * (s * slope / n)


cdef void _jvp_constants(const Job *job, Py_ssize_t example, Py_ssize_t c, double *coef) noexcept nogil:
    """ry = w*P rx + rw*x_hat + rb."""
    cdef Py_ssize_t at = example * job.groups + c // job.per_group
    cdef double s = job.inv_std[at], a = job.weight[c] * s, m = _held(job, job.rmean[at])
    _x_hat(job, at, job.rweight[c] + job.weight[c] * (job.rinv_std[at] / s), job.rbias[c] + a * (m - job.rmean[at]), coef)
    coef[4] = a
    coef[5] = m


cdef void _backward_jvp_finish(const Job *job, Py_ssize_t example, Py_ssize_t group) noexcept nogil:
    """mean(u), mean(u*x_hat), mean(ru), mean(ru*x_hat), mean(u*rx_hat)."""
    cdef Py_ssize_t c, at = example * job.groups + group, first = group * job.per_group
    cdef double n = <double>job.per_group * job.positions, s = job.inv_std[at]
    cdef double slope = -(job.rinv_std[at] / s) / s  # mean(x_hat*rx)
    cdef double w, rw
    cdef double *m = job.means + 5 * at
    memset(m, 0, 5 * sizeof(double))
    for c in range(first, first + job.per_group):
        w, rw = job.weight[c], job.rweight[c]
        m[0] += w * _sum(job, 0, example, c)
        m[1] += w * _product(job, 0, example, c)
        m[2] += rw * _sum(job, 0, example, c) + w * _sum(job, 1, example, c)
        m[3] += rw * _product(job, 0, example, c) + w * _product(job, 1, example, c)
        m[4] += w * _product(job, 2, example, c)
        job.dbias[example * job.channels + c] = _sum(job, 1, example, c)
        job.dweight[example * job.channels + c] = s * (
            (_product(job, 1, example, c) + _product(job, 2, example, c)) - slope * s * _product(job, 0, example, c))
    m[0] /= n
    m[1] *= s / n
    m[2] /= n
    m[3] *= s / n
    m[4] = s * (m[4] / n - slope * m[1])


cdef void _backward_jvp_constants(const Job *job, Py_ssize_t example, Py_ssize_t c, double *coef) noexcept nogil:
    """Sorted by dy, rdy, rx and x_hat; each of the first three is taken about a mean of its own."""
    cdef Py_ssize_t at = example * job.groups + c // job.per_group
    cdef double s = job.inv_std[at], rs = job.rinv_std[at], w = job.weight[c]
    cdef const double *m = job.means + 5 * at
    cdef double a = job.rweight[c] * s + w * rs, a2 = w * s, a3 = -s * m[1]
    cdef double mean = _held(job, _sum(job, 0, example, c) / job.positions)
    cdef double mean2 = _held(job, _sum(job, 1, example, c) / job.positions)
    cdef double mean3 = _held(job, job.rmean[at])
    cdef double constant = (a * mean - rs * m[0]) + (a2 * mean2 - s * m[2]) + a3 * s * (mean3 - job.rmean[at])
    _x_hat(job, at, -s * m[3] - rs * m[1] - s * m[4] + a3 * (rs / s), constant, coef)
    coef[4], coef[5], coef[6], coef[7], coef[8], coef[9] = a, mean, a2, mean2, a3, mean3


# -------------------------------------------------------------------------------------------------------- the schedule
cdef bint _constants(const Job *job, Py_ssize_t example, Py_ssize_t first, Py_ssize_t channels, char *table) noexcept nogil:
    """Write the constants of a tile as the kernels read them; return whether the inputs take powers of 2 first."""
    cdef double coef[(CONSTANTS + OC_MAX_INPUTS) * TILE]
    cdef double each[CONSTANTS]
    cdef Py_ssize_t c, i, group = first // job.per_group, end = (first + channels - 1) // job.per_group + 1
    cdef const double *inv_std = job.inv_std + example * job.groups
    for c in range(channels):
        job.constants(job, example, first + c, each)
        for i in range(job.rows):
            coef[i * TILE + c] = each[i]
    cdef bint scaled = job.dtype != OC_F64 and not (
        oc_all_safe(end - group, inv_std + group) and are_safe(coef, TILE, job.rows, channels))
    for c in range(channels if scaled else 0):
        take_powers(coef + c, TILE, job.rows, inv_std[(first + c) // job.per_group])
    for i in range(job.rows + OC_MAX_INPUTS if scaled else job.rows):
        for c in range(i * TILE, i * TILE + channels):
            if job.dtype == OC_F64:
                (<double *>table)[c] = coef[c]
            else:
                (<float *>table)[c] = <float>coef[c]
    return scaled


cdef void _apply(const Job *job, Py_ssize_t example, Py_ssize_t first, Py_ssize_t channels) noexcept nogil:
    """Write the channels of a tile: all of them at once where they lie side by side, else one run after the other."""
    cdef double room[(CONSTANTS + OC_MAX_INPUTS) * TILE + 8]
    cdef Py_ssize_t offset = _offset(job, example, first), run = job.positions * job.item, c, ahead
    cdef size_t per = 2 if job.dtype == OC_BF16 else 1  # bytes of constants for one of x
    # Constants of channels side by side lie to the cache lines as their results do.
    cdef char *table = <char *>room + (<size_t>(job.out + offset) * per - <size_t>room) % LINE
    cdef bint scaled = _constants(job, example, first, channels, table)
    cdef int i
    if job.form == OC_ROWS:
        _write_block(job, scaled, job.positions, channels, job.channels, offset, table)
        return
    for c in range(channels):
        if job.how & OC_PAST_CACHES:  # memory delivers meanwhile what the next tile takes, but for lines written whole
            ahead = offset + (c + channels) * run
            for i in range(job.n_in):
                oc_ask_for_run(job.ins[i] + ahead, run)
            if run % LINE:
                oc_ask_for_run(job.out + ahead, run)
        _write_block(job, scaled, 1, job.positions, job.positions, offset + c * run,
                     table + c * (8 if job.dtype == OC_F64 else 4))


cdef void _write_block(const Job *job, bint scaled, Py_ssize_t outer, Py_ssize_t inner, Py_ssize_t stride,
                       Py_ssize_t offset, const char *table) noexcept nogil:
    cdef const void *ins[4]
    cdef int i
    for i in range(job.n_in):
        ins[i] = job.ins[i] + offset
    if scaled:
        job.k.norm[job.dtype].scaled[job.form](job.apply, job.n_in, job.rows, outer, inner, stride, ins, table, TILE,
                                               job.out + offset)
    else:
        job.apply(outer, inner, stride, ins, table, TILE, job.out + offset, job.how)


cdef void _task(const void *of, Py_ssize_t task) noexcept nogil:
    cdef const Job *job = <const Job *>of
    cdef Py_ssize_t example = task // job.tasks, group = task % job.tasks * job.per_task
    cdef Py_ssize_t end = min(group + job.per_task, job.groups), g, c
    cdef Py_ssize_t first = group * job.per_group, last = end * job.per_group
    _measure(job, example, first, last - first)
    for g in range(group, end):
        if job.moments:
            _group_moments(job, example, g)
        job.finish(job, example, g)
    c = first
    while c < last:
        _apply(job, example, c, min(<Py_ssize_t>TILE, last - c))
        c += TILE


cdef void _partition(Job *job) noexcept nogil:
    """Tasks of some groups: many share what a call and its constants cost."""
    cdef Py_ssize_t group = job.per_group if job.form == OC_ROWS else job.per_group * job.positions
    job.per_task = max(<Py_ssize_t>1, (PANEL if job.form == OC_ROWS else RUN) // max(<Py_ssize_t>1, group))
    job.tasks = (job.groups + job.per_task - 1) // job.per_task


cdef void _run(const Job *job) noexcept nogil:
    each(_task, job, job.examples * job.tasks, job.examples * job.channels * job.positions)


cdef void _join(Py_ssize_t examples, Py_ssize_t channels, double *sums) noexcept nogil:
    """Add the examples' rows pairwise into the first."""
    cdef Py_ssize_t step = 1, e
    while step < examples:
        e = 0
        while e + step < examples:
            kernels().add_sums(channels, sums + e * channels, sums + (e + step) * channels)
            e += 2 * step
        step *= 2


# ------------------------------------------------------------------------------------------------ for other drivers

cdef Job _job_of(const group_norm *n, Py_ssize_t rows, const char *x, const char *weight, double *saved,
                 double *room) noexcept nogil:
    cdef Job job
    memset(&job, 0, sizeof(Job))
    job.k, job.dtype, job.form, job.item = kernels(), n.dtype, OC_SEGMENTS, 4 if n.dtype == OC_F32 else 8
    job.examples, job.channels, job.positions, job.groups = rows, n.channels, n.positions, n.groups
    job.per_group = n.channels // n.groups
    _partition(&job)
    job.finish, job.eps, job.v[0], job.ins[0], job.weight = _nothing, n.eps, x, x, room
    load(job.weight, vector(<char *>weight, n.dtype), 1, n.channels)
    job.mean, job.rest, job.inv_std = saved, saved + rows * n.groups, saved + 2 * rows * n.groups
    return job


cdef void _write(Job *job, int n_in, char *out, oc_channel_fn *const *apply) noexcept nogil:
    cdef Py_ssize_t values = job.examples * job.channels * job.positions
    job.n_in, job.out, job.apply = n_in, out, apply[job.form]
    job.how = OC_PAST_CACHES if (n_in + 1) * values * job.item > CACHES else 0
    _run(job)


cdef Py_ssize_t group_norm_room(const group_norm *n, Py_ssize_t rows) noexcept nogil:
    return 2 * n.channels + rows * (4 * n.channels + 5 * n.groups)


cdef void run_group_norm(const group_norm *n, Py_ssize_t rows, const char *x, const char *weight, const char *bias, char *y,
                         double *saved, double *room) noexcept nogil:
    cdef Job job = _job_of(n, rows, x, weight, saved, room)
    job.moments, job.bias, job.constants, job.rows = True, room + n.channels, _forward_constants, 3
    load(job.bias, vector(<char *>bias, n.dtype), 0, n.channels)
    _write(&job, 1, y, job.k.norm[n.dtype].normalise)


cdef void run_group_norm_backward(const group_norm *n, Py_ssize_t rows, const char *dy, const char *x, const char *weight,
                                  double *saved, char *dweight, char *dbias, char *dx, double *room) noexcept nogil:
    cdef Job job = _job_of(n, rows, x, weight, saved, room)
    job.n_sums, job.u[0], job.about[0], job.ins[1] = 1, dy, job.mean, dy
    job.sums[0] = room + 2 * n.channels
    job.dweight = job.sums[0] + 2 * rows * n.channels
    job.dbias = job.dweight + rows * n.channels
    job.means = job.dbias + rows * n.channels
    job.finish, job.constants, job.rows = _backward_finish, _backward_constants, 6
    _write(&job, 2, dx, job.k.norm[n.dtype].combine)
    if dweight != NULL:
        _join(rows, n.channels, job.dweight)
        store(vector(dweight, n.dtype), job.dweight, n.channels)
    if dbias != NULL:
        _join(rows, n.channels, job.dbias)
        store(vector(dbias, n.dtype), job.dbias, n.channels)


# ----------------------------------------------------------------------------------------------------------- the calls
cdef class _Call:
    """A job under construction, and the memory that it points into."""
    cdef Job job
    cdef cnp.ndarray x
    cdef list kept

    def __cinit__(self, cnp.ndarray x, Py_ssize_t groups, int channel_axis):
        cdef Job *job = &self.job
        cdef Py_ssize_t i, axis = 1 if channel_axis == 1 else cnp.PyArray_NDIM(x) - 1
        memset(job, 0, sizeof(Job))
        self.x, self.kept = x, []
        job.k, job.dtype, job.item = kernels(), dtype_of(x), cnp.PyArray_ITEMSIZE(x)
        job.examples, job.channels, job.positions, job.groups = cnp.PyArray_DIM(x, 0), cnp.PyArray_DIM(x, axis), 1, groups
        for i in range(1, cnp.PyArray_NDIM(x)):
            if i != axis:
                job.positions *= cnp.PyArray_DIM(x, i)
        job.form = OC_SEGMENTS if channel_axis == 1 else OC_ROWS
        job.per_group = job.channels // groups
        _partition(job)
        job.finish = _nothing

    cdef double *room(self, Py_ssize_t n):
        """So many doubles, to be written."""
        cdef cnp.ndarray a = np.empty(n)
        self.kept.append(a)
        return doubles(a)

    cdef double *channel(self, object a, str name, double otherwise):
        """A parameter in double."""
        cdef cnp.ndarray v = parameter(a, name, (self.job.channels,), "channel")
        cdef double *to = self.room(self.job.channels)
        copied(to, OC_F64, v, otherwise, self.job.channels)
        return to

    cdef Py_ssize_t statistics_size(self) noexcept:
        return self.job.examples * self.job.groups

    cdef int saved(self, object saved) except -1:
        cdef Py_ssize_t n = self.statistics_size()
        self.job.mean = statistic(saved.mean, "saved.mean", n)
        self.job.rest = statistic(saved.mean_rest, "saved.mean_rest", n)
        self.job.inv_std = statistic(saved.inv_std, "saved.inv_std", n)
        return 0

    cdef void pair(self, cnp.ndarray u, cnp.ndarray v, const double *about):
        """Measure the sums of u and of u*(v - about)."""
        cdef int i = self.job.n_sums
        self.job.u[i], self.job.v[i] = <const char *>cnp.PyArray_DATA(u), <const char *>cnp.PyArray_DATA(v)
        self.job.about[i] = about
        self.job.sums[i] = self.room(2 * self.job.examples * self.job.channels)
        self.job.n_sums += 1

    cdef void gradients(self):
        self.job.means = self.room(5 * self.statistics_size())
        self.job.dweight = self.room(self.job.examples * self.job.channels)
        self.job.dbias = self.room(self.job.examples * self.job.channels)

    cdef tuple parameters(self, cnp.ndarray weight):
        """(dweight, dbias)."""
        cdef double *dweight = self.job.dweight
        cdef double *dbias = self.job.dbias
        cdef cnp.ndarray nothing
        if cnp.PyArray_SIZE(self.x):
            _join(self.job.examples, self.job.channels, dweight)
            _join(self.job.examples, self.job.channels, dbias)
        else:
            nothing = np.zeros(self.job.channels)
            dweight = dbias = doubles(nothing)
        shape = (self.job.channels,)
        return stored(dweight, weight, shape, self.x), stored(dbias, weight, shape, self.x)

    cdef void write(self, tuple ins, cnp.ndarray out, oc_channel_fn *const *apply):
        cdef int i, n = len(ins)
        for i in range(n):
            self.job.ins[i] = <const char *>cnp.PyArray_DATA(<cnp.ndarray>ins[i])
        if cnp.PyArray_SIZE(out):
            with nogil:
                _write(&self.job, n, <char *>cnp.PyArray_DATA(out), apply)


cdef tuple _new_statistics(_Call call, int n):
    return tuple([np.zeros((call.job.examples, call.job.groups)) for _ in range(n)])


def forward(x, weight, bias, groups, channel_axis, eps, out):
    """Return (y, mean, mean_rest, inv_std)."""
    cdef cnp.ndarray a = checked_values(x, "x", IN)
    cdef _Call call = _Call(a, groups, channel_axis)
    cdef Job *job = &call.job
    job.weight, job.bias = call.channel(weight, "weight", 1), call.channel(bias, "bias", 0)
    job.eps = at_least_zero(eps, "eps")
    cdef cnp.ndarray y = output_like(out, a)
    apart(y, [("x", a), ("weight", weight), ("bias", bias)])
    mean, rest, inv_std = _new_statistics(call, 3)
    job.mean, job.rest, job.inv_std = doubles(mean), doubles(rest), doubles(inv_std)
    job.moments, job.v[0] = True, <const char *>cnp.PyArray_DATA(a)
    if job.form == OC_ROWS:
        job.sums[0] = call.room(3 * job.examples * job.channels)
    job.constants, job.rows = _forward_constants, 3
    call.write((a,), y, job.k.norm[job.dtype].normalise)
    return y, mean, rest, inv_std


def backward(dy, x, weight, saved, groups, channel_axis, out):
    """Return (dx, dweight, dbias)."""
    cdef cnp.ndarray a = checked_values(x, "x", IN)
    cdef cnp.ndarray g = input_like(dy, "dy", a)
    cdef _Call call = _Call(a, groups, channel_axis)
    cdef Job *job = &call.job
    call.saved(saved)
    job.weight = call.channel(weight, "weight", 1)
    cdef cnp.ndarray dx = output_like(out, a)
    apart(dx, [("x", a), ("dy", g), ("weight", weight)])
    call.pair(g, a, job.mean)
    call.gradients()
    job.finish, job.constants, job.rows = _backward_finish, _backward_constants, 6
    call.write((a, g), dx, job.k.norm[job.dtype].combine)
    return dx, *call.parameters(weight)


def jvp(x, weight, saved, rx, rweight, rbias, groups, channel_axis):
    """Return (ry, rmean, rinv_std)."""
    cdef cnp.ndarray a = checked_values(x, "x", IN)
    cdef cnp.ndarray r = input_like(rx, "rx", a)
    cdef _Call call = _Call(a, groups, channel_axis)
    cdef Job *job = &call.job
    call.saved(saved)
    job.weight, job.rweight = call.channel(weight, "weight", 1), call.channel(rweight, "rweight", 0)
    job.rbias = call.channel(rbias, "rbias", 0)
    cdef cnp.ndarray ry = output_like(None, a)
    rmean, rinv_std = _new_statistics(call, 2)
    job.rmean, job.rinv_std = doubles(rmean), doubles(rinv_std)
    call.pair(r, a, job.mean)
    job.finish, job.constants, job.rows = _jvp_finish, _jvp_constants, 6
    call.write((a, r), ry, job.k.norm[job.dtype].combine)
    return ry, rmean, rinv_std


def backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved, groups, channel_axis):
    """Return (rdx, rdweight, rdbias)."""
    cdef cnp.ndarray a = checked_values(x, "x", IN)
    cdef cnp.ndarray g = input_like(dy, "dy", a)
    cdef cnp.ndarray rg = input_like(rdy, "rdy", a)
    cdef cnp.ndarray r = input_like(rx, "rx", a)
    cdef _Call call = _Call(a, groups, channel_axis)
    cdef Job *job = &call.job
    call.saved(saved)
    job.weight, job.rweight = call.channel(weight, "weight", 1), call.channel(rweight, "rweight", 0)
    job.rmean = statistic(rsaved.mean, "rsaved.mean", call.statistics_size())
    job.rinv_std = statistic(rsaved.inv_std, "rsaved.inv_std", call.statistics_size())
    cdef cnp.ndarray rdx = output_like(None, a)
    call.pair(g, a, job.mean)
    call.pair(rg, a, job.mean)
    call.pair(g, r, job.rmean)
    call.gradients()
    job.finish, job.constants, job.rows = _backward_jvp_finish, _backward_jvp_constants, 10
    call.write((a, g, rg, r), rdx, job.k.norm[job.dtype].combine3)
    return rdx, *call.parameters(weight)
