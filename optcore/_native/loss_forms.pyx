"""The compiled forms of losses with options, with the bits of `optcore.functional.targets`, which says what is computed."""
cimport numpy as cnp
from cython cimport floating
from libc.stdint cimport int64_t

from optcore._native.c cimport OC_F32
from optcore._native.functional cimport (
    BCE, HUBER, MSE, loss_call, run_cross_entropy, run_over_elements, sum_of_weights,
)

import numpy as np

cnp.import_array()

cdef enum:
    CROSS_ENTROPY = BCE + 1

KINDS = {"cross_entropy": CROSS_ENTROPY, "mse": MSE, "huber": HUBER, "bce": BCE}


cdef Py_ssize_t loss_space(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t item) noexcept nogil:
    return 2 * rows * columns * item


cdef double run_loss(const loss_options *o, loss_call *c, char *space) noexcept nogil:
    c.kind, c.delta, c.weight, c.total = o.kind, o.delta, NULL, c.rows
    if c.row_weight != NULL:
        c.total = sum_of_weights(c.rows, NULL, NULL, c.row_weight, c.room)
    c.total /= o.scale
    if o.kind == CROSS_ENTROPY:
        if o.smoothing != 0 or o.weight != NULL:
            _soften(o, c, space)
        return run_cross_entropy(c)
    if o.weight != NULL or o.pos_weight != NULL:
        _weigh(o, c, space)
    return run_over_elements(c)


cdef void _soften(const loss_options *o, loss_call *c, char *space) noexcept nogil:
    """Put rows of weights in the place of the target."""
    if c.soft and c.dtype == OC_F32:
        _soft_rows(o, c, <const float *>c.target, <float *>space)
    elif c.soft:
        _soft_rows(o, c, <const double *>c.target, <double *>space)
    elif c.dtype == OC_F32:
        _rows_of_classes(o, c, <float *>space)
    else:
        _rows_of_classes(o, c, <double *>space)
    if o.weight != NULL and not c.soft:
        c.total = sum_of_weights(c.rows, o.weight, <const int64_t *>c.target, c.row_weight, c.room)
    c.target, c.soft = space, True


cdef void _weigh(const loss_options *o, loss_call *c, char *space) noexcept nogil:
    """Put target and weight that stand for `pos_weight` in the place of the target."""
    cdef Py_ssize_t n = c.rows * c.columns
    if c.dtype == OC_F32:
        c.weight = space + n * sizeof(float)
        _weighted(o, n, <const float *>c.target, <float *>space, <float *>c.weight)
    else:
        c.weight = space + n * sizeof(double)
        _weighted(o, n, <const double *>c.target, <double *>space, <double *>c.weight)
    c.target = space


cdef void _rows_of_classes(const loss_options *o, const loss_call *c, floating *q) noexcept nogil:
    cdef const int64_t *target = <const int64_t *>c.target
    cdef double e = o.smoothing, low = e / c.columns, high = 1 - e + e / c.columns, w = 1
    cdef Py_ssize_t i, j
    for i in range(c.rows):
        for j in range(c.columns):
            if o.weight != NULL:
                w = o.weight[j]
            q[i * c.columns + j] = <floating>(w * (high if j == target[i] else low))


cdef void _soft_rows(const loss_options *o, const loss_call *c, const floating *target, floating *q) noexcept nogil:
    cdef floating keep = <floating>(1 - o.smoothing), spread = <floating>(o.smoothing / c.columns), mixed
    cdef double w = 1
    cdef Py_ssize_t i, j
    for i in range(c.rows):
        for j in range(c.columns):
            if o.weight != NULL:
                w = o.weight[j]
            mixed = keep * target[i * c.columns + j] + spread
            q[i * c.columns + j] = <floating>(w * mixed)


cdef void _weighted(const loss_options *o, Py_ssize_t n, const floating *target, floating *share,
                    floating *weight) noexcept nogil:
    cdef double w = 1, p = 1, both
    cdef floating rest
    cdef Py_ssize_t i
    for i in range(n):
        if o.weight != NULL:
            w = o.weight[i % o.n_weight]
        if o.pos_weight != NULL:
            p = o.pos_weight[i % o.n_pos_weight]
        rest = 1 - target[i]
        both = p * target[i] + rest
        share[i] = <floating>(p * target[i] / both) if both != 0 else target[i]
        weight[i] = <floating>(w * both)


cdef class LossForm:
    """A loss of ``KINDS`` with its options; those of other losses are ignored.

    Arguments are trusted: the losses of `optcore.nn.losses` have checked them.
    """

    def __init__(self, str kind, double smoothing=0, weight=None, pos_weight=None, double delta=0,
                 double scale=1):
        cdef loss_options *o = &self.options
        o.kind, o.smoothing, o.delta, o.scale, o.weight, o.pos_weight = KINDS[kind], smoothing, delta, scale, NULL, NULL
        if weight is not None:
            self.weight = np.array(weight, np.float64, ndmin=1)
            o.weight, o.n_weight = <const double *>cnp.PyArray_DATA(<cnp.ndarray>self.weight), self.weight.size
        if pos_weight is not None:
            self.pos_weight = np.array(pos_weight, np.float64, ndmin=1)
            o.pos_weight = <const double *>cnp.PyArray_DATA(<cnp.ndarray>self.pos_weight)
            o.n_pos_weight = self.pos_weight.size
