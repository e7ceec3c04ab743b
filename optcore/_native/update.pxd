# The step of an optimizer in parts, for a network that takes it without Python between gradient and update.
from libc.stdint cimport int64_t, uint64_t

from optcore._native.c cimport oc_options, oc_rule
from optcore._native.tensors cimport Tensors

cdef class Stepper(Tensors):
    cdef public list param_groups
    cdef public object clip_norm, clip_value
    cdef public object last_grad_norm
    cdef public int64_t skipped_steps
    cdef public int64_t _steps
    cdef str _nonfinite
    cdef oc_rule rule
    cdef tuple keys
    cdef public bint _single
    cdef int busy
    cdef public uint64_t _seed
    cdef const oc_options **options     # of each group
    # Of the step under way: clip_norm or 0, whether it refuses gradients that are not finite, their norm, the first such.
    cdef double limit, norm
    cdef bint strict
    cdef Py_ssize_t bad

    cdef int _enter(self) except -1
    cdef void _leave(self) noexcept
    cdef object _begin(self, grads, str argument, str what, bint is_step)
    cdef object _bind_gradients(self, grads, str argument, str what)
    cdef bint _is_borrowed(self, grads)
    cdef bint _is_settled(self)
    cdef tuple _by_label(self, grads, str argument)
    cdef int _open(self) except -1
    cdef bint _advance(self) noexcept nogil
    cdef int _close(self) except -1
    cdef bint _is_finite(self) noexcept nogil
    cdef int _refuse(self, str what) except -1
    cdef double _positive(self, str name, object value) except? -1
    cdef int _refresh(self, double clip_value) except -1
    cdef int _check_bound(self) except -1
    cdef void _prepare(self, oc_rule rule, double scale, int steps, double largest) noexcept nogil
    cdef void _renew_keys(self) noexcept nogil
    cdef void _run_layers(self) noexcept nogil
