"""Batch normalization: the argument checks, and the constants of each channel.

The four functions (forward, backward, and the R-operator of both) are one job of channels.pyx: measure every channel
(its moments, or up to three pairs of sums), turn the measures into the channel's constants, and write an element-wise
result with them. weight.pyx builds its jobs the same way.
"""
cimport numpy as cnp
from libc.math cimport sqrt
from libc.stdint cimport INT64_MAX, int64_t
from libc.string cimport memcpy, memset
from optcore._native.arrays cimport (
    IN, OUT, checked, checked_index, disjoint, dtype_of, has_size, is_bf16, type_of_numbers,
)
from optcore._native.c cimport (
    OC_F32, OC_F64, OC_FROM_MEMORY, OC_MAX_INPUTS, OC_PAST_CACHES, OC_ROWS, oc_all_safe, oc_channel_fn, oc_norm_kernels,
)
from optcore._native.channels cimport CHUNKS, SLOTS, Job, Measure, Plan, plan, publish, run, wrapped
from optcore._native.core cimport kernels
from optcore._native.norm_arrays cimport (
    CACHES, LINE, at_least_zero, checked_values, integer, like, output_like, real_number,
)

import math

import numpy as np

from optcore._native.functional import activation_backward

cnp.import_array()


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


cdef void _finish_renorm(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
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


cdef void _finish_backward_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """dx = w*s*dy."""
    cdef Py_ssize_t c
    for c in range(first, end):
        job.dbias[c] = _sum(job, 0, c)
        job.dweight[c] = _product(job, 0, c)
        put(job, 0, c, 0)
        put(job, 1, c, job.weight[c] * job.inv_std[c])
        put(job, 2, c, 0)


cdef void _finish_jvp(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """ry = w*s*(rx - mean(rx) - x_hat*mean(x_hat*rx)) + rw*x_hat + rb; the R-operator of s is -s^2*mean(x_hat*rx)."""
    cdef double a, slope
    cdef Py_ssize_t c
    for c in range(first, end):
        a = job.weight[c] * job.inv_std[c]
        slope = _product(job, 0, c) / job.p.count
        job.rmean[c] = _sum(job, 0, c) / job.p.count
        job.rinv_std[c] = -job.inv_std[c] * job.inv_std[c] * slope
        combine(job, c, job.rweight[c] - a * slope, job.rbias[c], a, job.rmean[c])


cdef void _finish_jvp_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """ry = w*s*rx + rw*x_hat + rb."""
    cdef Py_ssize_t c
    for c in range(first, end):
        combine(job, c, job.rweight[c], job.rbias[c], job.weight[c] * job.inv_std[c], 0)


cdef void _finish_backward_jvp(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
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


cdef void _finish_backward_jvp_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """rdx = s*(rw*dy + w*rdy)."""
    cdef Py_ssize_t c, row
    for c in range(first, end):
        job.dbias[c] = _sum(job, 1, c)
        job.dweight[c] = _product(job, 1, c) + _product(job, 2, c)
        for row in range(10):
            put(job, row, c, 0)
        put(job, 4, c, job.rweight[c] * job.inv_std[c])
        put(job, 6, c, job.weight[c] * job.inv_std[c])


# --------------------------------------------------------------------------------------------------------- the checks
cdef cnp.ndarray _input(object x, str name):
    cdef cnp.ndarray a = checked_values(x, name, IN)
    if cnp.PyArray_NDIM(a) < 2:
        raise ValueError(f"{name}: expected at least 2 dimensions, got shape {tuple((<object>a).shape)}")
    return a


cdef int _all_disjoint(list written, list read) except -1:
    """Every array that is written has memory of its own. Both are lists of (name, array or None)."""
    cdef Py_ssize_t i
    cdef tuple one, other
    for i in range(len(written)):
        one = <tuple>written[i]
        if one[1] is None:
            continue
        for other in written[:i] + read:
            if other[1] is not None:
                disjoint(<cnp.ndarray>one[1], <str>one[0], <cnp.ndarray>other[1], <str>other[0])
    return 0


cdef cnp.ndarray per_channel(object a, str name, Py_ssize_t channels, int intent=IN):
    """One value per channel, float32 or float64 whatever x is; None stays None."""
    if a is None:
        return None
    cdef cnp.ndarray v = checked(a, name, intent)
    has_size(v, name, channels, "channel")
    return v


cdef double _number(object value, str name, double low, double high) except? -1:
    cdef double number = real_number(value, name)
    if not low <= number <= high:
        raise ValueError(f"{name}: expected {low:g} <= {name} <= {high:g}, got {value}")
    return number


cdef cnp.ndarray _counter(object a):
    if a is None:
        return None
    cdef cnp.ndarray n = checked_index(a, "num_batches")
    if cnp.PyArray_SIZE(n) != 1:
        raise ValueError(f"num_batches: expected one element, got shape {tuple((<object>n).shape)}")
    if not cnp.PyArray_ISWRITEABLE(n):
        raise ValueError("num_batches: expected a writable array, got a read-only one")
    cdef int64_t seen = (<int64_t *>cnp.PyArray_DATA(n))[0]
    if not 0 <= seen < INT64_MAX:  # one more batch has to fit
        raise ValueError(f"num_batches: expected 0 <= num_batches < 2**63 - 1, got {seen}")
    return n


# ---------------------------------------------------------------------------------------------------------- the calls
cdef enum:
    VECTORS = 13  # the per-channel arrays of a job, mean to dbias
    # Bytes that a pass over rows reads from which they are asked for ahead, and from which the result goes past the
    # caches: all of it is read again before it is written. Channels first it is CACHES.
    AHEAD = 10 << 20
    PAST = 14 << 20



cdef vector whole(cnp.ndarray a) noexcept:
    return vector(NULL, OC_F32) if a is None else vector(cnp.PyArray_DATA(a), dtype_of(a))


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


cdef cnp.ndarray _array(const double *values, cnp.npy_intp n, int typenum):
    cdef cnp.ndarray a = cnp.PyArray_EMPTY(1, &n, typenum, 0)
    store(whole(a), values, n)
    return a


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
    memset(room, 0, VECTORS * channels * sizeof(double))  # the rest is written before it is read
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


cdef void measure(Job *job, const void *u, const void *v, const double *mean) noexcept nogil:
    cdef Plan *p = &job.p
    cdef Measure *m = &job.measures[job.n_measures]
    cdef Py_ssize_t fold
    m.v = <const char *>v
    m.partial = _take(job, p.chunks * p.width * SLOTS)
    m.result = _take(job, SLOTS * p.channels)
    memset(m.result, 0, SLOTS * p.channels * sizeof(double))  # of no values
    job.n_measures += 1
    if u == NULL:
        return
    cdef double *centre = _take(job, p.width)
    m.u, m.mean = <const char *>u, centre
    for fold in range(p.fold):
        memcpy(centre + fold * p.channels, mean, p.channels * sizeof(double))


cdef void gate(Job *job, const void *y, void *kept) noexcept nogil:
    cdef Measure *m = &job.measures[job.n_measures - 1]
    m.gated = True
    m.gate, m.kept = <char *>y, <char *>kept
    if y != NULL:
        return
    memset(job.constants, 0, job.rows * job.p.channels * sizeof(double))
    _constants_of_output(job, 0, job.p.channels, 6)
    publish(job, 0, job.p.channels, False)


cdef void evaluate_with(Job *job, vector mean, vector var) noexcept nogil:
    cdef Py_ssize_t c
    load(job.mean, mean, 0, job.p.channels)
    load(job.var, var, 0, job.p.channels)
    for c in range(job.p.channels):
        job.inv_std[c] = 1 / sqrt(job.var[c] + job.eps)


cdef void write(Job *job, int n_in, void *out, oc_channel_fn *apply) noexcept nogil:
    job.n_in, job.out, job.apply = n_in, <char *>out, apply
    cdef Py_ssize_t size = job.p.count * job.p.channels * job.p.item
    if job.p.form == OC_ROWS:
        job.how = (OC_PAST_CACHES if n_in * size > PAST else 0) | (OC_FROM_MEMORY if n_in * size > AHEAD else 0)
    else:
        job.how = OC_PAST_CACHES if (n_in + 1) * size > CACHES else 0
    run(job)


cdef class Call:
    """A job under construction, and the memory that it points into."""

    def __cinit__(self, cnp.ndarray x, Py_ssize_t channels, Py_ssize_t inner, int measures, int rows):
        cdef Plan p = plan(cnp.PyArray_SIZE(x) // max(1, channels * inner), channels, inner, dtype_of(x))
        cdef cnp.npy_intp room = room_of(&p, measures, rows)
        self.x = x
        self.arena = cnp.PyArray_EMPTY(1, &room, cnp.NPY_FLOAT64, 0)
        begin(&self.job, p, rows, cnp.PyArray_DATA(x), <double *>cnp.PyArray_DATA(self.arena))

    cdef int correct(self) except -1:
        """Room for what a batch renormalization has beside."""
        cdef Job *job = &self.job
        cdef Py_ssize_t channels = job.p.channels
        cdef cnp.npy_intp room = 4 * channels
        self.more = cnp.PyArray_ZEROS(1, &room, cnp.NPY_FLOAT64, 0)
        job.r = <double *>cnp.PyArray_DATA(self.more)
        job.d, job.run_mean, job.run_var = job.r + channels, job.r + 2 * channels, job.r + 3 * channels
        return 0

    cdef void measure(self, cnp.ndarray u, cnp.ndarray v, double *mean) noexcept:
        measure(&self.job, NULL if u is None else cnp.PyArray_DATA(u), cnp.PyArray_DATA(v), mean)

    cdef void gate(self, cnp.ndarray y, cnp.ndarray kept) noexcept:
        gate(&self.job, NULL if y is None else cnp.PyArray_DATA(y), NULL if kept is None else cnp.PyArray_DATA(kept))

    cdef int measure_only(self) except -1:
        """Run the job, which writes nothing."""
        with nogil:
            run(&self.job)
        return 0

    cdef int write(self, tuple ins, cnp.ndarray out, oc_channel_fn *apply) except -1:
        """Run the job: element-wise results from `ins` to `out`."""
        cdef Py_ssize_t i
        cdef int i_in = len(ins)
        for i in range(i_in):
            self.job.ins[i] = <const char *>cnp.PyArray_DATA(<cnp.ndarray>ins[i])
        with nogil:
            write(&self.job, i_in, cnp.PyArray_DATA(out), apply)
        return 0

    cdef cnp.ndarray vector(self, const double *values, cnp.ndarray like):
        """A new per-channel array in the dtype of `like`; of x where that is None."""
        return _array(values, self.job.p.channels, type_of_numbers(self.x if like is None else like))

    cdef cnp.ndarray doubles(self, const double *values):
        return _array(values, self.job.p.channels, cnp.NPY_FLOAT64)

    cdef void load(self, double *to, cnp.ndarray a, double otherwise) noexcept:
        load(to, whole(a), otherwise, self.job.p.channels)

    cdef bint statistics(self, object saved, object running_mean, object running_var, object eps) except -1:
        """Set mean and inv_std from `saved` (return True), or in evaluation from the running buffers."""
        cdef Py_ssize_t channels = self.job.p.channels
        cdef Job *job = &self.job
        if saved is not None:
            self.load(job.mean, per_channel(saved.mean, "saved.mean", channels), 0)
            self.load(job.rest, per_channel(saved.mean_rest, "saved.mean_rest", channels), 0)
            self.load(job.inv_std, per_channel(saved.inv_std, "saved.inv_std", channels), 0)
            return True
        job.eps = at_least_zero(eps, "eps")
        evaluate_with(job, whole(_required(running_mean, "running_mean", channels)),
                      whole(_required(running_var, "running_var", channels)))
        return False


cdef Call _call(cnp.ndarray x, object channel_axis, int measures, int rows):
    cdef Py_ssize_t inner = 1, i
    cdef Py_ssize_t axis = integer(channel_axis, "channel_axis")
    if axis != 1 and axis != -1:
        raise ValueError(f"channel_axis: expected 1 or -1, got {channel_axis!r}")
    if axis == 1:
        for i in range(2, cnp.PyArray_NDIM(x)):
            inner *= cnp.PyArray_DIM(x, i)
    return Call(x, cnp.PyArray_DIM(x, 1 if axis == 1 else cnp.PyArray_NDIM(x) - 1), inner, measures, rows)


cdef cnp.ndarray _required(object a, str name, Py_ssize_t channels, str what="evaluation normalises with"):
    if a is None:
        raise ValueError(f"{name}: expected the running statistics that {what}, got None")
    return per_channel(a, name, channels)


cdef double _weight_of_new(object momentum, object momentum_on, object batches) except? -1:
    """The weight of a batch's statistics in the running ones; that of the cumulative average is known later."""
    if momentum_on != "new" and momentum_on != "old":
        raise ValueError(f"momentum_on: expected 'new' or 'old', got {momentum_on!r}")
    if momentum is None:
        return 0
    cdef double weight = _number(momentum, "momentum", 0, 1)
    return weight if momentum_on == "new" else 1 - weight


cdef bint _flag(object value, str name) except -1:
    if value is not True and value is not False and not isinstance(value, np.bool_):
        raise TypeError(f"{name}: expected True or False, got {value!r}")
    return value


cdef bint _rectified(object activation) except -1:
    if activation is not None and activation != "relu":
        raise ValueError(f"activation: expected None or 'relu', got {activation!r}")
    return activation is not None


cdef oc_channel_fn *_normalise(const oc_norm_kernels *k, int form, bint added, bint rectified) noexcept:
    if added:
        return k.normalise_add_relu[form] if rectified else k.normalise_add[form]
    return k.normalise_relu[form] if rectified else k.normalise[form]


def forward(x, weight, bias, running_mean, running_var, training, momentum, eps, channel_axis, out=None,
            num_batches=None, residual=None, activation=None, unbiased=True, momentum_on="new", limits=None):
    """Return (y, mean, mean_rest, inv_std, r, d), all but y None in evaluation.

    With `limits`, a pair (r_max, d_max), in training: batch renormalization; r and d are None without.
    """
    cdef cnp.ndarray a = _input(x, "x")
    cdef bint train = _flag(training, "training"), bessel = _flag(unbiased, "unbiased")
    cdef bint renorm = train and limits is not None
    cdef Call call = _call(a, channel_axis, 1 if train else 0, 3)
    cdef Job *job = &call.job
    cdef Py_ssize_t channels = job.p.channels
    cdef cnp.ndarray mean = per_channel(running_mean, "running_mean", channels, OUT if train else IN)
    cdef cnp.ndarray var = per_channel(running_var, "running_var", channels, OUT if train else IN)
    cdef cnp.ndarray w = per_channel(weight, "weight", channels)
    cdef cnp.ndarray b = per_channel(bias, "bias", channels)
    cdef cnp.ndarray batches = _counter(num_batches)
    cdef cnp.ndarray added = None if residual is None else like(residual, "residual", a, IN)
    cdef bint rectified = _rectified(activation)
    cdef oc_channel_fn *apply = _normalise(&job.k.norm[job.p.dtype], job.p.form, added is not None, rectified)
    cdef double new = _weight_of_new(momentum, momentum_on, batches)
    job.eps = at_least_zero(eps, "eps")
    if limits is not None:
        job.r_max, job.d_max = _number(limits[0], "r_max", 1, math.inf), _number(limits[1], "d_max", 0, math.inf)
    if train:
        if momentum is None and batches is None and (mean is not None or var is not None):
            raise ValueError("num_batches: expected the number of batches that the cumulative average "
                             "(momentum=None) is over so far, got None")
        if job.p.count < 2 and channels:
            raise ValueError(f"x: expected at least 2 values per channel in training, got {job.p.count}")
    else:
        call.statistics(None, running_mean, running_var, eps)
    if renorm:
        call.correct()
        call.load(job.run_mean, _required(running_mean, "running_mean", channels, "r and d are measured by"), 0)
        call.load(job.run_var, _required(running_var, "running_var", channels, "r and d are measured by"), 0)
    cdef cnp.ndarray y = output_like(out, a)
    cdef list buffers = [("running_mean", mean), ("running_var", var), ("num_batches", batches)]
    cdef list read = [("x", a), ("weight", w), ("bias", b), ("residual", added)]
    if train:
        _all_disjoint(buffers, read)
    if out is not None:
        _all_disjoint([("out", y)], buffers + read)
    call.load(job.weight, w, 1)
    call.load(job.bias, b, 0)
    job.finish = _finish_renorm if renorm else finish_forward
    if train:
        call.measure(None, a, NULL)
    call.write((a,) if added is None else (a, added), y, apply)
    if not train:
        return y, None, None, None, None, None
    if batches is not None:
        (<int64_t *>cnp.PyArray_DATA(batches))[0] += 1
        if momentum is None:
            new = 1.0 / (<int64_t *>cnp.PyArray_DATA(batches))[0]
    follow(job, whole(mean), whole(var), new, bessel)
    return (y, call.doubles(job.mean), call.doubles(job.rest), call.doubles(job.inv_std),
            call.doubles(job.r) if renorm else None, call.doubles(job.d) if renorm else None)


cdef bint _remakes(Job *job) noexcept:
    """Whether the kernels can make the output again from x: the dtype holds what they do it with."""
    cdef Py_ssize_t c
    if job.p.dtype == OC_F64:
        return True
    for c in range(job.p.channels):
        put(job, 6, c, job.weight[c] * job.inv_std[c])
    return oc_all_safe(job.p.channels, job.inv_std) and oc_all_safe(job.p.channels, job.constants + 6 * job.p.channels)


def backward(dy, x, weight, saved, running_mean, running_var, eps, channel_axis, out=None, y=None, dresidual=None):
    """Return (dx, dweight, dbias). A ReLU after the forward pass is undone from y, or from `saved.bias`."""
    cdef cnp.ndarray a = _input(x, "x")
    cdef cnp.ndarray g = like(dy, "dy", a, IN)
    cdef bint self_gated = y is None and saved is not None and saved.bias is not None
    cdef Call call = _call(a, channel_axis, 1, 3 if saved is None else 8 if self_gated else 6)
    cdef Job *job = &call.job
    cdef bint training = call.statistics(saved, running_mean, running_var, eps)
    cdef cnp.ndarray w = per_channel(weight, "weight", job.p.channels)
    cdef cnp.ndarray gate = None if y is None else like(y, "y", a, IN)
    cdef cnp.ndarray kept = None if dresidual is None else like(dresidual, "dresidual", a, OUT)
    cdef cnp.ndarray dx = output_like(out, a)
    cdef const oc_norm_kernels *k = &job.k.norm[job.p.dtype]
    cdef int form = job.p.form
    if kept is not None and gate is None:
        raise ValueError("dresidual: expected y with it; without a ReLU the gradient of the residual is dy itself")
    _all_disjoint([("dresidual", kept), ("out", None if out is None else dx)],
                  [("x", a), ("dy", g), ("weight", w), ("y", gate)])
    call.load(job.weight, w, 1)
    call.measure(g, a, job.mean)
    if self_gated and not _remakes(job):
        gate, self_gated = _signs(_gate(None, _wide(a), weight, saved, channel_axis), a), False
    if self_gated:
        call.load(job.bias, per_channel(saved.bias, "saved.bias", job.p.channels), 0)
    if self_gated or gate is not None:
        call.gate(gate, kept)
    if kept is not None:  # the ReLU has been passed when dx is computed
        g, gate = kept, None
    job.finish = finish_backward if training else _finish_backward_evaluation
    if self_gated:
        call.write((a, g), dx, k.combine_self_gated[form])
    elif training and gate is not None:
        call.write((a, g, gate), dx, k.combine_gated[form])
    elif training:
        call.write((a, g), dx, k.combine[form])
    elif gate is not None:
        call.write((g, gate), dx, k.normalise_gated[form])
    else:
        call.write((g,), dx, k.normalise[form])
    return dx, call.vector(job.dweight, w), call.vector(job.dbias, w)


# The R-operators of the fused forms take the passes one by one: nothing in training waits for them.
cdef cnp.ndarray _gate(cnp.ndarray y, cnp.ndarray x, object weight, object saved, object channel_axis):
    """What the ReLU after the forward pass let pass is positive here: y, or what went into the ReLU. None: no ReLU."""
    if y is not None:
        return y
    if saved is None or saved.bias is None:
        return None
    cdef Call call = _call(x, channel_axis, 0, 3)
    cdef Job *job = &call.job
    call.statistics(saved, None, None, None)
    call.load(job.weight, per_channel(weight, "weight", job.p.channels), 1)
    call.load(job.bias, per_channel(saved.bias, "saved.bias", job.p.channels), 0)
    cdef cnp.ndarray z = output_like(None, x)
    job.finish = finish_forward
    call.write((x,), z, job.k.norm[job.p.dtype].normalise[job.p.form])
    return z


cdef cnp.ndarray _wide(cnp.ndarray a):
    """bfloat16 as float32: passes one by one would round to it in between. Another array, or None, as it is."""
    return a.astype(np.float32) if a is not None and is_bf16(a) else a


cdef cnp.ndarray _narrow(cnp.ndarray a, cnp.ndarray x):
    with np.errstate(all="ignore"):
        return a.astype(x.dtype)


cdef cnp.ndarray _signs(cnp.ndarray gate, cnp.ndarray x):
    """A gate of float32 for an x of bfloat16, in which its smallest values would be zero."""
    return _narrow(np.sign(gate), x) if is_bf16(x) else gate


cdef bint _one_by_one(cnp.ndarray x, object saved, object y, object added) except -1:
    """Whether a derivative of an x of bfloat16 takes several passes."""
    return is_bf16(x) and (y is not None or added is not None or saved is not None and saved.bias is not None)


def jvp(x, weight, saved, rx, rweight, rbias, running_mean, running_var, eps, channel_axis, y=None, rresidual=None):
    """Return (ry, rmean, rinv_std)."""
    cdef cnp.ndarray a = _input(x, "x")
    cdef cnp.ndarray r = like(rx, "rx", a, IN)
    cdef cnp.ndarray of = None if y is None else like(y, "y", a, IN)
    cdef cnp.ndarray added = None if rresidual is None else like(rresidual, "rresidual", a, IN)
    if _one_by_one(a, saved, of, added):
        wide, rmean, rinv_std = jvp(_wide(a), weight, saved, _wide(r), rweight, rbias, running_mean, running_var, eps,
                                    channel_axis, _wide(of), _wide(added))
        return _narrow(wide, a), rmean, rinv_std
    cdef cnp.ndarray gate = _gate(of, a, weight, saved, channel_axis)
    cdef Call call = _call(a, channel_axis, 1, 6)
    cdef Job *job = &call.job
    cdef bint training = call.statistics(saved, running_mean, running_var, eps)
    call.load(job.weight, per_channel(weight, "weight", job.p.channels), 1)
    call.load(job.rweight, per_channel(rweight, "rweight", job.p.channels), 0)
    call.load(job.rbias, per_channel(rbias, "rbias", job.p.channels), 0)
    cdef cnp.ndarray ry = output_like(None, a)
    job.finish = _finish_jvp if training else _finish_jvp_evaluation
    if training:
        call.measure(r, a, job.mean)
    call.write((a, r), ry, job.k.norm[job.p.dtype].combine[job.p.form])
    if added is not None:
        np.add(ry, added, out=ry)
    if gate is not None:
        activation_backward("relu", ry, gate, out=ry)
    return ry, call.doubles(job.rmean), call.doubles(job.rinv_std)


def backward_jvp(dy, x, weight, saved, rdy, rx, rweight, rsaved, running_mean, running_var, eps, channel_axis,
                 y=None):
    """Return (rdx, rdweight, rdbias)."""
    cdef cnp.ndarray a = _input(x, "x")
    cdef cnp.ndarray g = like(dy, "dy", a, IN)
    cdef cnp.ndarray rg = like(rdy, "rdy", a, IN)
    cdef cnp.ndarray r = like(rx, "rx", a, IN)
    cdef cnp.ndarray of = None if y is None else like(y, "y", a, IN)
    if _one_by_one(a, saved, of, None):
        wide, rdweight, rdbias = backward_jvp(_wide(g), _wide(a), weight, saved, _wide(rg), _wide(r), rweight, rsaved,
                                              running_mean, running_var, eps, channel_axis, _wide(of))
        return _narrow(wide, a), rdweight, rdbias
    cdef cnp.ndarray gate = _gate(of, a, weight, saved, channel_axis)
    cdef Call call = _call(a, channel_axis, 3, 10)
    cdef Job *job = &call.job
    cdef bint training = call.statistics(saved, running_mean, running_var, eps)
    cdef cnp.ndarray w = per_channel(weight, "weight", job.p.channels)
    call.load(job.weight, w, 1)
    call.load(job.rweight, per_channel(rweight, "rweight", job.p.channels), 0)
    if training:
        call.load(job.rmean, per_channel(rsaved.mean, "rsaved.mean", job.p.channels), 0)
        call.load(job.rinv_std, per_channel(rsaved.inv_std, "rsaved.inv_std", job.p.channels), 0)
    cdef cnp.ndarray rdx = output_like(None, a)
    if gate is not None:
        g, rg = activation_backward("relu", g, gate), activation_backward("relu", rg, gate)
    call.measure(g, a, job.mean)
    call.measure(rg, a, job.mean)
    call.measure(g, r, job.rmean)
    job.finish = _finish_backward_jvp if training else _finish_backward_jvp_evaluation
    call.write((a, g, rg, r), rdx, job.k.norm[job.p.dtype].combine3[job.p.form])
    return rdx, call.vector(job.dweight, w), call.vector(job.dbias, w)


def doubles(a, name, channels, otherwise):
    """A per-channel array in double; `otherwise` everywhere where it is None."""
    cdef cnp.npy_intp n = channels
    cdef cnp.ndarray v = per_channel(a, name, n), result = cnp.PyArray_ZEROS(1, &n, cnp.NPY_FLOAT64, 0)
    load(<double *>cnp.PyArray_DATA(result), whole(v), otherwise, n)
    return result


# ---------------------------------------------------------------------------------------- statistics that can be merged
def moments(x, channel_axis):
    """Return (count, mean, mean_rest, m2) of each channel."""
    cdef cnp.ndarray a = _input(x, "x")
    cdef Call call = _call(a, channel_axis, 1, 0)
    cdef Job *job = &call.job
    call.measure(None, a, NULL)
    call.measure_only()
    return job.p.count, call.doubles(job.mean), call.doubles(job.rest), call.doubles(job.m2)


def merge(double count, mean, mean_rest, m2, double other_count, other_mean, other_mean_rest, other_m2):
    """Return (mean, mean_rest, m2) of both parts together: the join of blocks and threads."""
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(mean), size = 6 * n
    cdef cnp.ndarray room = cnp.PyArray_ZEROS(1, &size, cnp.NPY_FLOAT64, 0)
    cdef double *part = <double *>cnp.PyArray_DATA(room)
    cdef Py_ssize_t i
    for i, values in enumerate((mean, mean_rest, m2, other_mean, other_mean_rest, other_m2)):
        load(part + i * n, whole(per_channel(values, "Moments", n)), 0, n)
    kernels().merge_moments(n, count, part, n, other_count, part + 3 * n, n)
    return (_array(part, n, cnp.NPY_FLOAT64), _array(part + n, n, cnp.NPY_FLOAT64),
            _array(part + 2 * n, n, cnp.NPY_FLOAT64))
