# The compiled forms of losses with options: what functional/targets.py makes of targets, over memory that is there.
from optcore._native.functional cimport loss_call

cdef struct loss_options:
    int kind
    double smoothing, delta, scale
    const double *weight        # [n_weight], 1 or as many as columns; or NULL, as the next
    const double *pos_weight
    Py_ssize_t n_weight, n_pos_weight

cdef class LossForm:
    cdef loss_options options
    cdef object weight, pos_weight  # held: the options point into them

# The loss of a call whose sizes, arrays, weights of rows and room are set; what its options change in the call is set
# here. `space` has as many bytes as the next function says.
cdef double run_loss(const loss_options *o, loss_call *c, char *space) noexcept nogil
cdef Py_ssize_t loss_space(Py_ssize_t rows, Py_ssize_t columns, Py_ssize_t item) noexcept nogil
