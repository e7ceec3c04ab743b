# The compiled form of an operation: what nn/ops.py computes with Python between the kernels, over memory bound once.
from libc.stdint cimport int64_t

from optcore._native.c cimport oc_activation_kernels
from optcore._native.norm cimport vector

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
    bint need_dx
    int dtype
    Py_ssize_t item, in_size, out_size  # bytes of a value, values of an example
    Py_ssize_t channels, inner          # of an example
    Py_ssize_t weight, bias             # where they begin in theta, in bytes; -1 for none
    double alpha, eps, momentum         # momentum < 0: the average over all batches
    const oc_activation_kernels *activation
    vector running_mean, running_var
    int64_t *num_batches
    # Memory, the same for every batch up to the largest.
    const char *x
    char *y
    char *dy
    char *dx
    double *saved
    double *work

# Whether forward can train on so many rows; if not, the Python passes say why.
cdef bint fits(const Op *o, Py_ssize_t rows) noexcept nogil
# Fill in everything but the memory. False: no compiled form.
cdef bint bind(Op *o, object op, object buffers, int dtype) except -1
