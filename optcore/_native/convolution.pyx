"""Convolutions of images [N, C, H, W]: windows as columns, and matrix products of BLAS.

The images are parted into at most GROUPS groups, which the threads share; the windows of some rows of outputs at a time are
written to the group's columns. The gradient of the weight is summed image by image within a group and then group by group.
All of it depends on the shapes alone, so no bit depends on the number of threads.
"""
cimport numpy as cnp
from cython cimport floating
from cython.parallel cimport prange
from libc.limits cimport INT_MAX
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from optcore._native.arrays cimport IN, OUT, checked, disjoint, dtype_of, has_size, same_dtype
from optcore._native.blas cimport elements_of_work, gemm
from optcore._native.c cimport OC_F32, oc_window_kernels
from optcore._native.core cimport kernels
from optcore._native.threads cimport num_threads

cnp.import_array()

cdef enum:
    GROUPS = 16
    COLUMNS = 65536     # elements: columns of so many fill half of a level-2 cache
    PARTIALS = 4194304  # elements of the groups' sums; there are two groups at least

# ---------------------------------------------------------------------------------------------------------- geometry

cdef oc_window window(Py_ssize_t channels, Py_ssize_t height, Py_ssize_t width, object kernel, object stride,
                      object padding) except *:
    cdef oc_window w
    w.channels, w.height, w.width = channels, height, width
    w.kernel_h, w.kernel_w = kernel
    w.stride_h, w.stride_w = stride
    w.pad_h, w.pad_w = padding
    if min(w.kernel_h, w.kernel_w, w.stride_h, w.stride_w) < 1 or min(w.pad_h, w.pad_w) < 0:
        raise ValueError(f"kernel, stride, padding: expected positive sizes and no negative padding, "
                         f"got {kernel}, {stride}, {padding}")
    if height + 2 * w.pad_h < w.kernel_h or width + 2 * w.pad_w < w.kernel_w:
        raise ValueError(f"x: expected images of at least {kernel} with padding {padding}, got {height, width}")
    w.out_h = (height + 2 * w.pad_h - w.kernel_h) // w.stride_h + 1
    w.out_w = (width + 2 * w.pad_w - w.kernel_w) // w.stride_w + 1
    return w


