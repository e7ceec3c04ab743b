"""A network compiled: its operations bound to memory once, then run without Python and without the GIL between them.

The memory is one arena, planned for a largest batch; a smaller one leaves room. In training every output that a
backward pass reads has a place of its own, the adjoints take turns in two; in evaluation the outputs do.
"""
cimport numpy as cnp
from cython.parallel cimport prange
from libc.limits cimport INT_MAX
from libc.math cimport isfinite
from libc.stdint cimport int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from optcore._native.arrays cimport dtype_of
from optcore._native.forms cimport Op, Pass, bind, bind_fork, bind_join, fits
from optcore._native.functional cimport loss_call, loss_room
from optcore._native.loss_forms cimport LossForm, loss_options, loss_space, run_loss
from optcore._native.penalty cimport Penalty, blocks_of, penalty_call, run_penalty
from optcore._native.threads cimport num_threads
from optcore._native.update cimport Stepper

cnp.import_array()

cdef enum:
    LINE = 64  # bytes; every array of the arena begins a cache line


cdef struct Undo:
    char *buffer
    char *copy
    Py_ssize_t bytes


cdef class Network:
    """A program over theta and buffers, for batches of up to ``rows`` examples.

    One call at a time. Arguments are trusted: `optcore.nn.Sequential` has checked them. Where the program has an
    operation without a compiled form, ``compiled`` is False and nothing else may be called.
    """
    cdef Op *ops
    cdef Undo *undo
    cdef Py_ssize_t n_ops, n_buffers, first, n_blocks
    cdef readonly Py_ssize_t rows
    cdef readonly bint compiled
    cdef bint training
    cdef loss_call loss
    cdef char *loss_space
    cdef char *x            # a gathered batch and its targets
    cdef char *target
    cdef char *weight
    cdef cnp.ndarray theta
    cdef cnp.ndarray arena
    cdef list buffers       # held: the operations point into them

    def __cinit__(self, program, cnp.ndarray theta, dict buffers, Py_ssize_t rows, bint training):
        cdef cnp.npy_intp end
        self.theta, self.buffers, self.rows, self.training = theta, list(buffers.values()), rows, training
        self.ops = <Op *>calloc(2 * sum(1 for _ in program.every_op()), sizeof(Op))  # a block has two ends
        self.undo = <Undo *>calloc(len(buffers) + 1, sizeof(Undo))
        if self.ops == NULL or self.undo == NULL:
            raise MemoryError
        self.compiled = rows <= INT_MAX and self._bind(program, buffers)
        if not self.compiled:
            return
        end = self._lay_out(NULL) + LINE
        self.arena = cnp.PyArray_EMPTY(1, &end, cnp.NPY_UINT8, 0)
        self._lay_out(<char *>((<size_t>cnp.PyArray_DATA(self.arena) + LINE - 1) // LINE * LINE))

    def __dealloc__(self):
        free(self.ops)
        free(self.undo)

    cdef bint _bind(self, program, dict buffers) except -1:
        """Fill the operations and where the buffers are; False where one has no compiled form."""
        cdef Py_ssize_t i
        cdef cnp.ndarray b
        self.first = -1
        self.loss.dtype = dtype_of(self.theta)
        if not self._bind_ops(program.ops, buffers):
            return False
        if self.first < 0:
            self.first = self.n_ops
        for i, b in enumerate(buffers.values()):
            self.undo[i] = Undo(cnp.PyArray_BYTES(b), NULL, cnp.PyArray_NBYTES(b))
        self.n_buffers, self.n_blocks = len(buffers), len(blocks_of(program.weights))
        return self.n_ops > 0

    cdef bint _bind_ops(self, ops, dict buffers) except -1:
        cdef Op *fork
        for op in ops:
            if op.name == "residual":
                fork = &self.ops[self.n_ops]
                bind_fork(fork, op, self.loss.dtype)
                self._bound(False)
                if not self._bind_ops(op.options["program"].ops, buffers):
                    return False
                bind_join(&self.ops[self.n_ops], op, self.loss.dtype, fork)
                self._bound(False)
            elif not bind(&self.ops[self.n_ops], op, buffers, self.loss.dtype, self.training):
                return False
            else:
                self._bound(bool(op.params))
        return True

    cdef void _bound(self, bint has_parameters) noexcept:
        """Keep the operation that has been filled in, if there is something to do."""
        cdef Op *o = &self.ops[self.n_ops]
        if o.forward == NULL:
            return
        if self.first < 0 and has_parameters:
            self.first = self.n_ops
        o.need_dx = self.first >= 0 and self.n_ops > self.first
        self.n_ops += 1

    # ------------------------------------------------------------------------------------------------- the arena

    cdef Py_ssize_t _lay_out(self, char *base) noexcept:
        """Give every array its place from `base` on; return the bytes that all take."""
        cdef char *free = base
        cdef Py_ssize_t i, bytes_of_target
        self._lay_out_values(&free)
        self._lay_out_work(&free)
        if self.training:
            self._lay_out_adjoints(&free)
            self.x = _take(&free, self.rows * self.ops[0].in_size * self.ops[0].item)
            bytes_of_target = max(<Py_ssize_t>sizeof(int64_t), self._last().out_size * self._last().item)
            self.target = _take(&free, self.rows * bytes_of_target)
            self.weight = _take(&free, self.rows * sizeof(double))
            self.loss_space = _take(&free, loss_space(self.rows, self._last().out_size, self._last().item))
            for i in range(self.n_buffers):
                self.undo[i].copy = _take(&free, self.undo[i].bytes)
        return free - base

    cdef Op *_last(self) noexcept nogil:
        return &self.ops[self.n_ops - 1]

    cdef Py_ssize_t _widest(self) noexcept:
        """Bytes of the largest output, or adjoint of an input, of a batch."""
        cdef Py_ssize_t i, widest = 0
        for i in range(self.n_ops):
            widest = max(widest, max(self.ops[i].out_size, self.ops[i].in_size if i > 0 else 0))
        return self.rows * widest * self.ops[0].item

    cdef void _lay_out_values(self, char **free) noexcept:
        """An element-wise operation works in place where no backward pass wants to know what was there."""
        cdef Py_ssize_t i
        cdef Op *o
        cdef char *turn[2]
        cdef bint wanted = True  # the batch itself is not ours
        if not self.training:
            turn[0], turn[1] = _take(free, self._widest()), _take(free, self._widest())
        for i in range(self.n_ops):
            o = &self.ops[i]
            o.x = self.ops[i - 1].y if i > 0 else NULL
            if o.elementwise and not wanted and not (self.training and o.reads_x):
                o.y = <char *>o.x
            elif self.training or o.held:
                o.y = _take(free, self.rows * o.out_size * o.item)
            else:
                o.y = turn[0] if o.x != turn[0] else turn[1]
            wanted = (self.training and o.reads_y) or o.held
        self.loss.y = self._last().y

    cdef void _lay_out_adjoints(self, char **free) noexcept:
        cdef Py_ssize_t i
        cdef Op *o
        cdef char *turn[2]
        turn[0], turn[1] = _take(free, self._widest()), _take(free, self._widest())
        self.loss.dy = turn[0] if self._last().reads_y else self._last().y
        for i in range(self.n_ops - 1, -1, -1):
            o = &self.ops[i]
            o.dy = self.ops[i + 1].dx if i + 1 < self.n_ops else self.loss.dy
            o.dx = o.dy if o.elementwise else turn[0] if o.dy != turn[0] else turn[1]
            if o.fork != NULL:
                o.shortcut_dy = o.fork.shortcut_dy = _take(free, self.rows * o.out_size * o.item)

    cdef void _lay_out_work(self, char **free) noexcept:
        """What an operation keeps, and one room that all of them, the loss and the penalty share."""
        cdef Py_ssize_t i, most = max(loss_room(self.rows, self._last().out_size), self.n_blocks)
        cdef Op *o
        for i in range(self.n_ops):
            o = &self.ops[i]
            if o.kept != NULL:
                o.saved = <double *>_take(free, o.kept(o, self.rows) * sizeof(double))
            if o.room != NULL:
                most = max(most, o.room(o, self.rows))
        self.loss.room = <double *>_take(free, most * sizeof(double))
        for i in range(self.n_ops):
            self.ops[i].work = self.loss.room

    # --------------------------------------------------------------------------------------------------- a pass

    cdef void _forward(self, const Pass *s, const char *x, char *y) noexcept nogil:
        cdef Py_ssize_t i
        self.ops[0].x = x
        self._last().y = y
        for i in range(self.n_ops):
            self.ops[i].forward(&self.ops[i], s)

    cdef double _gradient(self, const Pass *s, const char *x, const char *target, bint soft, const char *weight,
                          const loss_options *loss, const penalty_call *penalty) noexcept nogil:
        cdef Py_ssize_t i
        cdef double value
        self._forward(s, x, <char *>self.loss.y)
        self.loss.rows, self.loss.columns, self.loss.target, self.loss.soft = s.rows, self._last().out_size, target, soft
        self.loss.row_weight = <const double *>weight
        value = run_loss(loss, &self.loss, self.loss_space)
        for i in range(self.n_ops - 1, self.first - 1, -1):
            self.ops[i].backward(&self.ops[i], s)
        if penalty != NULL:
            value += run_penalty(penalty, self.loss.dtype, s.theta, s.grad, self.loss.room)
        return value

    cdef void _keep_buffers(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.n_buffers):
            memcpy(self.undo[i].copy, self.undo[i].buffer, self.undo[i].bytes)

    cdef void _put_back_buffers(self) noexcept nogil:
        cdef Py_ssize_t i
        for i in range(self.n_buffers):
            memcpy(self.undo[i].buffer, self.undo[i].copy, self.undo[i].bytes)

    cdef Pass _pass(self, Py_ssize_t rows, cnp.ndarray grad) noexcept:
        cdef Pass s
        s.theta, s.grad, s.rows, s.training = cnp.PyArray_BYTES(self.theta), NULL, rows, self.training
        if grad is not None:
            s.grad = cnp.PyArray_BYTES(grad)
        return s

    def fits(self, Py_ssize_t rows):
        """Whether a pass can run on so many examples; if not, the Python passes do it or say why not."""
        cdef Py_ssize_t i
        if not self.compiled or rows > self.rows or rows < 1:
            return False
        for i in range(self.n_ops if self.training else 0):
            if not fits(&self.ops[i], rows):
                return False
        return True

    def output(self, cnp.ndarray x, cnp.ndarray out):
        """Write the outputs for the batch x; in training this moves the running statistics."""
        cdef Pass s = self._pass(cnp.PyArray_DIM(x, 0), None)
        with nogil:
            self._forward(&s, cnp.PyArray_BYTES(x), cnp.PyArray_BYTES(out))

    def loss_and_grad(self, cnp.ndarray x, cnp.ndarray target, LossForm loss not None, cnp.ndarray grad,
                      cnp.ndarray weight=None, Penalty penalty=None):
        """Return the loss of a batch after writing its gradient; ``weight`` is float64, one for each example."""
        cdef Pass s = self._pass(cnp.PyArray_DIM(x, 0), grad)
        cdef bint soft = cnp.PyArray_NDIM(target) == 2
        cdef const char *w = NULL if weight is None else cnp.PyArray_BYTES(weight)
        cdef const penalty_call *of_weights = NULL if penalty is None else &penalty.call
        cdef double value
        with nogil:
            value = self._gradient(&s, cnp.PyArray_BYTES(x), cnp.PyArray_BYTES(target), soft, w, &loss.options,
                                   of_weights)
        return value

    def step(self, cnp.ndarray X, cnp.ndarray y, cnp.ndarray index, LossForm loss not None, cnp.ndarray grad,
             grads, Stepper optimizer not None, cnp.ndarray weight=None, Penalty penalty=None):
        """Take a step of the optimizer on the rows ``index`` (None: all) of X, y and ``weight``; return their loss.

        ``grads`` are the parts of ``grad`` that the optimizer is to be given. All or nothing: where the optimizer
        skips the step, or raises, the buffers are as before.

        Raises
        ------
        FloatingPointError
            As the optimizer; for a loss that is not finite too.
        """
        cdef Pass s = self._pass(cnp.PyArray_DIM(X, 0) if index is None else cnp.PyArray_DIM(index, 0), grad)
        cdef bint soft = cnp.PyArray_NDIM(y) == 2
        cdef const char *x = cnp.PyArray_BYTES(X)
        cdef const char *target = cnp.PyArray_BYTES(y)
        cdef const char *w = NULL if weight is None else cnp.PyArray_BYTES(weight)
        cdef const penalty_call *of_weights = NULL if penalty is None else &penalty.call
        cdef const int64_t *rows = NULL if index is None else <const int64_t *>cnp.PyArray_DATA(index)
        cdef Py_ssize_t x_bytes = _row_bytes(X), y_bytes = _row_bytes(y)
        cdef bint strict, moved
        cdef double value
        optimizer._enter()
        try:
            held = optimizer._begin(grads, "grads", "gradient", True)
            strict = optimizer._nonfinite == "raise"
            with nogil:
                if rows != NULL:
                    x = _gathered(self.x, x, rows, s.rows, x_bytes)
                    target = _gathered(self.target, target, rows, s.rows, y_bytes)
                    if w != NULL:
                        w = _gathered(self.weight, w, rows, s.rows, sizeof(double))
                self._keep_buffers()
                value = self._gradient(&s, x, target, soft, w, &loss.options, of_weights)
                moved = (isfinite(value) or not strict) and optimizer._advance()
                if not moved:
                    self._put_back_buffers()
            if strict and not isfinite(value):
                raise FloatingPointError(f"loss: expected a finite value, got {value}; nothing was changed")
            optimizer._close()
        finally:
            optimizer._leave()
        return value


cdef char *_take(char **free, Py_ssize_t bytes) noexcept:
    free[0] += (bytes + LINE - 1) // LINE * LINE
    return free[0] - (bytes + LINE - 1) // LINE * LINE


cdef Py_ssize_t _row_bytes(cnp.ndarray a) noexcept:
    return cnp.PyArray_NBYTES(a) // max(<Py_ssize_t>1, cnp.PyArray_DIM(a, 0))


cdef bint _in_a_row(const int64_t *index, Py_ssize_t n) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(1, n):
        if index[i] != index[0] + i:
            return False
    return True


cdef const char *_gathered(char *room, const char *rows, const int64_t *index, Py_ssize_t n,
                           Py_ssize_t bytes) noexcept nogil:
    """The rows of these indices: where they are if they lie there in a row, else copied into the room."""
    cdef Py_ssize_t i
    if _in_a_row(index, n):
        return rows + index[0] * bytes
    for i in prange(n, schedule="static", num_threads=num_threads(n * bytes // 4)):
        memcpy(room + i * bytes, rows + index[i] * bytes, bytes)
    return room
