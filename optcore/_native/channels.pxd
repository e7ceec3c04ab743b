# Normalization as one job over a fixed partition; norm.pyx says what is measured and what is written.
from optcore._native.c cimport oc_channel_fn, oc_kernels
from optcore._native.shares cimport Shares

cdef enum:
    MEASURES = 3
    CHUNKS = 64   # at most so many tasks share a channel's blocks
    SLOTS = 3     # values of a measure: (mean, rest, m2), or two sums

cdef struct Plan:
    int form, dtype
    Py_ssize_t item, number           # bytes of an element and of a constant, which bfloat16 keeps apart
    Py_ssize_t channels, count        # count: values of a channel
    Py_ssize_t outer, inner, stride   # of a panel
    Py_ssize_t width, panel, panels   # columns, columns of a panel, about: its first one lies on a line of the result,
    Py_ssize_t grain, skew            # of so many columns, a power of 2; so many of them lie before column 0
    Py_ssize_t fold, tail
    Py_ssize_t run, piece, pieces     # a block is `run` runs, or one of the `pieces` of a long run
    Py_ssize_t blocks, per_chunk, chunks

cdef struct Measure:
    const char *u       # NULL: the moments of v; else the sums of u and u*(v - mean)
    const char *v
    bint gated          # u passes a ReLU first, whose output is
    char *gate          # this array, or where it is NULL, made again from v with rows 0, 6 and 7 of the constants
    char *kept          # NULL, or where what passes of u is written
    const double *mean  # [width]
    double *partial     # [chunks or 1][panels][SLOTS][columns of the panel]
    double *result      # [SLOTS][channels]

cdef struct Job:
    Plan p
    const oc_kernels *k
    int threads, n_measures, n_in
    Shares *shares      # of the pass under way
    Measure measures[MEASURES]
    void (*finish)(Job *, Py_ssize_t, Py_ssize_t) noexcept nogil    # the constants of these channels; NULL: none
    oc_channel_fn *apply                               # NULL: measure only
    const char *ins[4]
    char *out
    int rows            # of constants
    double *constants   # [rows][channels], which finish writes; OC_MAX_INPUTS rows of powers behind, as factors.pxd says
    char *coef          # [rows][ld], likewise, which the element-wise kernels read
    Py_ssize_t ld       # at least width, in whole cache lines
    int how             # they write: OC_PAST_CACHES where the arrays together are larger than the caches
    double *free        # what is left of its memory
    # What finish reads and writes, [channels] each. A tangent begins with r.
    double eps
    double *mean
    double *rest
    double *inv_std
    double *m2
    double *var
    double *weight
    double *bias
    double *rmean
    double *rinv_std
    double *rweight
    double *rbias
    double *dweight
    double *dbias
    double r_max, d_max  # of a batch renormalization, as what follows
    double *r
    double *d
    double *run_mean
    double *run_var

cdef Plan plan(Py_ssize_t outer, Py_ssize_t channels, Py_ssize_t inner, int dtype) noexcept nogil
cdef bint all_safe(const Job *job, Py_ssize_t first, Py_ssize_t count) noexcept nogil
cdef Py_ssize_t wrapped(const Plan *p) noexcept nogil   # bytes of a row of constants for a line of x, as for OC_WRAPPED
cdef void publish(const Job *job, int row, int end, Py_ssize_t first, Py_ssize_t count) noexcept nogil
cdef void run(Job *job) noexcept nogil
