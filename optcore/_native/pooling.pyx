"""Pools of images [N, C, H, W]: the largest or the mean of each window. Images are shared among the threads."""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.limits cimport INT_MAX
from libc.stdint cimport int32_t

from optcore._native.arrays cimport IN, OUT, checked, disjoint, dtype_of, laid_out, same_dtype
from optcore._native.c cimport OC_F32, oc_window_kernels
from optcore._native.convolution cimport window
from optcore._native.core cimport kernels
from optcore._native.threads cimport num_threads

cnp.import_array()


cdef Py_ssize_t _in_bytes(const pool *p) noexcept nogil:
    return p.w.channels * p.w.height * p.w.width * (4 if p.dtype == OC_F32 else 8)


cdef Py_ssize_t _outputs(const pool *p) noexcept nogil:
    return p.w.channels * p.w.out_h * p.w.out_w


cdef Py_ssize_t _out_bytes(const pool *p) noexcept nogil:
    return _outputs(p) * (4 if p.dtype == OC_F32 else 8)


cdef int _threads(const pool *p) noexcept nogil:
    return num_threads(p.images * (p.w.channels * p.w.height * p.w.width + _outputs(p) * p.w.kernel_h * p.w.kernel_w))


cdef void run_max_pool(const pool *p, const char *x, char *y, int32_t *argmax) noexcept nogil:
    cdef const oc_window_kernels *k = &kernels().window[p.dtype]
    cdef Py_ssize_t i
    for i in prange(p.images, schedule="static", num_threads=_threads(p)):
        k.max_pool(&p.w, x + i * _in_bytes(p), y + i * _out_bytes(p), argmax + i * _outputs(p))


cdef void run_max_pool_backward(const pool *p, const char *dy, const int32_t *argmax, char *dx) noexcept nogil:
    cdef const oc_window_kernels *k = &kernels().window[p.dtype]
    cdef Py_ssize_t i
    for i in prange(p.images, schedule="static", num_threads=_threads(p)):
        k.max_pool_backward(&p.w, dy + i * _out_bytes(p), argmax + i * _outputs(p), dx + i * _in_bytes(p))


cdef void _run_max_pool_r(const pool *p, const char *rx, const int32_t *argmax, char *ry) noexcept nogil:
    cdef const oc_window_kernels *k = &kernels().window[p.dtype]
    cdef Py_ssize_t i
    for i in prange(p.images, schedule="static", num_threads=_threads(p)):
        k.max_pool_r(&p.w, rx + i * _in_bytes(p), argmax + i * _outputs(p), ry + i * _out_bytes(p))


cdef void run_average_pool(const pool *p, const char *x, char *y) noexcept nogil:
    cdef const oc_window_kernels *k = &kernels().window[p.dtype]
    cdef Py_ssize_t i
    for i in prange(p.images, schedule="static", num_threads=_threads(p)):
        k.average_pool(&p.w, x + i * _in_bytes(p), y + i * _out_bytes(p))


cdef void run_average_pool_backward(const pool *p, const char *dy, char *dx) noexcept nogil:
    cdef const oc_window_kernels *k = &kernels().window[p.dtype]
    cdef Py_ssize_t i
    for i in prange(p.images, schedule="static", num_threads=_threads(p)):
        k.average_pool_backward(&p.w, dy + i * _out_bytes(p), dx + i * _in_bytes(p))


# --------------------------------------------------------------------------------------------------------- arguments

cdef cnp.ndarray _images(object a, str name):
    cdef cnp.ndarray x = checked(a, name, IN)
    if cnp.PyArray_NDIM(x) != 4:
        raise ValueError(f"{name}: expected 4 dimensions, got shape {tuple((<object>x).shape)}")
    return x


cdef pool _pool(int dtype, object shape, object kernel, object stride, object padding) except *:
    cdef pool p
    n, channels, height, width = shape
    p.w, p.dtype, p.images = window(channels, height, width, kernel, stride, padding), dtype, n
    if 2 * p.w.pad_h > p.w.kernel_h or 2 * p.w.pad_w > p.w.kernel_w:
        raise ValueError(f"padding: expected at most half of the kernel, {kernel}, got {padding}")
    if p.w.height * p.w.width > INT_MAX:
        raise ValueError(f"x: expected images of at most {INT_MAX} elements, got {height, width}")
    return p


