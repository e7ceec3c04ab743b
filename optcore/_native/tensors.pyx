"""The arrays of an optimizer: bound, checked, laid end to end for threads to part; passes over them."""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memset

from optcore._native cimport arrays
from optcore._native.c cimport (
    OC_ALL_BF16, OC_AS_BF16, OC_AS_F16, OC_AS_F32, OC_AS_F64, OC_BF16_STATES, OC_BLOCK, OC_DIRECTION, OC_F32, OC_F64,
    OC_MAX_STREAMS, OC_ROUND_NEAREST, OC_STAGE, oc_array, oc_coefficients, oc_dtype, oc_kernels, oc_mean, oc_rule,
    oc_staged, oc_storage, oc_update_fn,
)
from optcore._native.core cimport kernels, tree_sum
from optcore._native.reduce cimport square_scale, squares_are_safe
from optcore._native.shares cimport Shares, Taken, deal, take, thread_of
from optcore._native.storage cimport described, stored
from optcore._native.threads cimport num_threads

cnp.import_array()

cdef extern from "Python.h" nogil:
    PyObject *Py_None

# NumPy's fields by pointers that count no reference: threads may read them while their caller holds the GIL.
cdef extern from "numpy/arrayobject.h" nogil:
    ctypedef struct PyArrayObject
    bint PyArray_CheckExact(PyObject *a)
    void *PyArray_DATA(const PyArrayObject *a)
    int PyArray_NDIM(const PyArrayObject *a)
    cnp.npy_intp *PyArray_DIMS(const PyArrayObject *a)
    int PyArray_TYPE(const PyArrayObject *a)
    bint PyArray_ISWRITEABLE(const PyArrayObject *a)
    bint PyArray_ISCARRAY_RO(const PyArrayObject *a)

cdef enum:
    # Threads part the elements at multiples of this: whole cache lines, whole blocks of 8-bit states.
    UNIT = 256
    LINE = 64  # bytes
    AHEAD = 24  # tensors whose headers are asked for, and half of it those whose shapes are, which headers point to

cdef extern from * nogil:
    """
    #if defined(__GNUC__) || defined(__clang__)
    #define OC_ASK_FOR(x) __builtin_prefetch(x)
    #else
    #define OC_ASK_FOR(x) (void)(x)
    #endif
    """
    void OC_ASK_FOR(const void *p)

cdef oc_array nothing
memset(&nothing, 0, sizeof(oc_array))


cdef inline void run(const Tensor *t, const oc_coefficients *c, oc_update_fn *kernel, Py_ssize_t begin,
                     Py_ssize_t n) noexcept nogil:
    cdef void *x[OC_MAX_STREAMS]
    cdef int k
    for k in range(OC_MAX_STREAMS):
        x[k] = <char *>t.x[k] + begin * t.size[k] if t.x[k] != NULL else NULL
    kernel(n, x, c)


cdef inline Py_ssize_t size_of_array(const PyArrayObject *a) noexcept nogil:
    """PyArray_SIZE without a call."""
    cdef Py_ssize_t size = 1
    cdef int k
    for k in range(PyArray_NDIM(a)):
        size *= PyArray_DIMS(a)[k]
    return size


cdef inline bint same_shape(const PyArrayObject *a, const PyArrayObject *b) noexcept nogil:
    """PyArray_SAMESHAPE without a call."""
    cdef int k
    if PyArray_NDIM(a) != PyArray_NDIM(b):
        return False
    for k in range(PyArray_NDIM(a)):
        if PyArray_DIMS(a)[k] != PyArray_DIMS(b)[k]:
            return False
    return True


cdef inline void ask_for_header(const PyObject *array) noexcept nogil:
    OC_ASK_FOR(array)
    OC_ASK_FOR(<const char *>array + LINE)


cdef inline void ask_for_shape(PyObject *array) noexcept nogil:
    if PyArray_CheckExact(array):
        OC_ASK_FOR(PyArray_DIMS(<const PyArrayObject *>array))


