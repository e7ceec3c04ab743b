"""The compiled forms of a network's operations.

A form is a row of `bind`: two functions over an `Op` that call the same drivers as the Python passes of nn/ops.py, in
the same order and on the same values, so that both give the same bits. nn/ops.py says what is computed.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.stdint cimport INT64_MAX, int32_t, int64_t
from libc.string cimport memcpy

from optcore._native.arrays cimport dtype_of
from optcore._native.blas cimport multiply, product
from optcore._native.c cimport OC_BLOCK, OC_F32, oc_window
from optcore._native.channels cimport Job, Plan, plan
from optcore._native.convolution cimport convolution_of, convolution_room, convolve, convolve_backward, window
from optcore._native.core cimport kernels
from optcore._native.dense cimport sum_columns, sum_columns_room
from optcore._native.dropout cimport dropout_at, dropout_call, run_dropout
from optcore._native.functional cimport activation_call, run_activation, run_activation_backward
from optcore._native.group_norm cimport group_norm, group_norm_room, run_group_norm, run_group_norm_backward
from optcore._native.norm_job cimport (
    begin, evaluate_with, finish_backward, finish_forward, follow, load, measure, room_of, store,
    vector, write,
)
from optcore._native.pooling cimport (
    pool, run_average_pool, run_average_pool_backward, run_max_pool, run_max_pool_backward,
)
from optcore._native.row_norm cimport row_norm, row_norm_room, run_row_norm, run_row_norm_backward
from optcore._native.threads cimport num_threads

import math

from optcore._native.functional import ACTIVATIONS, DERIVATIVE_OF

cnp.import_array()


# --------------------------------------------------------------------------------------------------------- linear

cdef product _product(const Op *o, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const char *a, const char *b,
                      char *out) noexcept nogil:
    cdef product p
    p.dtype, p.m, p.n, p.k, p.rows, p.cols = o.dtype, m, n, k, 0, 0  # multiply cuts it
    p.transpose_a = p.transpose_b = p.symmetric = False
    p.alpha, p.beta, p.a, p.b, p.out, p.bias = 1, 0, <char *>a, <char *>b, out, NULL
    return p


cdef void _linear(Op *o, const Pass *s) noexcept nogil:
    cdef product p = _product(o, s.rows, o.out_size, o.in_size, o.x, s.theta + o.weight, o.y)
    p.transpose_b = True
    if o.bias >= 0:
        p.bias, p.beta = s.theta + o.bias, 1
    multiply(&p)


cdef void _linear_backward(Op *o, const Pass *s) noexcept nogil:
    cdef product p = _product(o, o.out_size, o.in_size, s.rows, o.dy, o.x, s.grad + o.weight)
    p.transpose_a = True
    if o.bias >= 0:
        sum_columns(o.dtype, s.rows, o.out_size, o.dy, s.grad + o.bias, o.work)
    multiply(&p)
    if o.need_dx:
        p = _product(o, s.rows, o.in_size, o.out_size, o.dy, s.theta + o.weight, o.dx)
        multiply(&p)


cdef Py_ssize_t _linear_room(const Op *o, Py_ssize_t rows) noexcept nogil:
    return sum_columns_room(rows, o.out_size)


# ---------------------------------------------------------------------------------------------------- convolution

cdef void _conv2d(Op *o, const Pass *s) noexcept nogil:
    convolve(&o.windows, s.rows, o.x, s.theta + o.weight, s.theta + o.bias if o.bias >= 0 else NULL, False, o.y, o.work)


cdef void _conv2d_backward(Op *o, const Pass *s) noexcept nogil:
    convolve_backward(&o.windows, s.rows, o.dy, o.x, s.theta + o.weight, False, s.grad + o.weight,
                      s.grad + o.bias if o.bias >= 0 else NULL, o.dx if o.need_dx else NULL, o.work)


cdef Py_ssize_t _conv2d_room(const Op *o, Py_ssize_t rows) noexcept nogil:
    return convolution_room(&o.windows, rows)


cdef oc_window _window(object op, object kernel) except *:
    channels, height, width = op.in_shape
    return window(channels, height, width, kernel, op.options["stride"], op.options["padding"])


cdef int _bind_conv2d(Op *o, object op) except -1:
    o.forward, o.backward, o.room, o.reads_x = _conv2d, _conv2d_backward, _conv2d_room, True
    o.windows = convolution_of(_window(op, op.params["weight"].shape[2:]), op.out_shape[0], o.dtype)
    return True


# ----------------------------------------------------------------------------------------------------------- pools

cdef pool _pool_of(const Op *o, const Pass *s) noexcept nogil:
    cdef pool p = o.images
    p.images = s.rows
    return p


cdef void _max_pool2d(Op *o, const Pass *s) noexcept nogil:
    cdef pool p = _pool_of(o, s)
    run_max_pool(&p, o.x, o.y, <int32_t *>o.saved)


cdef void _max_pool2d_backward(Op *o, const Pass *s) noexcept nogil:
    cdef pool p = _pool_of(o, s)
    if o.need_dx:
        run_max_pool_backward(&p, o.dy, <const int32_t *>o.saved, o.dx)


cdef Py_ssize_t _max_pool2d_kept(const Op *o, Py_ssize_t rows) noexcept nogil:
    return (rows * o.out_size + 1) // 2     # int32


cdef void _avg_pool2d(Op *o, const Pass *s) noexcept nogil:
    cdef pool p = _pool_of(o, s)
    run_average_pool(&p, o.x, o.y)


cdef void _avg_pool2d_backward(Op *o, const Pass *s) noexcept nogil:
    cdef pool p = _pool_of(o, s)
    if o.need_dx:
        run_average_pool_backward(&p, o.dy, o.dx)


cdef int _bind_pool(Op *o, object op) except -1:
    o.images = pool(_window(op, op.options["kernel"]), o.dtype, 0)
    if op.name == "max_pool2d":
        o.forward, o.backward, o.kept = _max_pool2d, _max_pool2d_backward, _max_pool2d_kept
    else:
        o.forward, o.backward = _avg_pool2d, _avg_pool2d_backward
    return True


# --------------------------------------------------------------------------------------------------------- dropout

cdef void _dropout(Op *o, const Pass *s) noexcept nogil:
    cdef dropout_call c = dropout_at(o.dtype, s.rows * o.in_size, o.p, o.seed[0], o.num_passes[0])
    (<int64_t *>o.saved)[0] = o.num_passes[0]
    o.num_passes[0] += 1
    run_dropout(&c, o.x, o.y)


cdef void _dropout_backward(Op *o, const Pass *s) noexcept nogil:
    cdef dropout_call c = dropout_at(o.dtype, s.rows * o.in_size, o.p, o.seed[0], (<const int64_t *>o.saved)[0])
    run_dropout(&c, o.dy, o.dx)


cdef Py_ssize_t _one(const Op *o, Py_ssize_t rows) noexcept nogil:
    return 1


cdef int _bind_dropout(Op *o, object op, object buffers) except -1:
    o.forward, o.backward, o.kept, o.elementwise = _dropout, _dropout_backward, _one, True
    o.p = op.options["p"]
    o.seed = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>buffers[op.buffers["seed"].name])
    o.num_passes = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>buffers[op.buffers["num_passes"].name])
    return True


# -------------------------------------------------------------------------------------------------- residual blocks

cdef void _add(Py_ssize_t n, const floating *x, const floating *other, floating *y) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        y[i] = x[i] + other[i]


cdef void _sum(const Op *o, const Pass *s, const char *x, const char *other, char *y) noexcept nogil:
    """y = x + other, which y may be."""
    cdef Py_ssize_t n = s.rows * o.in_size, b, at, size
    for b in prange((n + OC_BLOCK - 1) // OC_BLOCK, schedule="static", num_threads=num_threads(n)):
        at = b * OC_BLOCK * o.item
        size = min(<Py_ssize_t>OC_BLOCK, n - b * OC_BLOCK)
        if o.dtype == OC_F32:
            _add(size, <const float *>(x + at), <const float *>(other + at), <float *>(y + at))
        else:
            _add(size, <const double *>(x + at), <const double *>(other + at), <double *>(y + at))


cdef void _fork(Op *o, const Pass *s) noexcept nogil:
    memcpy(o.y, o.x, s.rows * o.in_size * o.item)


cdef void _fork_backward(Op *o, const Pass *s) noexcept nogil:
    _sum(o, s, o.dy, o.shortcut_dy, o.dx)


cdef void _join(Op *o, const Pass *s) noexcept nogil:
    _sum(o, s, o.x, o.fork.y, o.y)


cdef void _join_backward(Op *o, const Pass *s) noexcept nogil:
    memcpy(o.shortcut_dy, o.dy, s.rows * o.in_size * o.item)  # dx is dy


cdef void bind_fork(Op *o, object op, int dtype) except *:
    _size(o, op, dtype)
    o.forward, o.backward, o.held = _fork, _fork_backward, True


cdef void bind_join(Op *o, object op, int dtype, Op *fork) except *:
    _size(o, op, dtype)
    o.forward, o.backward, o.elementwise, o.fork = _join, _join_backward, True, fork


# ----------------------------------------------------------------------------------------------------- activations

cdef activation_call _activation_call(const Op *o, const Pass *s) noexcept nogil:
    return activation_call(o.activation, s.rows * o.in_size, o.item, o.alpha)


cdef void _activation(Op *o, const Pass *s) noexcept nogil:
    cdef activation_call c = _activation_call(o, s)
    run_activation(&c, o.x, o.y)


cdef void _activation_backward(Op *o, const Pass *s) noexcept nogil:
    cdef activation_call c = _activation_call(o, s)
    run_activation_backward(&c, o.dy, o.y if o.reads_y else o.x, o.dx)


cdef int _bind_activation(Op *o, object op) except -1:
    cdef int which = ACTIVATIONS[op.name]
    o.forward, o.backward, o.elementwise = _activation, _activation_backward, True
    o.reads_y = DERIVATIVE_OF[op.name] == "y"
    o.reads_x = not o.reads_y
    o.activation = &kernels().activation[which][o.dtype]
    o.alpha = op.options.get("alpha", 1.0)
    return True


# ---------------------------------------------------------------------------------------------- batch normalization

cdef Plan _plan(const Op *o, Py_ssize_t rows) noexcept nogil:
    return plan(rows, o.channels, o.inner, o.dtype)


cdef vector _parameter(const Op *o, const char *flat, Py_ssize_t at) noexcept nogil:
    return vector(<char *>flat + at, o.dtype)


cdef void _batch_norm(Op *o, const Pass *s) noexcept nogil:
    cdef Job job
    begin(&job, _plan(o, s.rows), 3, o.x, o.work)
    job.eps = o.eps
    load(job.weight, _parameter(o, s.theta, o.weight), 1, o.channels)
    load(job.bias, _parameter(o, s.theta, o.bias), 0, o.channels)
    job.finish = finish_forward
    if s.training:
        measure(&job, NULL, o.x, NULL)
    else:
        evaluate_with(&job, o.running_mean, o.running_var)
    job.ins[0] = o.x
    write(&job, 1, o.y, job.k.norm[o.dtype].normalise[job.p.form])
    if s.training:
        _keep_statistics(o, &job)


cdef void _keep_statistics(Op *o, const Job *job) noexcept nogil:
    cdef Py_ssize_t bytes = o.channels * sizeof(double)
    memcpy(o.saved, job.mean, bytes)
    memcpy(o.saved + o.channels, job.rest, bytes)
    memcpy(o.saved + 2 * o.channels, job.inv_std, bytes)
    o.num_batches[0] += 1
    follow(job, o.running_mean, o.running_var, o.momentum if o.momentum >= 0 else 1.0 / o.num_batches[0], True)


cdef void _batch_norm_backward(Op *o, const Pass *s) noexcept nogil:
    cdef Job job
    cdef Py_ssize_t bytes = o.channels * sizeof(double)
    begin(&job, _plan(o, s.rows), 6, o.x, o.work)
    memcpy(job.mean, o.saved, bytes)
    memcpy(job.rest, o.saved + o.channels, bytes)
    memcpy(job.inv_std, o.saved + 2 * o.channels, bytes)
    load(job.weight, _parameter(o, s.theta, o.weight), 1, o.channels)
    measure(&job, o.dy, o.x, job.mean)
    job.finish = finish_backward
    job.ins[0], job.ins[1] = o.x, o.dy
    write(&job, 2, o.dx, job.k.norm[o.dtype].combine[job.p.form] if o.need_dx else NULL)
    store(_parameter(o, s.grad, o.weight), job.dweight, o.channels)
    store(_parameter(o, s.grad, o.bias), job.dbias, o.channels)


cdef Py_ssize_t _batch_norm_room(const Op *o, Py_ssize_t rows) noexcept nogil:
    cdef Plan p = _plan(o, rows)
    return room_of(&p, 1, 6)


cdef Py_ssize_t _batch_norm_kept(const Op *o, Py_ssize_t rows) noexcept nogil:
    return 3 * o.channels


cdef vector _buffer(cnp.ndarray a) noexcept:
    return vector(cnp.PyArray_DATA(a), dtype_of(a))


cdef int _bind_batch_norm(Op *o, object op, object buffers) except -1:
    o.forward, o.backward, o.reads_x = _batch_norm, _batch_norm_backward, True
    o.room, o.kept = _batch_norm_room, _batch_norm_kept
    momentum = op.options["momentum"]
    o.eps, o.momentum = op.options["eps"], -1 if momentum is None else momentum
    o.running_mean = _buffer(buffers[op.buffers["running_mean"].name])
    o.running_var = _buffer(buffers[op.buffers["running_var"].name])
    o.num_batches = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>buffers[op.buffers["num_batches"].name])
    return True


cdef bint fits(const Op *o, Py_ssize_t rows) noexcept nogil:
    if o.num_passes != NULL:
        return 0 <= o.num_passes[0] < INT64_MAX
    if o.num_batches == NULL:
        return True
    return rows * o.inner >= 2 and 0 <= o.num_batches[0] < INT64_MAX


# ------------------------------------------------------------------------------- layer, RMS, group, instance norm

cdef const char *_of_theta(const Pass *s, Py_ssize_t at) noexcept nogil:
    return s.theta + at if at >= 0 else NULL


cdef char *_of_grad(const Pass *s, Py_ssize_t at) noexcept nogil:
    return s.grad + at if at >= 0 else NULL


cdef Py_ssize_t _rows_of(const Op *o, Py_ssize_t rows) noexcept nogil:
    return rows * (o.in_size // o.of_rows.columns)


cdef void _row_norm(Op *o, const Pass *s) noexcept nogil:
    run_row_norm(&o.of_rows, _rows_of(o, s.rows), o.x, _of_theta(s, o.weight), _of_theta(s, o.bias), o.y, o.saved, o.work)


cdef void _row_norm_backward(Op *o, const Pass *s) noexcept nogil:
    run_row_norm_backward(&o.of_rows, _rows_of(o, s.rows), o.dy, o.x, _of_theta(s, o.weight), o.saved,
                          _of_grad(s, o.weight), _of_grad(s, o.bias), o.dx, o.work)


cdef Py_ssize_t _row_norm_kept(const Op *o, Py_ssize_t rows) noexcept nogil:
    return 3 * _rows_of(o, rows) * o.of_rows.groups


cdef Py_ssize_t _row_norm_room(const Op *o, Py_ssize_t rows) noexcept nogil:
    return row_norm_room(&o.of_rows, _rows_of(o, rows))


cdef int _bind_row_norm(Op *o, object op, Py_ssize_t columns, Py_ssize_t groups) except -1:
    o.forward, o.backward, o.reads_x = _row_norm, _row_norm_backward, True
    o.kept, o.room = _row_norm_kept, _row_norm_room
    o.of_rows = row_norm(o.dtype, op.name != "rms_norm", columns, groups, op.options["eps"])
    return True


cdef void _group_norm(Op *o, const Pass *s) noexcept nogil:
    run_group_norm(&o.of_groups, s.rows, o.x, _of_theta(s, o.weight), _of_theta(s, o.bias), o.y, o.saved, o.work)


cdef void _group_norm_backward(Op *o, const Pass *s) noexcept nogil:
    run_group_norm_backward(&o.of_groups, s.rows, o.dy, o.x, _of_theta(s, o.weight), o.saved, _of_grad(s, o.weight),
                            _of_grad(s, o.bias), o.dx, o.work)


cdef Py_ssize_t _group_norm_kept(const Op *o, Py_ssize_t rows) noexcept nogil:
    return 3 * rows * o.of_groups.groups


cdef Py_ssize_t _group_norm_room(const Op *o, Py_ssize_t rows) noexcept nogil:
    return group_norm_room(&o.of_groups, rows)


cdef int _bind_group_norm(Op *o, object op) except -1:
    """Features without positions are rows, as in optcore/norm/groups.py."""
    cdef Py_ssize_t groups = op.options.get("num_groups", o.channels)
    if o.inner == 1:
        return _bind_row_norm(o, op, o.channels, groups)
    o.forward, o.backward, o.reads_x = _group_norm, _group_norm_backward, True
    o.kept, o.room = _group_norm_kept, _group_norm_room
    o.of_groups = group_norm(o.dtype, o.channels, o.inner, groups, op.options["eps"])
    return True


# ----------------------------------------------------------------------------------------------------- the forms

cdef int _size(Op *o, object op, int dtype) except -1:
    o.dtype, o.item = dtype, 4 if dtype == OC_F32 else 8
    o.in_size, o.out_size = math.prod(op.in_shape), math.prod(op.out_shape)
    return 0


cdef bint bind(Op *o, object op, object buffers, int dtype, bint training) except -1:
    _size(o, op, dtype)
    cdef Py_ssize_t item = o.item
    o.channels = op.in_shape[0] if op.in_shape else 1
    o.inner = o.in_size // max(1, o.channels)
    o.weight = item * op.params["weight"].start if "weight" in op.params else -1
    o.bias = item * op.params["bias"].start if "bias" in op.params else -1
    if op.name == "linear":
        o.forward, o.backward, o.room, o.reads_x = _linear, _linear_backward, _linear_room, True
        return True
    if op.name == "batch_norm":
        return _bind_batch_norm(o, op, buffers)
    if op.name in ACTIVATIONS:
        return _bind_activation(o, op)
    if op.name in ("layer_norm", "rms_norm"):
        return _bind_row_norm(o, op, math.prod(op.in_shape[-op.options["ndim"]:]), 1)
    if op.name in ("group_norm", "instance_norm"):
        return _bind_group_norm(o, op)
    if op.name == "conv2d":
        return _bind_conv2d(o, op)
    if op.name in ("max_pool2d", "avg_pool2d"):
        return _bind_pool(o, op)
    if op.name == "dropout":
        return not training or _bind_dropout(o, op, buffers)
    return op.name == "flatten"  # no forward: the same values in the same order
