# The arrays of an optimizer, bound: what a step walks over, how threads part it, the norm of the gradients.
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.string cimport memcmp
from optcore._native.c cimport (
    OC_MAX_CARRIED, OC_MAX_STREAMS, OC_N_MIXES, oc_array, oc_coefficients, oc_dtype, oc_rule, oc_staged,
)
from optcore._native.layerwise cimport Layers
from optcore._native.shares cimport Shares

cdef enum:
    NATIVE = -1  # ways to keep arrays: in the arithmetic dtype; from 0 on an oc_mix; staged by Stepper.stages
    STAGED = OC_N_MIXES
    MANY = 256  # tensors that are looked at by all threads

ctypedef struct Tensor:     # what a step walks over: 64 bytes
    void *x[OC_MAX_STREAMS] # the streams of the rule; x[1], the gradient, is bound by each step, NULL skips
    Py_ssize_t n
    Py_ssize_t place        # of its first element, all tensors laid end to end
    unsigned char dtype     # oc_dtype of the arithmetic
    signed char way         # how its arrays are kept: in the arithmetic dtype, a mix that has kernels, or anything else
    unsigned char size[OC_MAX_STREAMS]  # of an element of each stream

ctypedef struct Book:       # what a step looks up once: 64 bytes too
    PyObject *array         # the parameter, which Tensors.params holds
    void *parameter         # its address
    void *gradient          # that is bound, which the overlap check has passed; NULL for none
    void *average           # what follows theta, NULL for none
    void *copy
    Py_ssize_t n            # of the parameter
    int typenum
    int gradient_type       # of the gradient that was bound last
    int way                 # what Tensor.way can be: parameter and states tell, then the gradient

ctypedef struct History:    # what a tensor's coefficients are made of; apart from Book, as it changes with every step and
    int group               # other threads read books: a line that one has written comes late to another
    oc_dtype dtype
    int64_t step            # steps taken
    double carried[OC_MAX_CARRIED]  # what the rule carries from step to step beside its arrays

ctypedef struct Piece:
    Py_ssize_t tensor       # where a block starts: tensor and element
    Py_ssize_t begin

cdef oc_array nothing

cdef inline bint same_history(const History *a, const History *b) noexcept nogil:
    return memcmp(a, b, sizeof(History)) == 0

cdef class Tensors:
    cdef list params, names, labels, groups
    cdef list spans                   # sorted (begin, end, name) of all memory that a step writes
    cdef Tensor *tensors
    cdef Book *books
    cdef History *histories           # of each tensor; while `joined`, what they share goes on in `shared` alone
    cdef History *shared              # what each of the coefficients is made of
    cdef bint joined
    cdef Py_ssize_t n_shared
    cdef int *use                     # which coefficients a tensor has; -1: no gradient
    cdef oc_staged *stages
    cdef Py_ssize_t n_tensors, capacity
    cdef oc_coefficients *coefficients
    cdef Py_ssize_t elements, length  # of all tensors; of the layout that threads part
    cdef bint followed                # something follows some theta
    cdef bint staged                  # some tensor is, whatever its gradient
    cdef bint planned                 # since the gradients were bound, which it forgets
    cdef str uint16_as
    cdef Piece *blocks
    cdef double *partial
    cdef Py_ssize_t n_blocks
    cdef Layers layers                # None for an element-wise rule

    cdef int _grow(self) except -1
    cdef void _join(self) noexcept nogil
    cdef void _part(self) noexcept nogil
    cdef const History *_history(self, Py_ssize_t index) noexcept
    cdef int _way(self, Py_ssize_t i) noexcept
    cdef void _follow(self, bint average, bint copy) noexcept nogil
    cdef void _set_gradient(self, Py_ssize_t i, oc_array gradient) noexcept
    cdef bint _is_bound(self, Py_ssize_t n, PyObject **given) noexcept nogil
    cdef bint _is_range_bound(self, Py_ssize_t begin, Py_ssize_t end, PyObject **given) noexcept nogil
    cdef int _bind_gradient(self, Py_ssize_t i, object g, str what) except -1
    cdef int _check_parameter(self, Py_ssize_t i) except -1
    cdef int _check_overlap(self, Py_ssize_t i, str what, size_t begin, size_t end) except -1
    cdef void _run(self, oc_rule rule) noexcept nogil
    cdef void _run_pieces(self, oc_rule rule, Shares *shares, int thread) noexcept nogil
    cdef Py_ssize_t _run_range(self, oc_rule rule, Py_ssize_t begin, Py_ssize_t end, Py_ssize_t guess) noexcept nogil
    cdef Py_ssize_t _first_after(self, Py_ssize_t place, Py_ssize_t guess) noexcept nogil
    cdef double _norm(self) noexcept nogil
    cdef double _sum_squares(self, double scale) noexcept nogil
    cdef void _square_pieces(self, double scale, Shares *shares, int thread) noexcept nogil
    cdef const void *_block(self, Py_ssize_t i, Py_ssize_t begin, Py_ssize_t n, char *room) noexcept nogil
    cdef void _square_block(self, Py_ssize_t b, double scale) noexcept nogil
    cdef double _abs_max(self) noexcept nogil
    cdef Py_ssize_t _first_nonfinite(self) noexcept nogil
