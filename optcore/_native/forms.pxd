# The compiled form of an operation: what nn/ops.py computes with Python between the kernels, over memory bound once.
from libc.stdint cimport int64_t

from optcore._native.c cimport oc_activation_kernels
from optcore._native.convolution cimport convolution
from optcore._native.group_norm cimport group_norm
from optcore._native.norm_job cimport vector
from optcore._native.pooling cimport pool
from optcore._native.row_norm cimport row_norm

cdef struct Pass:           # one batch through the network
    const char *theta
    char *grad              # NULL: forward only
    Py_ssize_t rows
    bint training           # normalise with the statistics of the batch, and move the running ones

cdef struct Op:
    void (*forward)(Op *, const Pass *) noexcept nogil      # y from x
    void (*backward)(Op *, const Pass *) noexcept nogil     # the parameters' gradients, and dx, from dy
    Py_ssize_t (*kept)(const Op *, Py_ssize_t) noexcept nogil   # doubles from forward to backward, for so many rows
    Py_ssize_t (*room)(const Op *, Py_ssize_t) noexcept nogil   # doubles within either; both NULL for none
    bint elementwise        # y may be x, dx may be dy
    bint reads_x, reads_y   # whether backward does
    bint held               # y is read once more after the next operation
    bint need_dx
    int dtype
    Py_ssize_t item, in_size, out_size  # bytes of a value, values of an example
    Py_ssize_t channels, inner          # of an example
    Py_ssize_t weight, bias             # where they begin in theta, in bytes; -1 for none
    double alpha, eps, momentum         # momentum < 0: the average over all batches
    double p                            # of dropout
    const oc_activation_kernels *activation
    convolution windows
    pool images
    row_norm of_rows
    group_norm of_groups
    vector running_mean, running_var
    int64_t *num_batches
    int64_t *seed           # of dropout, and the number of its passes
    int64_t *num_passes
    Op *fork                # of a join: where its shortcut begins
    char *shortcut_dy       # of both: the adjoint that goes by the shortcut
    # Memory, the same for every batch up to the largest.
    const char *x
    char *y
    char *dy
    char *dx
    double *saved
    double *work

# Whether forward can train on so many rows; if not, the Python passes say why.
cdef bint fits(const Op *o, Py_ssize_t rows) noexcept nogil
# Fill in everything but the memory. False: no compiled form. `forward` stays NULL where there is nothing to do.
cdef bint bind(Op *o, object op, object buffers, int dtype, bint training) except -1
# A residual block is its operations between these two: what comes in, held, and what comes out with it added.
cdef void bind_fork(Op *o, object op, int dtype) except *
cdef void bind_join(Op *o, object op, int dtype, Op *fork) except *
