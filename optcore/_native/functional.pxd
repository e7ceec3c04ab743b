# The drivers of activations and losses, for others that have checked their arguments.
from libc.stdint cimport int64_t

from optcore._native.c cimport oc_activation_kernels

cdef struct activation_call:
    const oc_activation_kernels *kernels
    Py_ssize_t n, item      # elements, and the bytes of one
    double alpha

cdef void run_activation(const activation_call *c, const char *x, char *y) noexcept nogil  # y may be x
# dx may be dy or y.
cdef void run_activation_backward(const activation_call *c, const char *dy, const char *y, char *dx) noexcept nogil

cdef enum:
    MSE
    HUBER
    BCE

cdef struct loss_call:
    int kind                # of a loss over elements
    int dtype
    Py_ssize_t rows, columns
    bint soft               # cross-entropy: the target is weights [rows][columns], else int64 classes [rows]
    const char *y           # [rows][columns]
    const char *target
    const char *weight      # of the logistic error of each element, or NULL
    double delta            # of Huber's error
    const double *row_weight    # [rows], or NULL where all are 1
    double total            # what the rows' sum is divided by, commonly their number
    char *dy                # NULL where the gradient is not asked for; may be y
    double *room            # as many doubles as the function below says

ctypedef double loss_fn(const loss_call *c) noexcept nogil  # the loss; NaN for no rows
cdef double run_cross_entropy(const loss_call *c) noexcept nogil
cdef double run_over_elements(const loss_call *c) noexcept nogil
# The sum of the rows' weights, each times that of its class, where they have such; `room` has a double for each row.
cdef double sum_of_weights(Py_ssize_t rows, const double *of_class, const int64_t *target, const double *of_row,
                           double *room) noexcept nogil
cdef Py_ssize_t loss_room(Py_ssize_t rows, Py_ssize_t columns) noexcept nogil
# The first row whose class is none of 0 to classes - 1, or -1.
cdef Py_ssize_t first_bad_class(const char *target, Py_ssize_t n, Py_ssize_t classes) noexcept nogil
