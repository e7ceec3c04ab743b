# The sums of the columns of x[n][columns], for other drivers; `room` has as many doubles as the function below says.
cdef void sum_columns(int dtype, Py_ssize_t n, Py_ssize_t columns, const char *x, char *sums,
                      double *room) noexcept nogil
cdef Py_ssize_t sum_columns_room(Py_ssize_t n, Py_ssize_t columns) noexcept nogil
