# The drivers of norms of rows, for others that have checked their arguments.

cdef struct row_norm:
    int dtype
    bint centred            # layer norm; else RMS norm
    Py_ssize_t columns      # of a row: values that share weight and bias
    Py_ssize_t groups       # of a row: values that are normalised together
    double eps

# `saved` holds three doubles for each row and group from forward to backward. weight and bias may be NULL: ones and zeros.
cdef Py_ssize_t row_norm_room(const row_norm *n, Py_ssize_t rows) noexcept nogil  # doubles of `room`
cdef void run_row_norm(const row_norm *n, Py_ssize_t rows, const char *x, const char *weight, const char *bias, char *y,
                       double *saved, double *room) noexcept nogil
# dweight and dbias may be NULL: not wanted.
cdef void run_row_norm_backward(const row_norm *n, Py_ssize_t rows, const char *dy, const char *x, const char *weight,
                                double *saved, char *dweight, char *dbias, char *dx, double *room) noexcept nogil