cdef cnp.ndarray _new(const pool *p, bint outputs, int typenum):
    cdef cnp.npy_intp shape[4]
    shape[0], shape[1] = p.images, p.w.channels
    shape[2], shape[3] = p.w.out_h if outputs else p.w.height, p.w.out_w if outputs else p.w.width
    return cnp.PyArray_EMPTY(4, shape, typenum, 0)


cdef cnp.ndarray _of_outputs(object a, str name, const pool *p):
    cdef cnp.ndarray x = laid_out(a, name, IN)
    shape = (p.images, p.w.channels, p.w.out_h, p.w.out_w)
    if tuple((<object>x).shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple((<object>x).shape)}")
    return x


cdef cnp.ndarray _argmax(object a, const pool *p):
    cdef cnp.ndarray x = _of_outputs(a, "argmax", p)
    if cnp.PyArray_TYPE(x) != cnp.NPY_INT32:
        raise TypeError(f"argmax: expected dtype int32, got {x.dtype}")
    return x


def max_pool(x, kernel, stride, padding):
    """(y, argmax): the largest of each window of x[N, C, H, W], and its place in the channel, int32."""
    cdef cnp.ndarray a = _images(x, "x")
    cdef pool p = _pool(dtype_of(a), (<object>a).shape, kernel, stride, padding)
    cdef cnp.ndarray y = _new(&p, True, cnp.PyArray_TYPE(a)), argmax = _new(&p, True, cnp.NPY_INT32)
    with nogil:
        run_max_pool(&p, cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(y), <int32_t *>cnp.PyArray_DATA(argmax))
    return y, argmax


def max_pool_backward(dy, argmax, size, kernel, stride, padding):
    """dx of images of this size (H, W): each dy, added at its argmax, which `max_pool` has returned."""
    cdef cnp.ndarray d = _images(dy, "dy")
    cdef pool p = _pool(dtype_of(d), (*(<object>d).shape[:2], *size), kernel, stride, padding)
    cdef cnp.ndarray at = _argmax(argmax, &p), dx = _new(&p, False, cnp.PyArray_TYPE(d))
    _of_outputs(d, "dy", &p)
    with nogil:
        run_max_pool_backward(&p, cnp.PyArray_BYTES(d), <const int32_t *>cnp.PyArray_DATA(at), cnp.PyArray_BYTES(dx))
    return dx


def max_pool_r(rx, argmax, kernel, stride, padding):
    """R-operator: rx at argmax, which `max_pool` has returned."""
    cdef cnp.ndarray r = _images(rx, "rx")
    cdef pool p = _pool(dtype_of(r), (<object>r).shape, kernel, stride, padding)
    cdef cnp.ndarray at = _argmax(argmax, &p), ry = _new(&p, True, cnp.PyArray_TYPE(r))
    with nogil:
        _run_max_pool_r(&p, cnp.PyArray_BYTES(r), <const int32_t *>cnp.PyArray_DATA(at), cnp.PyArray_BYTES(ry))
    return ry


def average_pool(x, kernel, stride, padding):
    """The mean of each window of x[N, C, H, W], padding counted as zeros."""
    cdef cnp.ndarray a = _images(x, "x")
    cdef pool p = _pool(dtype_of(a), (<object>a).shape, kernel, stride, padding)
    cdef cnp.ndarray y = _new(&p, True, cnp.PyArray_TYPE(a))
    with nogil:
        run_average_pool(&p, cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(y))
    return y


def average_pool_backward(dy, size, kernel, stride, padding):
    """dx of images of this size (H, W)."""
    cdef cnp.ndarray d = _images(dy, "dy")
    cdef pool p = _pool(dtype_of(d), (*(<object>d).shape[:2], *size), kernel, stride, padding)
    cdef cnp.ndarray dx = _new(&p, False, cnp.PyArray_TYPE(d))
    _of_outputs(d, "dy", &p)
    with nogil:
        run_average_pool_backward(&p, cnp.PyArray_BYTES(d), cnp.PyArray_BYTES(dx))
    return dx
