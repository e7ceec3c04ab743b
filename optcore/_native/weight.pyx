"""Weight normalization: w = g*v/|v| for every slice of v along one dimension.

The four functions are jobs of channels.pyx, as those of norm.pyx are: a slice is a channel whose mean is zero and whose
s is 1/|v|, so that x_hat = v/|v|.
"""
cimport numpy as cnp
from libc.math cimport sqrt
from optcore._native.arrays cimport IN, checked, same_dtype, same_shape
from optcore._native.channels cimport Job
from optcore._native.norm cimport Call, per_channel
from optcore._native.norm_job cimport clear, combine, put

cnp.import_array()


# -------------------------------------------------------------------------------------- the constants of one slice
# In double. A measure (u, v) holds the sum of u*v in its second row, the mean being zero.
cdef inline double _dot(Job *job, int m, Py_ssize_t c) noexcept nogil:
    return job.measures[m].result[job.p.channels + c]


cdef void _finish_norm(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t c
    for c in range(first, end):
        job.var[c] = _dot(job, 0, c)  # |v|^2
        put(job, 0, c, 0)
        put(job, 1, c, job.weight[c] / sqrt(job.var[c]))
        put(job, 2, c, 0)


cdef void _finish_backward(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """dg = sum(dw*x_hat), dv = g*s*(dw - x_hat*dg)."""
    cdef double a
    cdef Py_ssize_t c
    for c in range(first, end):
        a = job.weight[c] * job.inv_std[c]
        job.dweight[c] = _dot(job, 0, c) * job.inv_std[c]
        combine(job, c, -a * job.dweight[c], 0, a, 0)


cdef void _finish_jvp(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """R{|v|} = sum(rv*x_hat), rw = rg*x_hat + g*s*(rv - x_hat*R{|v|})."""
    cdef double a
    cdef Py_ssize_t c
    for c in range(first, end):
        a = job.weight[c] * job.inv_std[c]
        job.rmean[c] = _dot(job, 0, c) * job.inv_std[c]
        combine(job, c, job.rweight[c] - a * job.rmean[c], 0, a, 0)


cdef void _finish_backward_jvp(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """The backward pass, differentiated. With rx_hat = s*(rv - x_hat*R{|v|}),

        rdg = sum(rdw*x_hat) + sum(dw*rx_hat)
        rdv = R{g*s}*(dw - x_hat*dg) + g*s*(rdw - rx_hat*dg - x_hat*rdg)
    """
    cdef double s, rnorm, dg, rdg, a, ra
    cdef Py_ssize_t c
    for c in range(first, end):
        s = job.inv_std[c]
        rnorm = job.rmean[c]
        dg = _dot(job, 0, c) * s
        rdg = _dot(job, 1, c) * s + (_dot(job, 2, c) - dg * rnorm) * s
        a = job.weight[c] * s
        ra = (job.rweight[c] - a * rnorm) * s
        job.dweight[c] = rdg
        combine(job, c, a * (dg * rnorm * s - rdg) - ra * dg, 0, ra, 0)
        put(job, 6, c, a)
        put(job, 7, c, 0)
        put(job, 8, c, -a * dg)
        put(job, 9, c, 0)


# ---------------------------------------------------------------------------------------------------------- the calls
cdef cnp.ndarray _like(object a, str name, cnp.ndarray v):
    cdef cnp.ndarray b = checked(a, name, IN)
    same_dtype(b, name, v, "v")
    same_shape(b, name, v, "v")
    return b


cdef Call _cleared(Call call):
    clear(&call.job)
    return call


cdef Call _call(cnp.ndarray v, object dim, int measures, int rows):
    """A job whose channels are the slices along `dim`; one channel where that is None."""
    cdef Py_ssize_t channels = 1, inner = 1, axis, i, ndim = cnp.PyArray_NDIM(v)
    if dim is None:
        return _cleared(Call(v, 1, cnp.PyArray_SIZE(v), measures, rows))
    if not ndim:
        raise ValueError("v: expected at least 1 dimension where dim counts slices along one, got shape ()")
    axis = dim
    if not -ndim <= axis < ndim:
        raise ValueError(f"dim: expected None or a dimension of v, {-ndim} <= dim < {ndim}, got {dim!r}")
    if axis < 0:
        axis += ndim
    channels = cnp.PyArray_DIM(v, axis)
    for i in range(axis + 1, ndim):
        inner *= cnp.PyArray_DIM(v, i)
    return _cleared(Call(v, channels, inner, measures, rows))


cdef int _load(Call call, object g, object norm) except -1:
    """Load g and s = 1/norm."""
    cdef Job *job = &call.job
    cdef Py_ssize_t c
    call.load(job.weight, per_channel(g, "g", job.p.channels), 1)
    call.load(job.inv_std, per_channel(norm, "saved.norm", job.p.channels), 1)
    for c in range(job.p.channels):
        job.inv_std[c] = 1 / job.inv_std[c]
    return 0


def forward(v, g, dim):
    """Return (w, |v|^2)."""
    cdef cnp.ndarray a = checked(v, "v", IN)
    cdef Call call = _call(a, dim, 1, 3)
    cdef Job *job = &call.job
    call.load(job.weight, per_channel(g, "g", job.p.channels), 1)
    cdef cnp.ndarray w = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a), 0)
    call.measure(a, a, job.mean)
    job.finish = _finish_norm
    call.write((a,), w, job.k.norm[job.p.dtype].normalise[job.p.form])
    return w, call.doubles(job.var)


def backward(dw, v, g, norm, dim):
    """Return (dv, dg)."""
    cdef cnp.ndarray a = checked(v, "v", IN), d = _like(dw, "dw", a)
    cdef Call call = _call(a, dim, 1, 6)
    cdef Job *job = &call.job
    _load(call, g, norm)
    cdef cnp.ndarray dv = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a), 0)
    call.measure(d, a, job.mean)
    job.finish = _finish_backward
    call.write((a, d), dv, job.k.norm[job.p.dtype].combine[job.p.form])
    return dv, call.vector(job.dweight, g)


