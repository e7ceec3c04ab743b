# Matrix products of C-contiguous arrays, for other drivers.

cdef struct product:
    int dtype
    Py_ssize_t m, n, k      # out[m, n] = alpha op(a)[m, k] op(b)[k, n] + beta out
    Py_ssize_t rows, cols   # of a panel, chosen by `multiply`
    bint turned             # it turns its rows of a first; likewise
    bint thin               # it is for the kernel for few rows; likewise
    bint transpose_a, transpose_b
    bint symmetric          # out is, before and after: half of it is computed, half copied
    double alpha, beta
    char *a
    char *b
    char *out
    const char *bias        # NULL, or what each row of out begins with; beta is 1 then

# m, n, k > 0, each at most INT_MAX; out overlaps neither operand. BLAS must be held to one thread (blas.pyx says why).
cdef void multiply(product *p) noexcept nogil

# One BLAS call: out[rows, cols] = alpha op(a) op(b) + beta out, row-major, rows of each array of_... elements apart.
cdef void gemm(int dtype, bint transpose_a, bint transpose_b, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t k, double alpha,
               const char *a, Py_ssize_t of_a, const char *b, Py_ssize_t of_b, double beta, char *out,
               Py_ssize_t of_out) noexcept nogil
# Multiplications that are worth a thread of their own, in the elements that `num_threads` counts.
cdef Py_ssize_t elements_of_work(double pairs) noexcept nogil
