# The drivers of norms over groups of channels, for others that have checked their arguments.

cdef struct group_norm:
    int dtype
    Py_ssize_t channels, positions, groups  # x is [rows, channels, positions]
    double eps

# `saved` holds three doubles for each row and group from forward to backward. weight and bias may be NULL: ones and zeros.
cdef Py_ssize_t group_norm_room(const group_norm *n, Py_ssize_t rows) noexcept nogil  # doubles of `room`
cdef void run_group_norm(const group_norm *n, Py_ssize_t rows, const char *x, const char *weight, const char *bias, char *y,
                         double *saved, double *room) noexcept nogil
# dweight and dbias may be NULL: not wanted.
cdef void run_group_norm_backward(const group_norm *n, Py_ssize_t rows, const char *dy, const char *x, const char *weight,
                                  double *saved, char *dweight, char *dbias, char *dx, double *room) noexcept nogil
