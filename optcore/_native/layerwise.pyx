"""The second stage of the layerwise update rules: norms of whole tensors, the factored second moment, Newton-Schulz.

Every sum has a partition that depends on shapes alone, so that the bits do not follow the number of threads.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from optcore._native cimport arrays
from optcore._native.blas cimport multiply, product
from optcore._native.c cimport OC_ADAFACTOR, OC_BLOCK, OC_F32, OC_MUON, oc_layer_kernels
from optcore._native.core cimport kernels, layer_factor
from optcore._native.reduce cimport norm_of_blocks
from optcore._native.threads cimport num_threads

cnp.import_array()

cdef enum:
    # Rows of a block of a matrix: at least so many that the partial sums of its columns are few beside its elements,
    # and that a narrow one is worth a call.
    ROWS = 64
    # Elements of a layer that one thread looks at while others look at its neighbours; the work on a larger one is
    # shared.
    SMALL = 4 * OC_BLOCK
    LINE = 64  # bytes


cdef inline Py_ssize_t _blocks(Py_ssize_t n) noexcept nogil:
    return (n + OC_BLOCK - 1) // OC_BLOCK


# --------------------------------------------------------------------------------------- the factored second moment

ctypedef struct Cut:
    Py_ssize_t rows, blocks  # of a block; of a matrix


cdef inline Cut _cut(const Layer *l) noexcept nogil:
    cdef Cut cut
    cut.rows = max(<Py_ssize_t>ROWS, OC_BLOCK // max(<Py_ssize_t>1, l.size.columns))
    cut.blocks = (l.size.rows + cut.rows - 1) // cut.rows
    return cut


cdef size_t _room_to_factor(const Layer *l) noexcept nogil:
    """The sums of the rows, of the columns of each block, and the mean of each row factor."""
    return l.matrices * (l.size.rows + _cut(l).blocks * l.size.columns + 1) * sizeof(double)


cdef void _square_block(const Layer *l, Cut cut, Py_ssize_t task, double *rows, double *columns) noexcept nogil:
    cdef Py_ssize_t begin = task % cut.blocks * cut.rows, row = task // cut.blocks * l.size.rows + begin, i
    cdef Py_ssize_t count = min(cut.rows, l.size.rows - begin), line = l.size.columns * l.itemsize
    for i in range(row, row + count):
        rows[i] = kernels().reduce[<int>l.dtype].sum_squares(l.size.columns, l.u + i * line, 1.0)
    kernels().layer[<int>l.dtype].column_squares(count, l.size.columns, l.u + row * line,
                                                 columns + task * l.size.columns)


cdef double _move_factors(const Layer *l, Cut cut, Py_ssize_t m, const double *rows, double *columns) noexcept nogil:
    """Take the sums of matrix m into its factors; return the mean of the row factor."""
    cdef const oc_layer_kernels *k = &kernels().layer[<int>l.dtype]
    cdef double *sums = columns + m * cut.blocks * l.size.columns
    cdef Py_ssize_t b, i
    for b in range(1, cut.blocks):
        for i in range(l.size.columns):
            sums[i] += sums[b * l.size.columns + i]
    k.mean_squares(l.size.columns, sums, <double>l.size.rows, l.c, l.factor[1] + m * l.size.columns * l.itemsize)
    return k.mean_squares(l.size.rows, rows + m * l.size.rows, <double>l.size.columns, l.c,
                          l.factor[0] + m * l.size.rows * l.itemsize) / l.size.rows


cdef void _divide_block(const Layer *l, Cut cut, Py_ssize_t task, const double *means) noexcept nogil:
    cdef Py_ssize_t m = task // cut.blocks, begin = task % cut.blocks * cut.rows, row = m * l.size.rows + begin
    kernels().layer[<int>l.dtype].divide_factored(
        min(cut.rows, l.size.rows - begin), l.size.columns, l.factor[0] + row * l.itemsize,
        l.factor[1] + m * l.size.columns * l.itemsize, means[m], l.c.eps, l.u + row * l.size.columns * l.itemsize)


cdef void _divide_by_sigma(const Layer *l) noexcept nogil:
    """Adafactor: u <- u/sigma, with the moving means of u^2 over rows and columns for sigma^2."""
    cdef Cut cut = _cut(l)
    cdef Py_ssize_t tasks = l.matrices * cut.blocks, i
    cdef double *rows = <double *>l.work
    cdef double *columns = rows + l.matrices * l.size.rows
    cdef double *means = columns + tasks * l.size.columns
    cdef int threads = num_threads(l.size.n)
    if tasks == 1:  # without the cost of a parallel region, which would be most of it
        _square_block(l, cut, 0, rows, columns)
        means[0] = _move_factors(l, cut, 0, rows, columns)
        _divide_block(l, cut, 0, means)
        return
    for i in prange(tasks, schedule="static", num_threads=threads):
        _square_block(l, cut, i, rows, columns)
    for i in prange(l.matrices, schedule="static", num_threads=threads if l.matrices > 1 else 1):
        means[i] = _move_factors(l, cut, i, rows, columns)
    for i in prange(tasks, schedule="static", num_threads=threads):
        _divide_block(l, cut, i, means)


# ------------------------------------------------------------------------------------------------- orthogonalisation


cdef size_t _room_to_orthogonalise(const Layer *l) noexcept nogil:
    """The next X, and two square matrices of the shorter side."""
    cdef Py_ssize_t side = min(l.size.rows, l.size.columns)
    return (l.size.n + 2 * side * side) * l.itemsize


cdef void _multiply(const Layer *l, char *a, bint transpose_a, char *b, bint transpose_b, bint symmetric, Py_ssize_t m,
                    Py_ssize_t n, Py_ssize_t k, double alpha, double beta, char *out) noexcept nogil:
    cdef product p
    p.dtype, p.m, p.n, p.k = l.dtype, m, n, k
    p.transpose_a, p.transpose_b, p.symmetric, p.alpha, p.beta = transpose_a, transpose_b, symmetric, alpha, beta
    p.a, p.b, p.out, p.bias = a, b, out, NULL
    multiply(&p)


cdef void _add_to_diagonal(oc_dtype dtype, Py_ssize_t side, double a, char *x) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(side):
        if dtype == OC_F32:
            (<float *>x)[i * (side + 1)] += <float>a
        else:
            (<double *>x)[i * (side + 1)] += a


cdef void _orthogonalise(const Layer *l) noexcept nogil:
    """Muon: u/|u|, then Newton-Schulz steps X <- (a + b G + c G^2) X with the Gram matrix G of the shorter side."""
    cdef const oc_options *o = l.options
    cdef Py_ssize_t rows = l.size.rows, columns = l.size.columns, side = min(rows, columns), step
    cdef bint tall = rows > columns
    cdef size_t bytes = l.size.n * l.itemsize, square = side * side * l.itemsize
    cdef char *x = l.u
    cdef char *y = l.work
    cdef char *gram = l.work + bytes
    cdef char *poly = gram + square
    kernels().layer[<int>l.dtype].divide(l.size.n, o.eps if l.size.norm_u < o.eps else l.size.norm_u, x)
    for step in range(<Py_ssize_t>o.ns_steps):
        _multiply(l, x, tall, x, not tall, True, side, side, max(rows, columns), 1, 0, gram)
        memcpy(poly, gram, square)
        _multiply(l, gram, False, gram, False, True, side, side, side, o.ns_c, o.ns_b, poly)
        _add_to_diagonal(l.dtype, side, o.ns_a, poly)
        if tall:
            _multiply(l, x, False, poly, False, False, rows, side, side, 1, 0, y)
        else:
            _multiply(l, poly, False, x, False, False, side, columns, side, 1, 0, y)
        x, y = y, x
    if x != l.u:
        memcpy(l.u, x, bytes)


# ------------------------------------------------------------------------------------------------------------- layers


cdef class Layers:
    """The parameters of a layerwise rule as whole tensors, and the memory that its second stage works in."""

    def __cinit__(self):
        self.memory = []

    def __dealloc__(self):
        free(self.layers)
        free(self.owner)
        free(self.partial)
        free(self.work)

    cdef void *add(self, cnp.ndarray parameter) except NULL:
        cdef Layer *grown
        if self.n_layers == self.capacity:
            grown = <Layer *>realloc(self.layers, (2 * self.capacity + 8) * sizeof(Layer))
            if grown == NULL:
                raise MemoryError
            self.layers = grown
            self.capacity = 2 * self.capacity + 8
        cdef Layer *l = &self.layers[self.n_layers]
        cdef int ndim = cnp.PyArray_NDIM(parameter)
        cdef cnp.npy_intp room = cnp.PyArray_NBYTES(parameter) + LINE
        cdef cnp.ndarray memory = cnp.PyArray_EMPTY(1, &room, cnp.NPY_UINT8, 0)
        memset(l, 0, sizeof(Layer))
        l.dtype = <oc_dtype>arrays.dtype_of(parameter)
        l.itemsize = cnp.PyArray_ITEMSIZE(parameter)
        l.theta = cnp.PyArray_BYTES(parameter)
        l.u = cnp.PyArray_BYTES(memory)
        l.u += <size_t>(l.theta - l.u) % LINE
        l.size.n = cnp.PyArray_SIZE(parameter)
        l.size.columns = cnp.PyArray_DIM(parameter, ndim - 1) if ndim > 0 else 1
        l.size.rows = cnp.PyArray_DIM(parameter, ndim - 2) if ndim > 1 else 1
        l.matrices = l.size.n // (l.size.rows * l.size.columns) if l.size.n else 0
        self.memory.append(memory)
        self.n_layers += 1
        return l.u

    cdef int truncate(self, Py_ssize_t count) except -1:
        self.n_layers = count
        del self.memory[count:]
        return 0

    cdef int plan(self) except -1:
        cdef Py_ssize_t i, b
        cdef size_t small = 0, large = 0, room
        cdef Layer *l
        self.n_blocks = self.elements = 0
        for i in range(self.n_layers):
            l = &self.layers[i]
            l.first = self.n_blocks
            self.n_blocks += _blocks(l.size.n)
            self.elements += l.size.n
            room = self._room(l)
            if l.size.n <= SMALL:
                small += room
            else:
                large = max(large, room)
        free(self.owner)
        free(self.partial)
        free(self.work)
        self.owner = <Py_ssize_t *>calloc(max(1, self.n_blocks), sizeof(Py_ssize_t))
        self.partial = <double *>calloc(max(1, 2 * self.n_blocks), sizeof(double))
        self.work = <char *>malloc(max(<size_t>1, small + large))
        if self.owner == NULL or self.partial == NULL or self.work == NULL:
            raise MemoryError
        large, small = small, 0  # the large ones, one after the other, take what lies behind the small ones
        for i in range(self.n_layers):
            l = &self.layers[i]
            for b in range(_blocks(l.size.n)):
                self.owner[l.first + b] = i
            l.work = self.work + (small if l.size.n <= SMALL else large)
            small += self._room(l) if l.size.n <= SMALL else 0
        return 0

    cdef size_t _room(self, const Layer *l) noexcept nogil:
        cdef size_t room = 0
        if self.rule == OC_MUON:
            room = _room_to_orthogonalise(l)
        elif self.rule == OC_ADAFACTOR and l.factor[0] != NULL:
            room = _room_to_factor(l)
        return (room + LINE - 1) // LINE * LINE  # the next one begins on a line of its own

    cdef void transform(self) noexcept nogil:
        cdef Py_ssize_t i
        cdef Layer *l
        if self.rule == OC_ADAFACTOR:
            self._look_at_each()
        self._take_norms()
        if self.rule == OC_MUON:
            self._look_at_each()
        for i in range(self.n_layers):
            l = &self.layers[i]
            if l.c != NULL and l.size.n > 0:
                l.c.eta *= layer_factor(self.rule, l.options, &l.size)

    cdef void _look_at_each(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in prange(self.n_layers, schedule="dynamic", num_threads=num_threads(self.elements)):
            if self.layers[i].size.n <= SMALL:
                self._look_at(i)
        for i in range(self.n_layers):
            if self.layers[i].size.n > SMALL:
                self._look_at(i)

    cdef void _look_at(self, Py_ssize_t i) noexcept nogil:
        cdef const Layer *l = &self.layers[i]
        if l.c == NULL or l.size.n == 0:
            return
        if self.rule == OC_MUON:
            _orthogonalise(l)
        elif l.factor[0] != NULL:
            _divide_by_sigma(l)

    cdef void _take_norms(self) noexcept nogil:
        cdef Py_ssize_t i, b
        cdef Layer *l
        for b in prange(self.n_blocks, schedule="static", num_threads=num_threads(self.elements)):
            self._square_block(b)
        for i in range(self.n_layers):
            l = &self.layers[i]
            if l.c == NULL:
                continue
            l.size.norm_u = norm_of_blocks(l.dtype, l.size.n, l.u, self.partial + self.n_blocks + l.first)
            if self.rule != OC_MUON:
                l.size.norm_theta = norm_of_blocks(l.dtype, l.size.n, l.theta, self.partial + l.first)

    cdef void _square_block(self, Py_ssize_t b) noexcept nogil:
        cdef const Layer *l = &self.layers[self.owner[b]]
        cdef Py_ssize_t begin = (b - l.first) * OC_BLOCK, n = min(<Py_ssize_t>OC_BLOCK, l.size.n - begin)
        if l.c == NULL:
            return
        self.partial[self.n_blocks + b] = kernels().reduce[<int>l.dtype].sum_squares(n, l.u + begin * l.itemsize, 1.0)
        if self.rule != OC_MUON:
            self.partial[b] = kernels().reduce[<int>l.dtype].sum_squares(n, l.theta + begin * l.itemsize, 1.0)