cdef inline bint as_given(const Book *book) noexcept nogil:
    """Whether a parameter is still what it was at construction."""
    cdef const PyArrayObject *p = <const PyArrayObject *>book.array
    return (PyArray_DATA(p) == book.parameter and PyArray_ISWRITEABLE(p) and size_of_array(p) == book.n
            and PyArray_TYPE(p) == book.typenum)


cdef inline bint as_before(const Book *book, PyObject *given) noexcept nogil:
    """Whether a gradient is bound, from the last step, and nothing about it or its parameter has changed."""
    cdef const PyArrayObject *g = <const PyArrayObject *>given
    if book.gradient == NULL:
        return given == Py_None
    return (PyArray_CheckExact(given) and PyArray_DATA(g) == book.gradient and PyArray_TYPE(g) == book.gradient_type
            and PyArray_ISCARRAY_RO(g) and as_given(book) and same_shape(g, <const PyArrayObject *>book.array))


cdef inline Py_ssize_t end_of(const Tensor *t) noexcept nogil:
    return t.place + t.n


cdef inline oc_storage own(oc_dtype dtype) noexcept nogil:
    """How the arithmetic dtype itself is stored."""
    return OC_AS_F32 if dtype == OC_F32 else OC_AS_F64


cdef inline unsigned char size_of(oc_storage storage) noexcept nogil:
    if storage == OC_AS_F64:
        return 8
    return 4 if storage == OC_AS_F32 else 2 if storage == OC_AS_BF16 or storage == OC_AS_F16 else 1


