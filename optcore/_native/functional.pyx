"""Activations and losses: argument checks, and the OpenMP drivers of their kernels.

Element-wise work is cut into blocks of OC_BLOCK elements, row-wise work into blocks of rows that depend on the shape
alone; losses come as one double a row or block and are summed as a tree. So no bit depends on the number of threads.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport NAN
from libc.stdint cimport int64_t, uint64_t

from optcore._native.arrays cimport IN, OUT, checked, checked_index, dtype_of, overlap, same_dtype, same_shape
from optcore._native.c cimport (
    OC_BLOCK, OC_ELU, OC_F32, OC_GELU, OC_GELU_TANH, OC_RELU, OC_SIGMOID, OC_SILU, OC_TANH, oc_activation_kernels,
    oc_kernels, oc_loss_kernels,
)
from optcore._native.core cimport kernels, tree_sum
from optcore._native.shares cimport each
from optcore._native.threads cimport num_threads

import math

from optcore.checks import flag, number

cnp.import_array()

ACTIVATIONS = {"relu": OC_RELU, "elu": OC_ELU, "sigmoid": OC_SIGMOID, "tanh": OC_TANH, "gelu": OC_GELU,
               "gelu_tanh": OC_GELU_TANH, "silu": OC_SILU}
# What the derivatives are taken from, the `of` of the functions below: the output, or the input.
DERIVATIVE_OF = {name: "x" if name in ("gelu", "gelu_tanh", "silu") else "y" for name in ACTIVATIONS}

# ------------------------------------------------------------------------------------------------------ arguments

cdef cnp.ndarray _new_like(cnp.ndarray a):
    return cnp.PyArray_EMPTY(cnp.PyArray_NDIM(a), cnp.PyArray_DIMS(a), cnp.PyArray_TYPE(a), 0)


cdef int _apart_or_same(cnp.ndarray out, str name, cnp.ndarray a, str other) except -1:
    """An output is one of the inputs or shares no memory with it."""
    cdef char *x = <char *>cnp.PyArray_DATA(out)
    cdef char *y = <char *>cnp.PyArray_DATA(a)
    cdef Py_ssize_t bytes = cnp.PyArray_NBYTES(a)
    if x != y and x < y + bytes and y < x + bytes:
        raise ValueError(f"{name}: expected {other} itself or memory of its own, got an array that overlaps {other}")
    return 0


cdef cnp.ndarray _output(object out, str name, cnp.ndarray like, str like_name):
    """The checked output array, or a new one for None."""
    if out is None:
        return _new_like(like)
    cdef cnp.ndarray y = checked(out, name, OUT)
    same_dtype(y, name, like, like_name)
    same_shape(y, name, like, like_name)
    _apart_or_same(y, name, like, like_name)
    return y


cdef cnp.ndarray _like(object a, str name, cnp.ndarray like, str like_name):
    cdef cnp.ndarray x = checked(a, name, IN)
    same_dtype(x, name, like, like_name)
    same_shape(x, name, like, like_name)
    return x


cdef cnp.ndarray _rows(object a, str name):
    cdef cnp.ndarray x = checked(a, name, IN)
    if cnp.PyArray_NDIM(x) != 2:
        raise ValueError(f"{name}: expected shape [N, K], got {tuple((<object>x).shape)}")
    return x


cdef activation_call _activation(object name, object alpha, cnp.ndarray like) except *:
    if name not in ACTIVATIONS:
        raise ValueError(f"name: expected one of {', '.join(ACTIVATIONS)}, got {name!r}")
    cdef int which = ACTIVATIONS[name]
    return activation_call(&kernels().activation[which][dtype_of(like)], cnp.PyArray_SIZE(like),
                           cnp.PyArray_ITEMSIZE(like), number("alpha", alpha))


cdef Py_ssize_t _blocks(Py_ssize_t n) noexcept nogil:
    return (n + OC_BLOCK - 1) // OC_BLOCK


cdef Py_ssize_t _block_size(Py_ssize_t n, Py_ssize_t block) noexcept nogil:
    return min(<Py_ssize_t>OC_BLOCK, n - block * OC_BLOCK)


cdef Py_ssize_t _block_rows(Py_ssize_t classes) noexcept nogil:
    """Rows in a block: about OC_BLOCK elements, and whole tiles of 16 rows where there are as many."""
    cdef Py_ssize_t rows = OC_BLOCK // max(classes, <Py_ssize_t>1)
    return rows // 16 * 16 if rows >= 16 else max(rows, <Py_ssize_t>1)


# ---------------------------------------------------------------------------------------------------- activations

cdef void run_activation(const activation_call *c, const char *x, char *y) noexcept nogil:
    cdef Py_ssize_t step = OC_BLOCK * c.item, b
    cdef int threads = num_threads(c.n)
    if threads == 1:
        c.kernels.forward(c.n, x, c.alpha, y)
        return
    for b in prange(_blocks(c.n), schedule="static", num_threads=threads):
        c.kernels.forward(_block_size(c.n, b), x + b * step, c.alpha, y + b * step)


cdef void run_activation_backward(const activation_call *c, const char *dy, const char *y, char *dx) noexcept nogil:
    cdef Py_ssize_t step = OC_BLOCK * c.item, b
    cdef int threads = num_threads(c.n)
    if threads == 1:
        c.kernels.backward(c.n, dy, y, c.alpha, dx)
        return
    for b in prange(_blocks(c.n), schedule="static", num_threads=threads):
        c.kernels.backward(_block_size(c.n, b), dy + b * step, y + b * step, c.alpha, dx + b * step)


def activation(name, x, alpha=1.0, out=None):
    """y = f(x); ``out`` may be x."""
    cdef cnp.ndarray a = checked(x, "x", IN)
    cdef activation_call call = _activation(name, alpha, a)
    cdef cnp.ndarray y = _output(out, "out", a, "x")
    with nogil:
        run_activation(&call, cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(y))
    return y


def activation_backward(name, dy, of, alpha=1.0, out=None):
    """dx = f' dy, with f' from ``of``: y or x, as DERIVATIVE_OF says; ``out`` may be dy or ``of``."""
    cdef str source = DERIVATIVE_OF.get(name, "y")
    cdef cnp.ndarray v = checked(of, source, IN), d = _like(dy, "dy", v, source)
    cdef activation_call call = _activation(name, alpha, v)
    cdef cnp.ndarray dx = _output(out, "out", v, source)
    _apart_or_same(dx, "out", d, "dy")
    with nogil:
        run_activation_backward(&call, cnp.PyArray_BYTES(d), cnp.PyArray_BYTES(v), cnp.PyArray_BYTES(dx))
    return dx


def activation_second(name, dy, rdy, of, rx, alpha=1.0, out=None):
    """R-operator of the backward pass: rdx = f' rdy + f'' rx dy, from ``of``; ``out`` may be any of the inputs."""
    cdef str source = DERIVATIVE_OF.get(name, "y")
    cdef cnp.ndarray v = checked(of, source, IN), d = _like(dy, "dy", v, source)
    cdef cnp.ndarray rd = _like(rdy, "rdy", v, source), r = _like(rx, "rx", v, source)
    cdef activation_call call = _activation(name, alpha, v)
    cdef cnp.ndarray rdx = _output(out, "out", v, source)
    _apart_or_same(rdx, "out", d, "dy")
    _apart_or_same(rdx, "out", rd, "rdy")
    _apart_or_same(rdx, "out", r, "rx")
    cdef const char *pv = <const char *>cnp.PyArray_DATA(v)
    cdef const char *pd = <const char *>cnp.PyArray_DATA(d)
    cdef const char *prd = <const char *>cnp.PyArray_DATA(rd)
    cdef const char *pr = <const char *>cnp.PyArray_DATA(r)
    cdef char *px = <char *>cnp.PyArray_DATA(rdx)
    cdef Py_ssize_t n = call.n, step = OC_BLOCK * call.item, b, at
    for b in prange(_blocks(n), nogil=True, schedule="static", num_threads=num_threads(n)):
        at = b * step
        call.kernels.backward_r(_block_size(n, b), pd + at, prd + at, pv + at, pr + at, call.alpha, px + at)
    return rdx


