# The steps of a job over channels, for norm, weight and the compiled forms.
from optcore._native.c cimport oc_channel_fn
from optcore._native.channels cimport Job, Plan

cdef void put(Job *job, Py_ssize_t row, Py_ssize_t c, double value) noexcept nogil
cdef void combine(Job *job, Py_ssize_t c, double b, double constant, double a, double m) noexcept nogil

# A job without Python, step by step: begin, fill the vectors that its constants take, measure (gate), set `finish`, write.
cdef struct vector:     # one value a channel, in either dtype; NULL for none
    void *data
    int dtype

cdef void load(double *to, vector a, double otherwise, Py_ssize_t n) noexcept nogil
cdef void store(vector a, const double *values, Py_ssize_t n) noexcept nogil
# Doubles of memory that a job takes: never fewer for more rows.
cdef Py_ssize_t room_of(const Plan *p, int measures, int rows) noexcept nogil
# `rows` of constants, which lie to the cache lines as x does. The vectors hold anything until they are filled, or cleared.
cdef void begin(Job *job, Plan p, int rows, const void *x, double *room) noexcept nogil
cdef void clear(Job *job) noexcept nogil
# Add a measure: the moments of v, or with u the sums of u and u*(v - mean).
cdef void measure(Job *job, const void *u, const void *v, const double *mean) noexcept nogil
# The last measure's u passes a ReLU first: the one whose output is y, what passes being written to `kept`, unless that is
# NULL; or that of a forward pass without residual, its output being made again from x, in a job of 8 rows: False where the
# dtype does not hold what that takes, and nothing is done.
cdef void gate(Job *job, const void *y, void *kept) noexcept nogil
cdef bint remake(Job *job) noexcept nogil
cdef void evaluate_with(Job *job, vector mean, vector var) noexcept nogil   # the running statistics
cdef void finish_forward(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil
cdef void finish_backward(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil
cdef void finish_renorm(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil
cdef void finish_backward_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil
cdef void finish_jvp(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil
cdef void finish_jvp_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil
cdef void finish_backward_jvp(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil
cdef void finish_backward_jvp_evaluation(Job *job, Py_ssize_t first, Py_ssize_t end) noexcept nogil
# Run it: element-wise results from the first n_in of `ins` to `out`.
cdef void write(Job *job, int n_in, void *out, oc_channel_fn *apply) noexcept nogil
# Move the running statistics by a batch's, whose weight is `new`.
cdef void follow(const Job *job, vector mean, vector var, double new, bint unbiased) noexcept nogil
