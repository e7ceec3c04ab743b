"""Batch normalization: the argument checks, and the calls from Python.

The four functions (forward, backward, and the R-operator of both) are one job of channels.pyx, built by norm_job.pyx:
measure every channel (its moments, or up to three pairs of sums), turn the measures into the channel's constants, and
write an element-wise result with them. weight.pyx builds its jobs the same way.
"""
cimport numpy as cnp
from cpython.ref cimport PyObject
from libc.stdint cimport INT64_MAX, int64_t

from optcore._native.arrays cimport (
    IN, OUT, checked, checked_index, disjoint, dtype_of, has_size, is_bf16, overlap, type_of_numbers,
)
from optcore._native.c cimport OC_F32, oc_channel_fn, oc_norm_kernels
from optcore._native.channels cimport Job, Plan, plan, run
from optcore._native.core cimport kernels
from optcore._native.norm_arrays cimport at_least_zero, checked_values, integer, like, output_like, real_number
from optcore._native.norm_job cimport (
    begin, clear, evaluate_with, finish_backward, finish_backward_evaluation, finish_backward_jvp,
    finish_backward_jvp_evaluation, finish_forward, finish_jvp, finish_jvp_evaluation, finish_renorm, follow, gate, load,
    measure, remake, room_of, store, vector, write,
)

import math

import numpy as np

from optcore._native.functional import activation_backward

cnp.import_array()


# --------------------------------------------------------------------------------------------------------- the checks
cdef cnp.ndarray _input(object x, str name):
    cdef cnp.ndarray a = checked_values(x, name, IN)
    if cnp.PyArray_NDIM(a) < 2:
        raise ValueError(f"{name}: expected at least 2 dimensions, got shape {tuple((<object>a).shape)}")
    return a


cdef struct Operand:
    const char *name
    PyObject *array     # borrowed


cdef inline Operand _named(const char *name, cnp.ndarray a) noexcept:
    return Operand(name, <PyObject *>a)


cdef int _all_disjoint(const Operand *all, int first, int read, int n) except -1:
    """Every array of [first, read), which are written, has memory of its own, as far as it is not None."""
    cdef int i, k
    cdef cnp.ndarray a, b
    for i in range(first, read):
        a = <cnp.ndarray>all[i].array
        for k in range(n if a is not None else 0):
            b = <cnp.ndarray>all[k].array
            if b is not None and (k < i or k >= read) and overlap(a, b):
                disjoint(a, all[i].name.decode(), b, all[k].name.decode())
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
cdef vector whole(cnp.ndarray a) noexcept:
    return vector(NULL, OC_F32) if a is None else vector(cnp.PyArray_DATA(a), dtype_of(a))