cdef convolution convolution_of(oc_window w, Py_ssize_t out_channels, int dtype) noexcept nogil:
    cdef convolution c
    c.w, c.dtype, c.item, c.out_channels = w, dtype, 4 if dtype == OC_F32 else 8, out_channels
    c.depth, c.outputs = w.channels * w.kernel_h * w.kernel_w, w.out_h * w.out_w
    c.rows = min(w.out_h, max(<Py_ssize_t>1, COLUMNS // max(<Py_ssize_t>1, c.depth * w.out_w)))
    return c


cdef Py_ssize_t _groups(const convolution *c, Py_ssize_t images) noexcept nogil:
    cdef Py_ssize_t most = max(<Py_ssize_t>2, PARTIALS // max(<Py_ssize_t>1, c.out_channels * c.depth))
    return max(<Py_ssize_t>1, min(images, min(<Py_ssize_t>GROUPS, most)))


cdef int _threads(const convolution *c, Py_ssize_t images) noexcept nogil:
    return num_threads(elements_of_work(<double>images * c.out_channels * c.depth * c.outputs))


cdef Py_ssize_t _line(Py_ssize_t bytes) noexcept nogil:
    """In whole cache lines, so that groups share none."""
    return (bytes + 63) // 64 * 64


cdef Py_ssize_t _columns_bytes(const convolution *c) noexcept nogil:
    return _line(c.depth * c.rows * c.w.out_w * c.item)


cdef Py_ssize_t _sums_bytes(const convolution *c) noexcept nogil:
    return _line(c.out_channels * c.depth * c.item) + _line(c.out_channels * sizeof(double))


cdef Py_ssize_t convolution_room(const convolution *c, Py_ssize_t images) noexcept nogil:
    return _groups(c, images) * (_columns_bytes(c) + _sums_bytes(c)) // sizeof(double) + 8


# ----------------------------------------------------------------------------------------------------------- forward

cdef void _fill_planes(const convolution *c, const char *bias, char *y) noexcept nogil:
    """Begin each channel of an image with its bias."""
    cdef Py_ssize_t o, i
    cdef float *yf = <float *>y
    cdef double *yd = <double *>y
    cdef float f
    cdef double d
    for o in range(c.out_channels):
        if c.dtype == OC_F32:
            f = (<const float *>bias)[o]
            for i in range(c.outputs):
                yf[o * c.outputs + i] = f
        else:
            d = (<const double *>bias)[o]
            for i in range(c.outputs):
                yd[o * c.outputs + i] = d


cdef void _convolve_image(const convolution *c, const char *x, const char *weight, const char *bias, bint add, char *y,
                          char *columns) noexcept nogil:
    cdef const oc_window_kernels *k = &kernels().window[c.dtype]
    cdef Py_ssize_t piece, row, rows, n
    if bias != NULL:
        _fill_planes(c, bias, y)
    for piece in range((c.w.out_h + c.rows - 1) // c.rows):
        row = piece * c.rows
        rows = min(c.rows, c.w.out_h - row)
        n = rows * c.w.out_w
        k.windows_to_columns(&c.w, row, rows, x, columns)
        gemm(c.dtype, False, False, c.out_channels, n, c.depth, 1, weight, c.depth, columns, n,
             1 if add or bias != NULL else 0, y + row * c.w.out_w * c.item, c.outputs)


cdef void convolve(const convolution *c, Py_ssize_t images, const char *x, const char *weight, const char *bias, bint add,
                   char *y, double *room) noexcept nogil:
    cdef Py_ssize_t groups = _groups(c, images), g, i
    cdef Py_ssize_t x_bytes = c.w.channels * c.w.height * c.w.width * c.item, y_bytes = c.out_channels * c.outputs * c.item
    cdef char *columns = <char *>((<size_t>room + 63) // 64 * 64)
    for g in prange(groups, schedule="static", num_threads=_threads(c, images)):
        for i in range(g * images // groups, (g + 1) * images // groups):
            _convolve_image(c, x + i * x_bytes, weight, bias, add, y + i * y_bytes, columns + g * _columns_bytes(c))


# ---------------------------------------------------------------------------------------------------------- backward

cdef void _backward_image(const convolution *c, const char *dy, const char *x, const char *weight, bint first, char *dweight,
                          char *dx, char *columns) noexcept nogil:
    """Add to dweight, unless it is NULL (`first`: replace it), and to dx, unless that is NULL."""
    cdef const oc_window_kernels *k = &kernels().window[c.dtype]
    cdef Py_ssize_t piece, row, rows, n
    cdef const char *from_rows
    for piece in range((c.w.out_h + c.rows - 1) // c.rows):
        row = piece * c.rows
        rows = min(c.rows, c.w.out_h - row)
        n = rows * c.w.out_w
        from_rows = dy + row * c.w.out_w * c.item
        if dweight != NULL:
            k.windows_to_columns(&c.w, row, rows, x, columns)
            gemm(c.dtype, False, True, c.out_channels, c.depth, n, 1, from_rows, c.outputs, columns, n,
                 0 if first and row == 0 else 1, dweight, c.depth)
        if dx != NULL:
            gemm(c.dtype, True, False, c.depth, n, c.out_channels, 1, weight, c.depth, from_rows, c.outputs, 0, columns, n)
            k.add_columns(&c.w, row, rows, columns, dx)


cdef void _backward_group(const convolution *c, Py_ssize_t begin, Py_ssize_t end, const char *dy, const char *x,
                          const char *weight, bint add, char *dweight, double *dbias, char *dx, char *columns) noexcept nogil:
    cdef Py_ssize_t x_bytes = c.w.channels * c.w.height * c.w.width * c.item
    cdef Py_ssize_t y_bytes = c.out_channels * c.outputs * c.item, i
    if dbias != NULL:
        memset(dbias, 0, c.out_channels * sizeof(double))
    for i in range(begin, end):
        if dx != NULL and not add:
            memset(dx + i * x_bytes, 0, x_bytes)
        _backward_image(c, dy + i * y_bytes, x + i * x_bytes, weight, i == begin, dweight,
                        dx + i * x_bytes if dx != NULL else NULL, columns)
        if dbias != NULL:
            kernels().window[c.dtype].add_plane_sums(c.out_channels, c.outputs, dy + i * y_bytes, dbias)


cdef void _sum_groups(floating *out, Py_ssize_t n, Py_ssize_t groups, const char *sums, Py_ssize_t apart,
                      bint add) noexcept nogil:
    cdef Py_ssize_t g, i
    cdef const floating *part
    for g in range(groups):
        part = <const floating *>(sums + g * apart)
        for i in range(n):
            out[i] = part[i] if g == 0 and not add else out[i] + part[i]


cdef void _sum_biases(floating *out, Py_ssize_t n, Py_ssize_t groups, const char *sums, Py_ssize_t apart) noexcept nogil:
    cdef Py_ssize_t g, i
    cdef double total
    for i in range(n):
        total = 0
        for g in range(groups):
            total = total + (<const double *>(sums + g * apart))[i]
        out[i] = <floating>total


cdef void convolve_backward(const convolution *c, Py_ssize_t images, const char *dy, const char *x, const char *weight,
                            bint add, char *dweight, char *dbias, char *dx, double *room) noexcept nogil:
    cdef Py_ssize_t groups = _groups(c, images), g, apart = _columns_bytes(c) + _sums_bytes(c)
    cdef char *columns = <char *>((<size_t>room + 63) // 64 * 64)
    cdef char *biases = columns + _columns_bytes(c)
    cdef char *weights = biases + _line(c.out_channels * sizeof(double))
    if images == 0:
        memset(columns, 0, apart)
    for g in prange(groups if images else 0, schedule="static", num_threads=_threads(c, images)):
        _backward_group(c, g * images // groups, (g + 1) * images // groups, dy, x, weight, add,
                        weights + g * apart if dweight != NULL else NULL,
                        <double *>(biases + g * apart) if dbias != NULL else NULL, dx, columns + g * apart)
    if dweight != NULL and c.dtype == OC_F32:
        _sum_groups(<float *>dweight, c.out_channels * c.depth, groups, weights, apart, add)
    elif dweight != NULL:
        _sum_groups(<double *>dweight, c.out_channels * c.depth, groups, weights, apart, add)
    if dbias != NULL and c.dtype == OC_F32:
        _sum_biases(<float *>dbias, c.out_channels, groups, biases, apart)
    elif dbias != NULL:
        _sum_biases(<double *>dbias, c.out_channels, groups, biases, apart)


# --------------------------------------------------------------------------------------------------------- arguments

cdef cnp.ndarray _images(object a, str name, int intent, cnp.ndarray like, str like_name):
    cdef cnp.ndarray x = checked(a, name, intent)
    if cnp.PyArray_NDIM(x) != 4:
        raise ValueError(f"{name}: expected 4 dimensions, got shape {tuple((<object>x).shape)}")
    if like is not None:
        same_dtype(x, name, like, like_name)
    return x


cdef cnp.ndarray _shaped(object a, str name, int intent, tuple shape, cnp.ndarray like, str like_name):
    cdef cnp.ndarray x = _images(a, name, intent, like, like_name)
    if tuple((<object>x).shape) != shape:
        raise ValueError(f"{name}: expected shape {shape}, got {tuple((<object>x).shape)}")
    return x


cdef convolution _convolution(cnp.ndarray x, cnp.ndarray weight, object stride, object padding) except *:
    n, channels, height, width = (<object>x).shape
    if weight.shape[1] != channels:
        raise ValueError(f"weight: expected {channels} input channels, as x has, got {weight.shape[1]}")
    cdef convolution c = convolution_of(window(channels, height, width, (<object>weight).shape[2:], stride, padding),
                                        weight.shape[0], dtype_of(x))
    if max(c.depth, c.outputs, c.out_channels, c.rows * c.w.out_w) > INT_MAX:
        raise ValueError(f"x: expected windows and outputs of at most {INT_MAX} elements, the limit of BLAS, "
                         f"got shape {(<object>x).shape}")
    return c


cdef double *_room(const convolution *c, Py_ssize_t images) except NULL:
    cdef double *room = <double *>malloc(convolution_room(c, images) * sizeof(double))
    if room == NULL:
        raise MemoryError("convolution: no memory for the columns")
    return room


def convolve_images(x, weight, bias, out, stride, padding, bint add=False):
    """Cross-correlation: ``out[n, o, r, s] = bias[o] + sum_cij weight[o, c, i, j] x[n, c, r*stride + i, s*stride + j]``.

    Parameters
    ----------
    x : ndarray [N, C, H, W], float32 or float64
        Taken as zero in the padding around it.
    weight : ndarray [O, C, kh, kw]
    bias : ndarray [O] or None
    out : ndarray [N, O, H', W']
        Written; of its own memory.
    stride, padding : tuple of two int
        Of rows and columns.
    add : bool
        Add to `out` instead of replacing it; without bias.

    Raises
    ------
    TypeError, ValueError
        An argument is not of that kind; see `optcore._native.arrays`.
    """
    cdef cnp.ndarray a = _images(x, "x", IN, None, ""), w = _images(weight, "weight", IN, a, "x"), b = None
    cdef convolution c = _convolution(a, w, stride, padding)
    cdef Py_ssize_t n = cnp.PyArray_DIM(a, 0)
    cdef cnp.ndarray y = _shaped(out, "out", OUT, (n, c.out_channels, c.w.out_h, c.w.out_w), a, "x")
    disjoint(y, "out", a, "x")
    disjoint(y, "out", w, "weight")
    if bias is not None:
        b = checked(bias, "bias", IN)
        same_dtype(b, "bias", a, "x")
        has_size(b, "bias", c.out_channels, "output channel")
        disjoint(y, "out", b, "bias")
        if add:
            raise ValueError("bias: expected None where the result is added")
    cdef const char *begin = cnp.PyArray_BYTES(b) if b is not None else NULL
    cdef double *room = _room(&c, n)
    with nogil:
        convolve(&c, n, cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(w), begin, add, cnp.PyArray_BYTES(y), room)
        free(room)


def convolve_images_backward(dy, x, weight, dweight, dbias, dx, stride, padding, bint add=False):
    """Gradients of `convolve_images` from that of its output.

    Parameters
    ----------
    dy : ndarray [N, O, H', W'], float32 or float64
    x : ndarray [N, C, H, W]
    weight : ndarray [O, C, kh, kw]
    dweight : ndarray [O, C, kh, kw] or None
        Written; None where it is not wanted.
    dbias : ndarray [O] or None
        Written; summed in double.
    dx : ndarray [N, C, H, W] or None
        Written.
    stride, padding : tuple of two int
    add : bool
        Add to `dweight` and `dx` instead of replacing them; without dbias.

    Raises
    ------
    TypeError, ValueError
        An argument is not of that kind; see `optcore._native.arrays`.
    """
    cdef cnp.ndarray a = _images(x, "x", IN, None, ""), w = _images(weight, "weight", IN, a, "x"), b = None
    cdef convolution c = _convolution(a, w, stride, padding)
    cdef Py_ssize_t n = cnp.PyArray_DIM(a, 0)
    cdef cnp.ndarray d = _shaped(dy, "dy", IN, (n, c.out_channels, c.w.out_h, c.w.out_w), a, "x")
    cdef char *pointers[3]
    pointers[0] = pointers[1] = pointers[2] = NULL
    if dweight is not None:
        pointers[0] = cnp.PyArray_BYTES(_gradient(dweight, "dweight", w, "weight", d, a, w))
    if dbias is not None:
        b = checked(dbias, "dbias", OUT)
        same_dtype(b, "dbias", a, "x")
        has_size(b, "dbias", c.out_channels, "output channel")
        if add:
            raise ValueError("dbias: expected None where the results are added")
        pointers[1] = cnp.PyArray_BYTES(b)
    if dx is not None:
        pointers[2] = cnp.PyArray_BYTES(_gradient(dx, "dx", a, "x", d, a, w))
    cdef double *room = _room(&c, n)
    with nogil:
        convolve_backward(&c, n, cnp.PyArray_BYTES(d), cnp.PyArray_BYTES(a), cnp.PyArray_BYTES(w), add, pointers[0],
                          pointers[1], pointers[2], room)
        free(room)


cdef cnp.ndarray _gradient(object out, str name, cnp.ndarray of, str of_name, cnp.ndarray dy, cnp.ndarray x,
                           cnp.ndarray weight):
    cdef cnp.ndarray g = _shaped(out, name, OUT, tuple((<object>of).shape), of, of_name)
    disjoint(g, name, dy, "dy")
    disjoint(g, name, x, "x")
    disjoint(g, name, weight, "weight")
    return g
