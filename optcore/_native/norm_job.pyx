"""A job of channels.pyx for a batch norm, step by step and without Python: its memory, its measures, the constants that
they become, and the write. norm.pyx and weight.pyx build their jobs so, and a compiled network its own.
"""
from libc.math cimport sqrt
from libc.string cimport memcpy, memset

from optcore._native.c cimport (
    OC_F32, OC_F64, OC_FROM_MEMORY, OC_MAX_INPUTS, OC_PAST_CACHES, oc_all_safe, oc_channel_fn,
)
from optcore._native.channels cimport CHUNKS, SLOTS, Job, Measure, Plan, publish, run, wrapped
from optcore._native.core cimport kernels
from optcore._native.norm_arrays cimport CACHES, LINE

cdef enum:
    VECTORS = 13  # the per-channel arrays of a job, mean to dbias
    AHEAD = 10 << 20  # bytes that a pass reads from which it asks for them ahead


# ------------------------------------------------------------------------------------ the constants of one channel
# In double; n is the number of the channel's values, s its inv_std, x_hat = (x - mean)*s. src_c/optcore.h lists the rows of
# constants that the element-wise kernels take.
cdef void put(Job *job, Py_ssize_t row, Py_ssize_t c, double value) noexcept nogil:
    job.constants[row * job.p.channels + c] = value


cdef inline double _rounding(Job *job, double value) noexcept nogil:
    """What is lost when the dtype holds the value."""
    return value - <double><float>value if job.p.dtype != OC_F64 else 0


cdef inline double _low(Job *job, Py_ssize_t c) noexcept nogil:
    """What the dtype's mean lacks of the mean."""
    return _rounding(job, job.mean[c]) + job.rest[c]


cdef inline double _sum(Job *job, int m, Py_ssize_t c) noexcept nogil:
    return job.measures[m].result[c]


cdef inline double _product(Job *job, int m, Py_ssize_t c) noexcept nogil:
    """The sum of u*x_hat, from the sum of u*(v - mean)."""
    cdef double *r = job.measures[m].result
    return (r[job.p.channels + c] - (job.rest[c] * r[c] if m < 2 else 0)) * job.inv_std[c]


cdef inline double _clipped(double value, double low, double high) noexcept nogil:
    """Which fmin and fmax are not: they take NaN for no value."""
    return low if value < low else high if value > high else value