def jvp(v, g, norm, dim, rv, rg):
    """Return (rw, R{|v|})."""
    cdef cnp.ndarray a = checked(v, "v", IN), r = _like(rv, "rv", a)
    cdef Call call = _call(a, dim, 1, 6)
    cdef Job *job = &call.job
    _load(call, g, norm)
    call.load(job.rweight, per_channel(rg, "rg", job.p.channels), 0)
    cdef cnp.ndarray rw = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a), 0)
    call.measure(r, a, job.mean)
    job.finish = _finish_jvp
    call.write((a, r), rw, job.k.norm[job.p.dtype].combine[job.p.form])
    return rw, call.doubles(job.rmean)


def backward_jvp(dw, v, g, norm, dim, rdw, rv, rg, rnorm):
    """Return (rdv, rdg)."""
    cdef cnp.ndarray a = checked(v, "v", IN), d = _like(dw, "dw", a)
    cdef cnp.ndarray rd = _like(rdw, "rdw", a), r = _like(rv, "rv", a)
    cdef Call call = _call(a, dim, 3, 10)
    cdef Job *job = &call.job
    _load(call, g, norm)
    call.load(job.rweight, per_channel(rg, "rg", job.p.channels), 0)
    call.load(job.rmean, per_channel(rnorm, "rsaved.norm", job.p.channels), 0)
    cdef cnp.ndarray rdv = cnp.PyArray_EMPTY(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a), 0)
    call.measure(d, a, job.mean)
    call.measure(rd, a, job.mean)
    call.measure(d, r, job.mean)
    job.finish = _finish_backward_jvp
    call.write((a, d, rd, r), rdv, job.k.norm[job.p.dtype].combine3[job.p.form])
    return rdv, call.vector(job.dweight, g)