cdef cnp.ndarray _array(const double *values, cnp.npy_intp n, int typenum):
    cdef cnp.ndarray a = cnp.PyArray_EMPTY(1, &n, typenum, 0)
    store(whole(a), values, n)
    return a


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

    cdef int keep_statistics(self) except -1:
        """Let the job write them to arrays that outlive it."""
        cdef cnp.npy_intp n = self.job.p.channels
        self.mean = cnp.PyArray_EMPTY(1, &n, cnp.NPY_FLOAT64, 0)
        self.rest = cnp.PyArray_EMPTY(1, &n, cnp.NPY_FLOAT64, 0)
        self.inv_std = cnp.PyArray_EMPTY(1, &n, cnp.NPY_FLOAT64, 0)
        self.job.mean, self.job.rest = <double *>cnp.PyArray_DATA(self.mean), <double *>cnp.PyArray_DATA(self.rest)
        self.job.inv_std = <double *>cnp.PyArray_DATA(self.inv_std)
        return 0

    cdef void measure(self, cnp.ndarray u, cnp.ndarray v, double *mean) noexcept:
        measure(&self.job, NULL if u is None else cnp.PyArray_DATA(u), cnp.PyArray_DATA(v), mean)

    cdef void gate(self, cnp.ndarray y, cnp.ndarray kept) noexcept:
        gate(&self.job, cnp.PyArray_DATA(y), NULL if kept is None else cnp.PyArray_DATA(kept))

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

    cdef double *in_double(self, cnp.ndarray a, double *room) noexcept:
        """The values of a, in `room` unless they are double already."""
        if a is not None and cnp.PyArray_TYPE(a) == cnp.NPY_FLOAT64:
            return <double *>cnp.PyArray_DATA(a)
        self.load(room, a, 0)
        return room

    cdef bint statistics(self, object saved, object running_mean, object running_var, object eps) except -1:
        """Set mean and inv_std from `saved` (return True), or in evaluation from the running buffers."""
        cdef Py_ssize_t channels = self.job.p.channels
        cdef Job *job = &self.job
        if saved is not None:
            self.mean = per_channel(saved.mean, "saved.mean", channels)
            self.rest = per_channel(saved.mean_rest, "saved.mean_rest", channels)
            self.inv_std = per_channel(saved.inv_std, "saved.inv_std", channels)
            job.mean = self.in_double(self.mean, job.mean)
            job.rest = self.in_double(self.rest, job.rest)
            job.inv_std = self.in_double(self.inv_std, job.inv_std)
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
    cdef Operand[8] all = [_named("running_mean", mean), _named("running_var", var), _named("num_batches", batches),
                           _named("out", None if out is None else y), _named("x", a), _named("weight", w),
                           _named("bias", b), _named("residual", added)]
    _all_disjoint(all, 0 if train else 3, 4, 8)
    call.load(job.weight, w, 1)
    call.load(job.bias, b, 0)
    job.finish = finish_renorm if renorm else finish_forward
    if train:
        call.keep_statistics()
        call.measure(None, a, NULL)
    call.write((a,) if added is None else (a, added), y, apply)
    if not train:
        return y, None, None, None, None, None
    if batches is not None:
        (<int64_t *>cnp.PyArray_DATA(batches))[0] += 1
        if momentum is None:
            new = 1.0 / (<int64_t *>cnp.PyArray_DATA(batches))[0]
    follow(job, whole(mean), whole(var), new, bessel)
    return (y, call.mean, call.rest, call.inv_std,
            call.doubles(job.r) if renorm else None, call.doubles(job.d) if renorm else None)


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
    cdef Operand[6] all = [_named("dresidual", kept), _named("out", None if out is None else dx), _named("x", a),
                           _named("dy", g), _named("weight", w), _named("y", gate)]
    _all_disjoint(all, 0, 2, 6)
    call.load(job.weight, w, 1)
    call.measure(g, a, job.mean)
    if self_gated:
        call.load(job.bias, per_channel(saved.bias, "saved.bias", job.p.channels), 0)
        self_gated = remake(job)
        if not self_gated:
            gate = _signs(_gate(None, _wide(a), weight, saved, channel_axis), a)
    if gate is not None:
        call.gate(gate, kept)
    if kept is not None:  # the ReLU has been passed when dx is computed
        g, gate = kept, None
    job.finish = finish_backward if training else finish_backward_evaluation
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
    clear(job)
    cdef bint training = call.statistics(saved, running_mean, running_var, eps)
    call.load(job.weight, per_channel(weight, "weight", job.p.channels), 1)
    call.load(job.rweight, per_channel(rweight, "rweight", job.p.channels), 0)
    call.load(job.rbias, per_channel(rbias, "rbias", job.p.channels), 0)
    cdef cnp.ndarray ry = output_like(None, a)
    job.finish = finish_jvp if training else finish_jvp_evaluation
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
    clear(job)
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
    job.finish = finish_backward_jvp if training else finish_backward_jvp_evaluation
    call.write((a, g, rg, r), rdx, job.k.norm[job.p.dtype].combine3[job.p.form])
    return rdx, call.vector(job.dweight, w), call.vector(job.dbias, w)


def doubles(a, name, channels, otherwise):
    """A per-channel array in double; `otherwise` everywhere where it is None."""
    cdef cnp.npy_intp n = channels
    cdef cnp.ndarray v = per_channel(a, name, n), result = cnp.PyArray_EMPTY(1, &n, cnp.NPY_FLOAT64, 0)
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