cdef class Tensors:
    """Parameters with their gradients and states, each bound to the streams of its rule's kernel."""

    def __cinit__(self):
        self.params, self.names, self.labels, self.groups, self.spans = [], [], [], [], []

    def __dealloc__(self):
        free(self.tensors)
        free(self.books)
        free(self.histories)
        free(self.shared)
        free(self.use)
        free(self.stages)
        free(self.coefficients)
        free(self.blocks)
        free(self.partial)

    # ------------------------------------------------------------------------------------------------ binding

    cdef int _grow(self) except -1:
        cdef Py_ssize_t room = 2 * self.capacity + 8
        cdef void *grown = realloc(self.tensors, room * sizeof(Tensor))
        if grown == NULL:
            raise MemoryError
        self.tensors = <Tensor *>grown
        grown = realloc(self.books, room * sizeof(Book))
        if grown == NULL:
            raise MemoryError
        self.books = <Book *>grown
        grown = realloc(self.histories, room * sizeof(History))
        if grown == NULL:
            raise MemoryError
        self.histories = <History *>grown
        grown = realloc(self.shared, room * sizeof(History))
        if grown == NULL:
            raise MemoryError
        self.shared = <History *>grown
        grown = realloc(self.use, room * sizeof(int))
        if grown == NULL:
            raise MemoryError
        self.use = <int *>grown
        grown = realloc(self.stages, room * sizeof(oc_staged))
        if grown == NULL:
            raise MemoryError
        self.stages = <oc_staged *>grown
        self.capacity = room
        return 0

    def _bind(self, object array, str name, object label, str arithmetic, str uint16_as=None,
              cnp.ndarray like=None):
        """Add a parameter to the last group; ``label`` is its key in a mapping of gradients. Return its index.

        ``arithmetic`` is the dtype that its steps are computed in, ``uint16_as`` what uint16 arrays hold, ``like`` an
        array of the arithmetic dtype that a layerwise rule will move in its place.
        """
        self._part()
        if self.n_tensors == self.capacity:
            self._grow()
        cdef Py_ssize_t i = self.n_tensors
        cdef Tensor *t = &self.tensors[i]
        memset(t, 0, sizeof(Tensor))
        memset(&self.books[i], 0, sizeof(Book))
        memset(&self.histories[i], 0, sizeof(History))
        memset(&self.stages[i], 0, sizeof(oc_staged))
        self.use[i] = -1
        cdef cnp.ndarray a = stored(array, name, arrays.OUT, uint16_as, &self.stages[i].x[0])
        cdef oc_dtype dtype = OC_F32 if arithmetic == "float32" else OC_F64
        t.n, t.dtype = cnp.PyArray_SIZE(a), <unsigned char>dtype
        self.uint16_as = uint16_as
        self.books[i].array = <PyObject *>a
        self.books[i].parameter = cnp.PyArray_DATA(a)
        self.books[i].n = t.n
        self.books[i].typenum = cnp.PyArray_TYPE(a)
        self.histories[i].group = len(self.groups) - 1
        self.histories[i].dtype = dtype
        if self.layers is not None:
            self.stages[i].x[OC_DIRECTION].data = self.layers.add(a if like is None else like)
            self.stages[i].x[OC_DIRECTION].storage = own(dtype)
        self.params.append(a)
        self.names.append(name)
        self.labels.append(label)
        self.n_tensors += 1
        return i

    def _bind_state(self, Py_ssize_t index, int stream, cnp.ndarray array not None, str kind, cnp.ndarray extra=None):
        """Bind a state array of parameter ``index`` to a stream of the kernel; ``kind`` says how it is kept."""
        self.stages[index].x[stream] = described(array, kind, extra, "nearest")

    def _bind_rounding(self, Py_ssize_t index, str kind, str rounding, cnp.ndarray extra=None):
        """Have parameter ``index`` rounded at random, or as the high part of a pair whose low part is ``extra``."""
        self.stages[index].x[0] = described(self.params[index], kind, extra, rounding)

    def _bind_master(self, Py_ssize_t index, cnp.ndarray master not None):
        """Have the rule move ``master``, an array of the arithmetic dtype, and the parameter follow it."""
        self.stages[index].copy = self.stages[index].x[0]
        self.books[index].copy = self.books[index].parameter
        self.stages[index].x[0] = described(master, master.dtype.name, None, "nearest")

    def _bind_average(self, Py_ssize_t index, cnp.ndarray average not None, double keep):
        """Have ``average`` follow parameter ``index``: average <- keep*average + (1 - keep)*theta."""
        self.stages[index].average = described(average, average.dtype.name, None, "nearest")
        self.books[index].average = cnp.PyArray_DATA(average)
        cdef double held = <double><float>keep if self.tensors[index].dtype == OC_F32 else keep
        self.stages[index].mean = oc_mean(held, keep - held, 1 - keep)

    def _bind_copy(self, Py_ssize_t index, object array, str name):
        """Have each step write the new values of parameter ``index`` to ``array`` too; None ends it."""
        cdef oc_array copy
        memset(&copy, 0, sizeof(copy))
        if array is not None:
            arrays.same_shape(stored(array, name, arrays.OUT, self.uint16_as, &copy), name, self.params[index],
                              self.names[index])
        self.stages[index].copy = copy
        self.books[index].copy = copy.data

    def _bind_factor(self, Py_ssize_t index, int which, object array):
        """Bind the row (0) or column (1) factor of the second moment of parameter ``index``."""
        cdef cnp.ndarray a = arrays.checked(array, self.names[index], arrays.OUT)
        self.layers.layers[index].factor[which] = cnp.PyArray_BYTES(a)

    def _bound(self, list state):
        """Plan a step; ``state`` holds every state array bound. ValueError on overlap."""
        self._plan_spans(state)
        self._plan_streams()
        self._plan_layout()
        self._plan_blocks()
        if self.layers is not None:
            self.layers.plan()
        free(self.coefficients)
        self.coefficients = <oc_coefficients *>calloc(max(1, self.n_tensors), sizeof(oc_coefficients))
        if self.coefficients == NULL:
            raise MemoryError

    def _plan_spans(self, list state):
        spans = sorted((<size_t>cnp.PyArray_DATA(a), <size_t>cnp.PyArray_DATA(a) + <size_t>cnp.PyArray_NBYTES(a), name)
                       for a, name in [*zip(self.params, self.names), *((a, "the state") for a in state)] if a.size)
        for before, after in zip(spans, spans[1:]):
            if after[0] < before[1]:
                raise ValueError(f"params: expected arrays of their own memory, but {after[2]} overlaps {before[2]}")
        self.spans = spans

    def _plan_streams(self):
        """Find how the arrays of each tensor are kept: most kernels take them as they are."""
        cdef Py_ssize_t i
        cdef int k
        cdef oc_staged *s
        cdef Tensor *t
        self.followed = self.staged = False
        self.planned = True
        for i in range(self.n_tensors):
            s, t = &self.stages[i], &self.tensors[i]
            for k in range(OC_MAX_STREAMS):
                if k != 1:
                    t.x[k] = s.x[k].data
                    t.size[k] = size_of(s.x[k].storage)
            self.books[i].way = self._way(i)
            self._set_gradient(i, nothing)  # the overlap check is for what there is now
            self.staged = self.staged or self.books[i].way == STAGED
            self.followed = self.followed or self.books[i].average != NULL or self.books[i].copy != NULL
            if self.layers is not None:
                self.layers.layers[i].theta = <char *>t.x[0]
        self._follow(False, False)

    cdef int _way(self, Py_ssize_t i) noexcept:
        """How the parameter and the states of a tensor are kept."""
        cdef const oc_staged *s = &self.stages[i]
        cdef oc_storage arithmetic = own(<oc_dtype>self.tensors[i].dtype)
        cdef int k
        cdef bint native = s.x[0].storage == arithmetic, halves = True, states = False
        if self.books[i].average != NULL or self.books[i].copy != NULL or s.x[0].rounding != OC_ROUND_NEAREST:
            return STAGED
        for k in range(2, OC_MAX_STREAMS):
            if s.x[k].data != NULL:
                states = True
                native = native and s.x[k].storage == arithmetic
                halves = halves and s.x[k].storage == OC_AS_BF16
        if native:
            return NATIVE
        if not halves or arithmetic != OC_AS_F32 or self.layers is not None:
            return STAGED
        if s.x[0].storage == OC_AS_F32 and states:
            return OC_BF16_STATES
        return OC_ALL_BF16 if s.x[0].storage == OC_AS_BF16 else STAGED

    cdef void _follow(self, bint average, bint copy) noexcept nogil:
        """Which of what follows theta does so in the passes to come."""
        cdef Py_ssize_t i
        if self.followed:
            for i in range(self.n_tensors):
                self.stages[i].average.data = self.books[i].average if average else NULL
                self.stages[i].copy.data = self.books[i].copy if copy else NULL

    def _plan_layout(self):
        """Lay the tensors end to end, each from a multiple of UNIT on; one that starts inside a cache line as far into
        it, so that the multiples of UNIT lie on lines of all."""
        cdef Py_ssize_t i, at = 0, lead
        cdef Tensor *t
        self.elements = 0
        for i in range(self.n_tensors):
            t = &self.tensors[i]
            lead = (<size_t>t.x[0] & (LINE - 1)) // t.size[0] if self.books[i].way != STAGED else 0
            t.place = at + lead
            at = (t.place + t.n + UNIT - 1) // UNIT * UNIT
            self.elements += t.n
        self.length = at

    def _plan_blocks(self):
        cdef Py_ssize_t i, begin, count = 0
        for i in range(self.n_tensors):
            count += (self.tensors[i].n + OC_BLOCK - 1) // OC_BLOCK
        self.n_blocks = count
        free(self.blocks)
        free(self.partial)
        self.blocks = <Piece *>calloc(max(1, count), sizeof(Piece))
        self.partial = <double *>calloc(max(1, count), sizeof(double))
        if self.blocks == NULL or self.partial == NULL:
            raise MemoryError
        count = 0
        for i in range(self.n_tensors):
            for begin in range(0, self.tensors[i].n, OC_BLOCK):
                self.blocks[count] = Piece(i, begin)
                count += 1

    def _truncate(self, Py_ssize_t count, Py_ssize_t groups):
        """Forget the parameters and groups from these indices on: the way back from a failed binding."""
        self._part()
        self.n_tensors = count
        if self.layers is not None:
            self.layers.truncate(count)
        del self.params[count:], self.names[count:], self.labels[count:], self.groups[groups:]

    cdef void _join(self) noexcept nogil:
        """Have neighbours of one group, dtype and history share coefficients from here on, until one of them gets a gradient
        that it had none of, or loses it.

        A layerwise rule has coefficients apart: the layer's factor goes into eta.
        """
        cdef Py_ssize_t i
        cdef History *latest = NULL
        self.n_shared = 0
        for i in range(self.n_tensors):
            if self.use[i] < 0:
                continue
            if latest == NULL or self.layers is not None or not same_history(latest, &self.histories[i]):
                latest = &self.shared[self.n_shared]
                latest[0] = self.histories[i]
                self.n_shared += 1
            self.use[i] = <int>self.n_shared - 1
        self.joined = True  # last: another thread may read a history meanwhile

    cdef void _part(self) noexcept nogil:
        """Let each tensor have a history of its own again."""
        cdef Py_ssize_t i
        if not self.joined:
            return
        self.joined = False
        for i in range(self.n_tensors):
            if self.use[i] >= 0:
                self.histories[i] = self.shared[self.use[i]]

    cdef const History *_history(self, Py_ssize_t index) noexcept:
        """A tensor's history, to be read, beside a step in another thread too."""
        if self.joined and self.use[index] >= 0:
            return &self.shared[self.use[index]]
        return &self.histories[index]

    def _get_step(self, Py_ssize_t index):
        return self._history(index).step

    def _set_step(self, Py_ssize_t index, int64_t step):
        self._part()
        self.histories[index].step = step

    def _get_carried(self, Py_ssize_t index, int which):
        return self._history(index).carried[which]

    def _set_carried(self, Py_ssize_t index, int which, double value):
        self._part()
        self.histories[index].carried[which] = value

    cdef void _set_gradient(self, Py_ssize_t i, oc_array gradient) noexcept:
        cdef Tensor *t = &self.tensors[i]
        cdef oc_storage expected = OC_AS_BF16 if self.books[i].way == OC_ALL_BF16 else own(<oc_dtype>t.dtype)
        if (gradient.data == NULL) != (self.use[i] < 0):
            self._part()
            self.use[i] = -1 if gradient.data == NULL else 0
        t.x[1] = self.books[i].gradient = gradient.data
        t.way = <signed char>self.books[i].way if gradient.storage == expected else STAGED
        t.size[1] = size_of(gradient.storage)
        if t.way != NATIVE:
            self.stages[i].x[1] = gradient

    cdef bint _is_bound(self, Py_ssize_t n, PyObject **given) noexcept nogil:
        """Whether the gradients of the first n tensors are bound from the last step. The caller holds the GIL."""
        cdef int t, bound = 1, threads = num_threads(self.elements) if n >= MANY else 1
        if threads == 1:
            return self._is_range_bound(0, n, given)
        for t in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            bound &= self._is_range_bound(n * t // threads, n * (t + 1) // threads, given)
        return bound

    cdef bint _is_range_bound(self, Py_ssize_t begin, Py_ssize_t end, PyObject **given) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(begin, end):
            if i + AHEAD < end:
                ask_for_header(given[i + AHEAD])
                ask_for_header(self.books[i + AHEAD].array)
            if i + AHEAD // 2 < end:
                ask_for_shape(given[i + AHEAD // 2])
                ask_for_shape(self.books[i + AHEAD // 2].array)
            if not as_before(&self.books[i], given[i]):
                return False
        return True

    cdef int _bind_gradient(self, Py_ssize_t i, object g, str what) except -1:
        cdef Book *book = &self.books[i]
        cdef oc_array a = nothing
        if g is None:
            self._set_gradient(i, a)
            return 0
        self._check_parameter(i)
        cdef cnp.ndarray p = <cnp.ndarray>self.params[i]
        if (cnp.PyArray_CheckExact(g) and cnp.PyArray_TYPE(<cnp.ndarray>g) == cnp.NPY_FLOAT32
                and cnp.PyArray_ISCARRAY_RO(<cnp.ndarray>g) and same_shape(<PyArrayObject *>g, <PyArrayObject *>p)):
            a.data, a.storage = cnp.PyArray_DATA(<cnp.ndarray>g), OC_AS_F32
        else:
            name = f"{what} of {self.names[i]}"
            arrays.same_shape(stored(g, name, arrays.IN, self.uint16_as, &a), name, p, "the parameter")
        if a.data != book.gradient or cnp.PyArray_TYPE(<cnp.ndarray>g) != book.gradient_type:
            self._check_overlap(i, what, <size_t>a.data, <size_t>a.data + <size_t>cnp.PyArray_NBYTES(<cnp.ndarray>g))
        book.gradient_type = cnp.PyArray_TYPE(<cnp.ndarray>g)
        self._set_gradient(i, a)
        return 0

    cdef int _check_parameter(self, Py_ssize_t i) except -1:
        if not as_given(&self.books[i]):
            raise ValueError(f"{self.names[i]}: expected the writable array given at construction, but its memory, "
                             f"size or dtype has changed or it has become read-only")
        return 0

    cdef int _check_overlap(self, Py_ssize_t i, str what, size_t begin, size_t end) except -1:
        cdef Py_ssize_t low = 0, high = len(self.spans), middle
        while low < high:  # the first span that ends after `begin`
            middle = (low + high) // 2
            if <size_t>self.spans[middle][1] <= begin:
                low = middle + 1
            else:
                high = middle
        if begin < end and low < len(self.spans) and <size_t>self.spans[low][0] < end:
            raise ValueError(f"{what} of {self.names[i]}: expected memory of its own, got an array that overlaps "
                             f"{self.spans[low][2]}")
        return 0

    # ------------------------------------------------------------------------------------------------- passes

    cdef void _run(self, oc_rule rule) noexcept nogil:
        cdef int t, threads = num_threads(self.elements)
        cdef Shares shares
        if threads == 1:
            self._run_range(rule, 0, self.length, 0)
            return
        deal(&shares, self.length // UNIT, self.length, threads)
        for t in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            self._run_pieces(rule, &shares, t)

    cdef void _run_pieces(self, oc_rule rule, Shares *shares, int thread) noexcept nogil:
        cdef Taken piece = thread_of(thread)
        cdef Py_ssize_t i = 0
        while take(shares, &piece):
            i = self._run_range(rule, piece.begin * UNIT, piece.end * UNIT, i)

    cdef Py_ssize_t _run_range(self, oc_rule rule, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t guess) noexcept nogil:
        """The part of the layout from `begin` to `end`, whose first tensor may be `guess`; return a guess for what follows."""
        cdef Py_ssize_t i = self._first_after(begin, guess), first, n
        cdef const oc_kernels *k = kernels()
        cdef const oc_coefficients *c
        cdef const Tensor *t
        while i < self.n_tensors and self.tensors[i].place < end:
            t = &self.tensors[i]
            first = max(begin - t.place, 0)
            n = min(t.n, end - t.place) - first
            if self.use[i] >= 0 and n > 0:
                c = &self.coefficients[self.use[i]]
                if t.way == STAGED:
                    k.staged[t.dtype](rule, first, n, &self.stages[i], c)
                elif t.way == NATIVE:
                    run(t, c, k.update[<int>rule][t.dtype], first, n)
                else:
                    run(t, c, k.mixed[t.way][<int>rule], first, n)
            if end_of(t) > end:
                break
            i += 1
        return i

    cdef Py_ssize_t _first_after(self, Py_ssize_t place, Py_ssize_t guess) noexcept nogil:
        """The first tensor that reaches beyond this place. Looking for it takes longer than a short tensor does."""
        cdef Py_ssize_t low = 0, high = self.n_tensors, middle
        if (guess < high and end_of(&self.tensors[guess]) > place
                and (guess == 0 or end_of(&self.tensors[guess - 1]) <= place)):
            return guess
        while low < high:
            middle = (low + high) // 2
            if end_of(&self.tensors[middle]) <= place:
                low = middle + 1
            else:
                high = middle
        return low

    # -------------------------------------------------------------------------------------------- gradient norm

    cdef double _norm(self) noexcept nogil:
        """Global 2-norm of the bound gradients; NaN or infinity where one of them is not finite."""
        cdef double squares = self._sum_squares(1.0), largest
        if squares_are_safe(squares):
            return sqrt(squares)
        largest = self._abs_max()
        if not 0 < largest < INFINITY:
            return largest
        cdef double scale = square_scale(largest)
        return sqrt(self._sum_squares(scale)) / scale

    cdef double _sum_squares(self, double scale) noexcept nogil:
        cdef int t, threads = num_threads(self.elements)
        cdef Shares shares
        deal(&shares, self.n_blocks, self.elements, threads)
        for t in prange(threads, schedule="static", chunksize=1, num_threads=threads):
            self._square_pieces(scale, &shares, t)
        return tree_sum(self.n_blocks, self.partial)

    cdef void _square_pieces(self, double scale, Shares *shares, int thread) noexcept nogil:
        cdef Taken piece = thread_of(thread)
        cdef Py_ssize_t b
        while take(shares, &piece):
            for b in range(piece.begin, piece.end):
                self._square_block(b, scale)

    cdef const void *_block(self, Py_ssize_t i, Py_ssize_t begin, Py_ssize_t n, char *room) noexcept nogil:
        """The gradient of tensor i from `begin` on, in the arithmetic dtype: in place, or in `room`."""
        cdef const Tensor *t = &self.tensors[i]
        cdef const oc_array *g = &self.stages[i].x[1]
        cdef Py_ssize_t item = 4 if t.dtype == OC_F32 else 8, at = 0, step = OC_STAGE // item
        if t.way == NATIVE or g.storage == own(<oc_dtype>t.dtype):
            return <char *>t.x[1] + begin * item
        while at < n:
            kernels().load[t.dtype](begin + at, min(step, n - at), g, room + at * item)
            at += step
        return room

    cdef void _square_block(self, Py_ssize_t b, double scale) noexcept nogil:
        cdef const Tensor *t = &self.tensors[self.blocks[b].tensor]
        cdef Py_ssize_t begin = self.blocks[b].begin, n = min(<Py_ssize_t>OC_BLOCK, t.n - begin)
        cdef double room[OC_BLOCK]
        self.partial[b] = 0
        if t.x[1] != NULL:
            self.partial[b] = kernels().reduce[t.dtype].sum_squares(
                n, self._block(self.blocks[b].tensor, begin, n, <char *>room), scale)

    cdef double _abs_max(self) noexcept nogil:
        cdef double largest = 0, here
        cdef double room[OC_BLOCK]
        cdef Py_ssize_t b, i, n
        for b in range(self.n_blocks):
            i = self.blocks[b].tensor
            n = min(<Py_ssize_t>OC_BLOCK, self.tensors[i].n - self.blocks[b].begin)
            if self.tensors[i].x[1] != NULL:
                here = kernels().reduce[self.tensors[i].dtype].abs_max(
                    n, self._block(i, self.blocks[b].begin, n, <char *>room))
                if not here <= largest:  # NaN stays
                    largest = here
                if largest != largest:
                    break
        return largest

    cdef Py_ssize_t _first_nonfinite(self) noexcept nogil:
        """The first tensor whose gradient is not finite, or -1."""
        cdef double room[OC_BLOCK]
        cdef Py_ssize_t b, i, n
        for b in range(self.n_blocks):
            i = self.blocks[b].tensor
            n = min(<Py_ssize_t>OC_BLOCK, self.tensors[i].n - self.blocks[b].begin)
            if self.tensors[i].x[1] != NULL and kernels().reduce[self.tensors[i].dtype].count_nonfinite(
                    n, self._block(i, self.blocks[b].begin, n, <char *>room)):
                return i
        return -1