# --------------------------------------------------------------------------------------------------------- losses

cdef _softmax(object z, object out, bint log):
    cdef cnp.ndarray a = _rows(z, "z"), p = _output(out, "out", a, "z")
    cdef const oc_loss_kernels *k = &kernels().loss[dtype_of(a)]
    cdef Py_ssize_t n = cnp.PyArray_DIM(a, 0), classes = cnp.PyArray_DIM(a, 1), chunk = _block_rows(classes), b, m, at
    cdef Py_ssize_t row = classes * cnp.PyArray_ITEMSIZE(a)
    cdef const char *pz = <const char *>cnp.PyArray_DATA(a)
    cdef char *pp = <char *>cnp.PyArray_DATA(p)
    if classes == 0:
        return p
    for b in prange((n + chunk - 1) // chunk, nogil=True, schedule="static", num_threads=num_threads(n * classes)):
        m = min(chunk, n - b * chunk)
        at = b * chunk * row
        if log:
            k.log_softmax(m, classes, pz + at, pp + at)
        else:
            k.softmax(m, classes, pz + at, pp + at)
    return p


def softmax(z, out=None):
    """Row-wise softmax; ``out`` may be z."""
    return _softmax(z, out, False)


def log_softmax(z, out=None):
    """Row-wise log of the softmax; ``out`` may be z."""
    return _softmax(z, out, True)


cdef Py_ssize_t first_bad_class(const char *target, Py_ssize_t n, Py_ssize_t classes) noexcept nogil:
    cdef const int64_t *p = <const int64_t *>target
    cdef Py_ssize_t i
    for i in range(n):
        if <uint64_t>p[i] >= <uint64_t>classes:  # a negative one is large
            return i
    return -1


cdef cnp.ndarray _classes(object target, Py_ssize_t n, Py_ssize_t classes):
    cdef cnp.ndarray t = checked_index(target, "target")
    if cnp.PyArray_NDIM(t) != 1 or cnp.PyArray_DIM(t, 0) != n:
        raise ValueError(f"target: expected shape ({n},), one class per row of z, got {tuple((<object>t).shape)}")
    cdef Py_ssize_t bad = first_bad_class(cnp.PyArray_BYTES(t), n, classes)
    if bad >= 0:
        raise ValueError(f"target: expected classes from 0 to {classes - 1}, got {target[bad]} in row {bad}")
    return t


cdef cnp.ndarray _targets(object target, cnp.ndarray z):
    """int64 classes [N], or weights [N, K] of z's dtype."""
    if cnp.PyArray_Check(target) and cnp.PyArray_TYPE(<cnp.ndarray>target) in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        return _like(target, "target", z, "z")
    if cnp.PyArray_Check(target) and not cnp.PyArray_EquivTypenums(cnp.PyArray_TYPE(<cnp.ndarray>target), cnp.NPY_INT64):
        raise TypeError(f"target: expected int64 classes, or probabilities of z's dtype {z.dtype}, got {target.dtype}")
    return _classes(target, cnp.PyArray_DIM(z, 0), cnp.PyArray_DIM(z, 1))


def targets(target, z):
    """The checked target of a cross-entropy: int64 classes [N], or weights [N, K] of the dtype of z."""
    return _targets(target, _rows(z, "z"))


def pair(z, target):
    """The checked target of a loss over elements: of the shape and dtype of z."""
    return _like(target, "target", checked(z, "z", IN), "z")


cdef double sum_of_weights(Py_ssize_t rows, const double *of_class, const int64_t *target, const double *of_row,
                           double *room) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(rows):
        room[i] = of_class[target[i]] if of_class != NULL else 1
        if of_row != NULL:
            room[i] *= of_row[i]
    return tree_sum(rows, room)


def class_weights(target, weight, row_weight=None):
    """The sum of weight[target], each times its row's weight: of int64 classes in range, and float64 weights."""
    cdef cnp.ndarray t = checked_index(target, "target"), w = checked(weight, "weight", IN)
    cdef cnp.npy_intp n = cnp.PyArray_SIZE(t)
    cdef cnp.ndarray room = cnp.PyArray_EMPTY(1, &n, cnp.NPY_FLOAT64, 0)
    return sum_of_weights(n, <const double *>cnp.PyArray_DATA(w), <const int64_t *>cnp.PyArray_DATA(t),
                          _row_weights(row_weight, n), <double *>cnp.PyArray_DATA(room))


cdef const double *_row_weights(object weight, Py_ssize_t rows) except? NULL:
    """Where the float64 weights of so many rows are; NULL for None."""
    if weight is None:
        return NULL
    cdef cnp.ndarray w = checked(weight, "sample_weight", IN)
    if cnp.PyArray_TYPE(w) != cnp.NPY_FLOAT64 or cnp.PyArray_NDIM(w) != 1 or cnp.PyArray_DIM(w, 0) != rows:
        raise ValueError(f"sample_weight: expected float64 [{rows}], got {w.dtype} {list(weight.shape)}")
    return <const double *>cnp.PyArray_DATA(w)


cdef Py_ssize_t loss_room(Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    return max(rows, _blocks(rows * columns))


cdef void _cross_entropy_block(const void *call, Py_ssize_t block) noexcept nogil:
    cdef const loss_call *c = <const loss_call *>call
    cdef const oc_loss_kernels *k = &kernels().loss[c.dtype]
    cdef Py_ssize_t chunk = _block_rows(c.columns), at = block * chunk, rows = min(chunk, c.rows - at)
    cdef Py_ssize_t place = at * c.columns * (4 if c.dtype == OC_F32 else 8)
    cdef char *dy = c.dy + place if c.dy != NULL else NULL
    if c.soft:
        k.cross_entropy_soft(rows, c.columns, c.y + place, c.target + place, 1.0 / c.total, c.room + at, dy)
    else:
        k.cross_entropy(rows, c.columns, c.y + place, <const int64_t *>c.target + at, 1.0 / c.total, c.room + at, dy)
    if c.row_weight != NULL:
        _weigh_rows(c, at, rows, dy)


cdef inline void _weigh_rows(const loss_call *c, Py_ssize_t at, Py_ssize_t rows, char *dy) noexcept nogil:
    """Multiply losses and adjoints of the rows from `at` on by their weights."""
    cdef Py_ssize_t i, j
    for i in range(rows):
        c.room[at + i] *= c.row_weight[at + i]
        for j in range(c.columns if dy != NULL else 0):
            if c.dtype == OC_F32:
                (<float *>dy)[i * c.columns + j] *= <float>c.row_weight[at + i]
            else:
                (<double *>dy)[i * c.columns + j] *= c.row_weight[at + i]


cdef double run_cross_entropy(const loss_call *c) noexcept nogil:
    cdef Py_ssize_t chunk = _block_rows(c.columns)
    each(_cross_entropy_block, c, (c.rows + chunk - 1) // chunk, c.rows * c.columns)
    return tree_sum(c.rows, c.room) / c.total if c.rows else NAN


def cross_entropy(z, target, gradient=True, out=None, total=None, row_weight=None):
    """Softmax cross-entropy, its sum over the rows divided by ``total`` (N, or the sum of their weights), and its
    gradient dz (None where not asked for); ``out`` takes dz and may be z."""
    cdef cnp.ndarray a = _rows(z, "z"), dz = None
    cdef loss_call c
    c.dtype, c.rows, c.columns, c.dy = dtype_of(a), cnp.PyArray_DIM(a, 0), cnp.PyArray_DIM(a, 1), NULL
    if c.columns == 0:
        raise ValueError(f"z: expected at least one class, got shape {tuple((<object>a).shape)}")
    cdef cnp.ndarray t = _targets(target, a)
    if flag("gradient", gradient):
        dz = _output(out, "out", a, "z")
        if overlap(dz, t):
            raise ValueError("out: expected memory of its own, got an array that overlaps target")
        c.dy = cnp.PyArray_BYTES(dz)
    c.soft, c.y, c.target = cnp.PyArray_NDIM(t) == 2, cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(t)
    c.row_weight = _row_weights(row_weight, c.rows)
    return _mean_loss(&c, run_cross_entropy, c.rows, total), dz


cdef _mean_loss(loss_call *c, loss_fn *run, cnp.npy_intp n, object total=None, double scale=1):
    cdef cnp.ndarray room = cnp.PyArray_EMPTY(1, &n, cnp.NPY_FLOAT64, 0)
    cdef double value
    c.room = <double *>cnp.PyArray_DATA(room)
    if total is not None:
        c.total = total
    else:
        c.total = c.rows if c.row_weight == NULL else sum_of_weights(c.rows, NULL, NULL, c.row_weight, c.room)
    c.total /= scale
    with nogil:
        value = run(c)
    return value


def cross_entropy_r(p, rz, out=None):
    """R-operator of the gradient of ``cross_entropy``: p (rz - sum_j p_j rz_j) / N; ``out`` may be p or rz."""
    cdef cnp.ndarray a = _rows(p, "p"), r = _like(rz, "rz", a, "p"), rdz = _output(out, "out", a, "p")
    _apart_or_same(rdz, "out", r, "rz")
    cdef const oc_loss_kernels *k = &kernels().loss[dtype_of(a)]
    cdef Py_ssize_t n = cnp.PyArray_DIM(a, 0), classes = cnp.PyArray_DIM(a, 1), chunk = _block_rows(classes), b, m, at
    cdef Py_ssize_t row = classes * cnp.PyArray_ITEMSIZE(a)
    cdef const char *pp = <const char *>cnp.PyArray_DATA(a)
    cdef const char *pr = <const char *>cnp.PyArray_DATA(r)
    cdef char *po = <char *>cnp.PyArray_DATA(rdz)
    cdef double scale = 1.0 / n if n else 0.0
    for b in prange((n + chunk - 1) // chunk, nogil=True, schedule="static", num_threads=num_threads(n * classes)):
        m = min(chunk, n - b * chunk)
        at = b * chunk * row
        k.cross_entropy_r(m, classes, pp + at, pr + at, scale, po + at)
    return rdz


cdef inline double _over(const loss_call *c, Py_ssize_t size, Py_ssize_t begin, double scale) noexcept nogil:
    """The loss of so many elements, its gradient times `scale`."""
    cdef const oc_loss_kernels *k = &kernels().loss[c.dtype]
    cdef Py_ssize_t at = begin * (4 if c.dtype == OC_F32 else 8)
    cdef char *dy = c.dy + at if c.dy != NULL else NULL
    if c.kind == MSE:
        return k.mse(size, c.y + at, c.target + at, 2.0 * scale, dy)
    if c.kind == HUBER:
        return k.huber(size, c.y + at, c.target + at, c.delta, scale, dy)
    return k.bce(size, c.y + at, c.target + at, c.weight + at if c.weight != NULL else NULL, scale, dy)


cdef inline void _block_of(const loss_call *c, Py_ssize_t b, double divisor) noexcept nogil:
    """A block of elements or, where rows have weights, a row."""
    if c.row_weight == NULL:
        c.room[b] = _over(c, _block_size(c.rows * c.columns, b), b * OC_BLOCK, 1.0 / divisor)
    else:
        c.room[b] = c.row_weight[b] * _over(c, c.columns, b * c.columns, c.row_weight[b] / divisor)


cdef double run_over_elements(const loss_call *c) noexcept nogil:
    cdef Py_ssize_t n = c.rows * c.columns, blocks = _blocks(n) if c.row_weight == NULL else c.rows, b
    cdef double divisor = c.total * c.columns
    for b in prange(blocks, schedule="static", num_threads=num_threads(n)):
        _block_of(c, b, divisor)
    return tree_sum(blocks, c.room) / divisor if n else NAN


cdef tuple _mean(int kind, cnp.ndarray a, str name, cnp.ndarray t, cnp.ndarray w, object row_weight, object scale,
                 double delta, object gradient, object out):
    """A loss over elements: its mean times ``scale``, and its gradient or None; ``w`` may be None."""
    cdef cnp.ndarray da = None
    cdef loss_call c
    c.kind, c.dtype, c.delta = kind, dtype_of(a), delta
    c.rows = cnp.PyArray_DIM(a, 0) if cnp.PyArray_NDIM(a) else 1
    c.columns = cnp.PyArray_SIZE(a) // max(c.rows, <Py_ssize_t>1)
    c.row_weight = _row_weights(row_weight, c.rows)
    c.y, c.target, c.weight, c.dy = cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(t), NULL, NULL
    if w is not None:
        c.weight = cnp.PyArray_BYTES(w)
    if flag("gradient", gradient):
        da = _output(out, "out", a, name)
        _apart_or_same(da, "out", t, "target")
        if w is not None:
            _apart_or_same(da, "out", w, "weight")
        c.dy = cnp.PyArray_BYTES(da)
    return _mean_loss(&c, run_over_elements, loss_room(c.rows, c.columns), None,
                      number("scale", scale, -math.inf)), da


def mse(y, target, gradient=True, out=None, row_weight=None, scale=1.0):
    """Mean of (y - target)^2 over all elements, times ``scale``, and its gradient dy; ``out`` takes dy and may be y or
    target."""
    cdef cnp.ndarray a = checked(y, "y", IN)
    return _mean(MSE, a, "y", _like(target, "target", a, "y"), None, row_weight, scale, 0, gradient, out)


def huber(y, target, delta, gradient=True, out=None, row_weight=None):
    """Mean of Huber's error over all elements and its gradient dy; ``out`` takes dy and may be y or target."""
    cdef cnp.ndarray a = checked(y, "y", IN)
    return _mean(HUBER, a, "y", _like(target, "target", a, "y"), None, row_weight, 1,
                 number("delta", delta, open_low=True), gradient, out)


def bce_with_logits(z, target, weight=None, gradient=True, out=None, row_weight=None, scale=1.0):
    """Mean of the logistic error over all elements, each times its weight, times ``scale``, and its gradient dz;
    ``out`` takes dz and may be z, target or weight."""
    cdef cnp.ndarray a = checked(z, "z", IN), w = None if weight is None else _like(weight, "weight", a, "z")
    return _mean(BCE, a, "z", _like(target, "target", a, "z"), w, row_weight, scale, 0, gradient, out)