cdef void finish_renorm(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """y = w*(x_hat*r + d) + b, with r and d the ratio of the deviations and the distance of the means, clipped."""
    cdef double run_std
    cdef Py_ssize_t c
    for c in range(first, end):
        run_std = sqrt(job.run_var[c] + job.eps)
        job.r[c] = _clipped(sqrt(job.var[c] + job.eps) / run_std, 1 / job.r_max, job.r_max)
        job.d[c] = _clipped((job.mean[c] - job.run_mean[c]) / run_std, -job.d_max, job.d_max)
        job.bias[c] += job.weight[c] * job.d[c]
        job.weight[c] *= job.r[c]
    finish_forward(job, first, end)


cdef void _constants_of_output(Job *job, Py_ssize_t first, Py_ssize_t end, Py_ssize_t scale) noexcept nogil:
    """Rows 0, `scale` and the one after it, of w*x_hat + b."""
    cdef double *row = job.constants + scale * job.p.channels + first
    job.k.forward_constants(end - first, job.p.dtype != OC_F64, job.mean + first, job.rest + first, job.inv_std + first,
                            job.weight + first, job.bias + first, job.constants + first, row, row + job.p.channels)


cdef void finish_forward(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    _constants_of_output(job, first, end, 1)


cdef void combine(Job *job, Py_ssize_t c, double b, double constant, double a, double m) noexcept nogil:
    """The constants of a*(u - m) + b*x_hat + constant."""
    put(job, 0, c, job.mean[c])
    put(job, 1, c, job.inv_std[c])
    put(job, 2, c, b)
    put(job, 3, c, constant - b * job.inv_std[c] * _low(job, c) - a * _rounding(job, m))
    put(job, 4, c, a)
    put(job, 5, c, m)


cdef void finish_backward(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """dx = w*s*(dy - mean(dy) - x_hat*mean(dy*x_hat))."""
    job.k.backward_constants(end - first, job.p.dtype != OC_F64, job.p.count, job.mean + first, job.rest + first,
                             job.inv_std + first, job.weight + first, job.measures[0].result + first,
                             job.dweight + first, job.dbias + first, job.constants + first, job.p.channels)


cdef void finish_backward_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """dx = w*s*dy."""
    cdef Py_ssize_t c
    for c in range(first, end):
        job.dbias[c] = _sum(job, 0, c)
        job.dweight[c] = _product(job, 0, c)
        put(job, 0, c, 0)
        put(job, 1, c, job.weight[c] * job.inv_std[c])
        put(job, 2, c, 0)


cdef void finish_jvp(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """ry = w*s*(rx - mean(rx) - x_hat*mean(x_hat*rx)) + rw*x_hat + rb; the R-operator of s is -s^2*mean(x_hat*rx)."""
    cdef double a, slope
    cdef Py_ssize_t c
    for c in range(first, end):
        a = job.weight[c] * job.inv_std[c]
        slope = _product(job, 0, c) / job.p.count
        job.rmean[c] = _sum(job, 0, c) / job.p.count
        job.rinv_std[c] = -job.inv_std[c] * job.inv_std[c] * slope
        combine(job, c, job.rweight[c] - a * slope, job.rbias[c], a, job.rmean[c])


cdef void finish_jvp_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """ry = w*s*rx + rw*x_hat + rb."""
    cdef Py_ssize_t c
    for c in range(first, end):
        combine(job, c, job.rweight[c], job.rbias[c], job.weight[c] * job.inv_std[c], 0)


cdef void finish_backward_jvp(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """The backward pass, differentiated. With r the R-operator and rx_hat = s*(rx - mean(rx) - x_hat*mean(x_hat*rx)),

        rdx = r(w*s)*(dy - mean(dy) - x_hat*k) + w*s*(rdy - mean(rdy) - rx_hat*k - x_hat*rk)
        k = mean(dy*x_hat),  rk = mean(rdy*x_hat) + mean(dy*rx_hat)
    """
    cdef double s, rmean, k, slope, rk, a, ra, constant, n = job.p.count
    cdef Py_ssize_t c
    for c in range(first, end):
        s = job.inv_std[c]
        rmean = _sum(job, 1, c) / n
        k = _product(job, 0, c) / n
        slope = -(job.rinv_std[c] / s) / s
        rk = (_product(job, 1, c) + _product(job, 2, c)) / n - s * slope * k
        a = job.weight[c] * s
        ra = job.rweight[c] * s + job.weight[c] * job.rinv_std[c]
        constant = a * k * s * _rounding(job, job.rmean[c]) - a * _rounding(job, rmean)
        job.dbias[c] = _sum(job, 1, c)
        job.dweight[c] = n * rk
        combine(job, c, a * (s * slope * k - rk) - ra * k, constant, ra, _sum(job, 0, c) / n)
        put(job, 6, c, a)
        put(job, 7, c, rmean)
        put(job, 8, c, -a * k)
        put(job, 9, c, job.rmean[c])


cdef void finish_backward_jvp_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """rdx = s*(rw*dy + w*rdy)."""
    cdef Py_ssize_t c, row
    for c in range(first, end):
        job.dbias[c] = _sum(job, 1, c)
        job.dweight[c] = _product(job, 1, c) + _product(job, 2, c)
        for row in range(10):
            put(job, row, c, 0)
        put(job, 4, c, job.rweight[c] * job.inv_std[c])
        put(job, 6, c, job.weight[c] * job.inv_std[c])


# ---------------------------------------------------------------------------------------------- one value a channel
cdef void load(double *to, vector a, double otherwise, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if a.data == NULL:
        for i in range(n):
            to[i] = otherwise
    elif a.dtype == OC_F32:
        for i in range(n):
            to[i] = (<const float *>a.data)[i]
    else:
        memcpy(to, a.data, n * sizeof(double))


cdef void store(vector a, const double *values, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    if a.dtype == OC_F32:
        for i in range(n):
            (<float *>a.data)[i] = <float>values[i]
    else:
        memcpy(a.data, values, n * sizeof(double))


cdef void _blend(vector a, double keep, double add, const double *values, Py_ssize_t n) noexcept nogil:
    """a <- keep*a + add*values, in double."""
    cdef Py_ssize_t i
    cdef float *f = <float *>a.data
    cdef double *d = <double *>a.data
    if a.dtype == OC_F32:
        for i in range(n):
            f[i] = <float>(keep * f[i] + add * values[i])
    else:
        for i in range(n):
            d[i] = keep * d[i] + add * values[i]


cdef void follow(const Job *job, vector mean, vector var, double new, bint unbiased) noexcept nogil:
    cdef double n = job.p.count
    if mean.data != NULL:
        _blend(mean, 1 - new, new, job.mean, job.p.channels)
    if var.data != NULL:
        _blend(var, 1 - new, new * (n / (n - 1)) if unbiased else new, job.var, job.p.channels)


# ------------------------------------------------------------------------------------------------- a job, step by step
cdef Py_ssize_t _row_of_constants(const Plan *p) noexcept nogil:
    """Odd in cache lines: rows a power of two apart would share few sets of the cache."""
    return ((p.width * p.number + wrapped(p)) // LINE + 1 | 1) * LINE // p.number


cdef Py_ssize_t room_of(const Plan *p, int measures, int rows) noexcept nogil:
    rows += OC_MAX_INPUTS  # of powers, behind them
    return ((VECTORS + measures * SLOTS + rows) * p.channels
            + measures * (min(p.blocks, <Py_ssize_t>CHUNKS) * SLOTS + 1) * p.width
            + rows * _row_of_constants(p) * p.number // 8 + LINE // 4)


cdef inline double *_take(Job *job, Py_ssize_t n) noexcept nogil:
    job.free += n
    return job.free - n


cdef void begin(Job *job, Plan p, int rows, const void *x, double *room) noexcept nogil:
    cdef Py_ssize_t channels = p.channels
    memset(job, 0, sizeof(Job))
    job.p, job.k, job.free, job.ld = p, kernels(), room, _row_of_constants(&p)
    job.mean, job.rest, job.inv_std = _take(job, channels), _take(job, channels), _take(job, channels)
    job.m2, job.var = _take(job, channels), _take(job, channels)
    job.weight, job.bias = _take(job, channels), _take(job, channels)
    job.rmean, job.rinv_std = _take(job, channels), _take(job, channels)
    job.rweight, job.rbias = _take(job, channels), _take(job, channels)
    job.dweight, job.dbias = _take(job, channels), _take(job, channels)
    job.rows, job.constants = rows, _take(job, (rows + OC_MAX_INPUTS) * channels)
    # They lie to the cache lines as x does.
    cdef size_t skew = (<size_t>x * (p.number // p.item) - <size_t>job.free) % LINE
    job.coef = <char *>_take(job, ((rows + OC_MAX_INPUTS) * job.ld * p.number + LINE) // 8) + skew


cdef void clear(Job *job) noexcept nogil:
    memset(job.mean, 0, VECTORS * job.p.channels * sizeof(double))


cdef void measure(Job *job, const void *u, const void *v, const double *mean) noexcept nogil:
    cdef Plan *p = &job.p
    cdef Measure *m = &job.measures[job.n_measures]
    cdef Py_ssize_t fold
    m.v = <const char *>v
    m.partial = _take(job, p.chunks * p.width * SLOTS)
    m.result = _take(job, SLOTS * p.channels)
    if not p.blocks and not p.tail:
        memset(m.result, 0, SLOTS * p.channels * sizeof(double))
    job.n_measures += 1
    if u == NULL:
        return
    cdef double *centre = _take(job, p.width)
    m.u, m.mean = <const char *>u, mean if p.fold == 1 else centre
    for fold in range(p.fold if p.fold > 1 else 0):
        memcpy(centre + fold * p.channels, mean, p.channels * sizeof(double))


cdef void gate(Job *job, const void *y, void *kept) noexcept nogil:
    cdef Measure *m = &job.measures[job.n_measures - 1]
    m.gated = True
    m.gate, m.kept = <char *>y, <char *>kept


cdef bint remake(Job *job) noexcept nogil:
    cdef Py_ssize_t n = job.p.channels
    _constants_of_output(job, 0, n, 6)
    if job.p.dtype != OC_F64 and not (oc_all_safe(n, job.inv_std) and oc_all_safe(n, job.constants + 6 * n)):
        return False
    publish(job, 0, 1, 0, n)
    publish(job, 6, 8, 0, n)
    gate(job, NULL, NULL)
    return True


cdef void evaluate_with(Job *job, vector mean, vector var) noexcept nogil:
    cdef Py_ssize_t c
    load(job.mean, mean, 0, job.p.channels)
    load(job.var, var, 0, job.p.channels)
    memset(job.rest, 0, job.p.channels * sizeof(double))
    for c in range(job.p.channels):
        job.inv_std[c] = 1 / sqrt(job.var[c] + job.eps)


cdef void write(Job *job, int n_in, void *out, oc_channel_fn *apply) noexcept nogil:
    job.n_in, job.out, job.apply = n_in, <char *>out, apply
    cdef Py_ssize_t size = job.p.count * job.p.channels * job.p.item
    job.how = ((OC_PAST_CACHES if (n_in + 1) * size > CACHES else 0)
               | (OC_FROM_MEMORY if n_in * size > AHEAD else 0))
    run(job)
