# A job that Python builds, and what the checks of norm.pyx offer to weight.
cimport numpy as cnp
from optcore._native.c cimport oc_channel_fn
from optcore._native.channels cimport Job

cdef cnp.ndarray per_channel(object a, str name, Py_ssize_t channels, int intent=*)

cdef class Call:
    cdef Job job
    cdef cnp.ndarray x
    cdef cnp.ndarray arena
    cdef cnp.ndarray more
    cdef cnp.ndarray mean       # where the job's are an array's
    cdef cnp.ndarray rest
    cdef cnp.ndarray inv_std

    cdef int correct(self) except -1
    cdef int keep_statistics(self) except -1
    cdef void measure(self, cnp.ndarray u, cnp.ndarray v, double *mean) noexcept
    cdef void gate(self, cnp.ndarray y, cnp.ndarray kept) noexcept
    cdef int measure_only(self) except -1
    cdef int write(self, tuple ins, cnp.ndarray out, oc_channel_fn *apply) except -1
    cdef cnp.ndarray vector(self, const double *values, cnp.ndarray like)
    cdef cnp.ndarray doubles(self, const double *values)
    cdef void load(self, double *to, cnp.ndarray a, double otherwise) noexcept
    cdef double *in_double(self, cnp.ndarray a, double *room) noexcept
    cdef bint statistics(self, object saved, object running_mean, object running_var, object eps) except -1
